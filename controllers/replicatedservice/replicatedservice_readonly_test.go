package replicatedservice

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// readOnlyScene is a service of which the volume of cache-2 refuses writes.
func readOnlyScene(change ...func(*scope)) *scope {
	s := playing(3, func(s *scope) {
		s.svc.Spec.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi")}
		s.effective = s.svc.DeepCopy()
		say(s, "cache-2", func(st *wire.Status) {
			st.State, st.Eligible, st.ReadOnly = "CatchingUp", false, []string{"data"}
			st.Stuck = &wire.Stuck{Reason: string(engine.NotStarted), Message: "read-only file system"}
		})
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data-cache-2"}}
		s.stranded = map[string][]strandedVolume{"cache-2": {{claim: claim, volume: localVolume("old", "node-3"), refuses: true}}}
	})
	for _, f := range change {
		f(s)
	}
	return s
}

// healedOnce is that its pod was made anew for that a moment ago.
func healedOnce(s *scope) {
	s.memory.healed = map[string][]time.Time{"cache-2": {noon.Add(-2 * freshAfter)}}
	s.memory.gone = map[string]time.Time{"cache-2": noon.Add(-freshAfter)}
}

func longReadOnly(s *scope) {
	s.memory.readOnly = map[string]time.Time{"cache-2": noon.Add(-readOnlyFor)}
}

// A member whose volume refuses writes gets a new pod first, then a fresh volume, once; and where neither may be, a person is told.
func TestReadOnly(t *testing.T) {
	manual := func(s *scope) { s.register.Terms.Mode = failover.ModeManual }
	for name, c := range map[string]struct {
		s     *scope
		does  string // heal, fresh or nothing
		tells string
	}{
		"at first":                   {readOnlyScene(longReadOnly), "heal", ""},
		"in a new pod too":           {readOnlyScene(longReadOnly, healedOnce), "fresh", ""},
		"of a new pod nothing known": {readOnlyScene(longReadOnly, healedOnce, func(s *scope) { s.memory.gone = nil }), "", ""},
		"a second volume": {readOnlyScene(longReadOnly, healedOnce, func(s *scope) {
			s.memory.begunAnew = map[string]time.Time{"cache-2": noon.Add(-time.Minute)}
		}), "", "kubectl delete pvc data-cache-2"},
		"a second volume much later": {readOnlyScene(longReadOnly, healedOnce, func(s *scope) {
			s.memory.begunAnew = map[string]time.Time{"cache-2": noon.Add(-healWindow)}
		}), "fresh", ""},
		"people decide":           {readOnlyScene(longReadOnly, healedOnce, manual), "", "kubectl delete pvc data-cache-2"},
		"another is missing too":  {readOnlyScene(longReadOnly, healedOnce, func(s *scope) { silence(s, "cache-1") }), "", "Repair or replace the disk"},
		"another, since just now": {readOnlyScene(healedOnce, func(s *scope) { silence(s, "cache-1") }), "", ""},
		"its agent is not heard":  {readOnlyScene(longReadOnly, healedOnce, func(s *scope) { silence(s, "cache-2") }), "", ""},
		"the primary": {readOnlyScene(longReadOnly, healedOnce, func(s *scope) {
			say(s, "cache-2", func(st *wire.Status) { st.ReadOnly, st.Stuck, st.State, st.Eligible = nil, nil, "Following", true })
			say(s, "cache-0", func(st *wire.Status) { st.ReadOnly = []string{"data"} })
			s.memory.readOnly["cache-0"] = noon.Add(-readOnlyFor)
		}), "", "hands over as soon as another member may take over"},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.s
			if told := stuckProblems(s); len(told) > 0 {
				t.Errorf("its engine is told of too: %v", told)
			}
			does := ""
			if member, _ := nextHeal(s); member == "cache-2" {
				does = "heal"
			}
			if nextFresh(s) == "cache-2" {
				does += "fresh"
			}
			if does != c.does {
				t.Errorf("does %q, want %q", does, c.does)
			}
			told := readOnlyProblems(s)
			if (len(told) > 0) != (c.tells != "") || (len(told) > 0 && !strings.Contains(told[0].Message, c.tells)) {
				t.Errorf("tells %v, want %q", told, c.tells)
			}
			if waits := slices.ContainsFunc(s.waiting, func(w string) bool { return strings.Contains(w, "cache-2") }); waits != (c.does != "" || name == "of a new pod nothing known") {
				t.Errorf("waits for %v", s.waiting)
			}
		})
	}
}

// The volume that refuses writes is kept like one of a node that is gone.
func TestReplaceReadOnlyVolume(t *testing.T) {
	s := readOnlyScene(healedOnce)
	r, c := freshStage(t, s)
	if err := r.replaceVolumes(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if _, there := get(t, c, "data-cache-2", &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}}); there {
		t.Error("the claim is still there")
	}
	if volume := oldVolume(t, s, c); volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
		t.Errorf("the volume is not kept: %+v", volume)
	}
	if s.memory.begunAnew["cache-2"] != noon {
		t.Error("that it began anew is forgotten")
	}
}
