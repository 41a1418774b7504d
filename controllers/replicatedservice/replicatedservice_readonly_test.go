package replicatedservice

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
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

// remountedOnce is that its pod was made anew for that a moment ago.
func remountedOnce(s *scope) {
	s.memory.remounted = map[string]podSeen{"cache-2": {at: noon.Add(-2 * freshAfter), pod: "earlier"}}
	s.memory.gone = map[string]time.Time{"cache-2": noon.Add(-freshAfter)}
}

// change alters what a member says, and leaves the rest as it is.
func change(s *scope, member string, f func(*wire.Status)) { f(s.reports[member].Status) }

func longReadOnly(s *scope) {
	s.memory.readOnly = map[string]time.Time{"cache-2": noon.Add(-readOnlyFor)}
}

// andPrimary lets the primary's volume refuse writes too.
func andPrimary(s *scope) {
	change(s, "cache-0", func(st *wire.Status) { st.ReadOnly = []string{"data"} })
	s.memory.readOnly["cache-0"] = noon.Add(-readOnlyFor)
}

// onlyPrimary lets the volume of cache-2 be as it was.
func onlyPrimary(s *scope) {
	andPrimary(s)
	change(s, "cache-2", func(st *wire.Status) { st.ReadOnly, st.Stuck, st.State, st.Eligible = nil, nil, "Following", true })
	s.stranded = nil
}

// A member whose volume refuses writes gets a new pod first, then a fresh volume, once; and where neither may be, a person is told.
func TestReadOnly(t *testing.T) {
	manual := func(s *scope) { s.register.Terms.Mode = failover.ModeManual }
	keeps := func(s *scope) {
		v := localVolume("older", "node-3")
		v.Labels, v.Annotations = map[string]string{keys.LabelMember: "cache-2"}, map[string]string{keys.AnnotationReadOnly: volumeHolds}
		s.kept = []corev1.PersistentVolume{*v}
	}
	for name, c := range map[string]struct {
		s     *scope
		does  string // heal, fresh or nothing
		waits bool
		tells string
	}{
		"at first":                   {readOnlyScene(longReadOnly), "heal", true, ""},
		"since a moment ago":         {readOnlyScene(), "", false, ""},
		"in a new pod too":           {readOnlyScene(longReadOnly, remountedOnce), "fresh", true, ""},
		"of a new pod nothing known": {readOnlyScene(longReadOnly, remountedOnce, func(s *scope) { s.memory.gone = nil }), "", true, ""},
		"its pod was just deleted": {readOnlyScene(longReadOnly, remountedOnce, func(s *scope) {
			s.memory.remounted["cache-2"] = podSeen{at: noon, pod: s.pods["cache-2"].UID}
		}), "", true, ""},
		"its old pod is ending": {readOnlyScene(longReadOnly, remountedOnce, func(s *scope) {
			now := metav1.NewTime(noon)
			s.pods["cache-2"].DeletionTimestamp = &now
		}), "", false, "Repair or replace the disk"},
		"its pods were made anew for another reason": {readOnlyScene(longReadOnly, func(s *scope) {
			s.memory.healed = map[string][]time.Time{"cache-2": {noon.Add(-time.Minute), noon.Add(-time.Minute), noon.Add(-time.Minute)}}
		}), "heal", true, ""},
		"a second volume": {readOnlyScene(longReadOnly, remountedOnce, keeps), "", false, "(PersistentVolume older)"},
		"a second volume lately": {readOnlyScene(longReadOnly, remountedOnce, func(s *scope) {
			s.memory.begunAnew = map[string]podSeen{"cache-2": {at: noon.Add(-time.Minute), pod: "earlier"}}
		}), "", false, "kubectl delete pvc data-cache-2"},
		"this volume was kept, and not replaced": {readOnlyScene(longReadOnly, remountedOnce, keeps, func(s *scope) { s.kept[0].Name = "old" }), "fresh", true, ""},
		"an hour later":                          {readOnlyScene(longReadOnly, remountedOnce, func(s *scope) { s.now = noon.Add(healWindow) }), "heal", true, ""},
		"people decide":                          {readOnlyScene(longReadOnly, remountedOnce, manual), "", false, "kubectl delete pvc data-cache-2"},
		"paused": {readOnlyScene(longReadOnly, remountedOnce, func(s *scope) { s.svc.Spec.State = v1alpha1.StatePaused }), "", false,
			"Repair or replace the disk"},
		"another is missing too": {readOnlyScene(longReadOnly, remountedOnce, func(s *scope) { silence(s, "cache-1") }), "", false, "Repair or replace the disk"},
		"its agent is not heard": {readOnlyScene(longReadOnly, remountedOnce, func(s *scope) { silence(s, "cache-2") }), "", false, ""},
		"another pod's agent says it": {readOnlyScene(longReadOnly, remountedOnce, func(s *scope) {
			s.pods["cache-2"].UID, s.reports["cache-2"].Status.Stuck = "another", nil
		}), "", false, ""},
		"the primary's too":             {readOnlyScene(longReadOnly, andPrimary), "", false, "cache-0"},
		"the primary's too, in new pod": {readOnlyScene(longReadOnly, remountedOnce, andPrimary), "", false, "kubectl delete pvc data-cache-2"},
		"the primary's alone":           {readOnlyScene(longReadOnly, onlyPrimary), "", false, "hands over as soon as another member may take over"},
		"the primary's, people decide":  {readOnlyScene(longReadOnly, onlyPrimary, manual), "", false, "with a Failover of type Switchover"},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.s
			s.problems = append(s.problems, stuckProblems(s)...)
			s.problems = append(s.problems, awayProblems(s)...)
			noteReadOnly(s)
			does := ""
			if member, problem := nextHeal(s); member == "cache-2" {
				does = "heal"
			} else if problem != nil {
				t.Errorf("healing stops: %v", problem)
			}
			if nextFresh(s) == "cache-2" {
				does += "fresh"
			}
			if does != c.does {
				t.Errorf("does %q, want %q", does, c.does)
			}
			if err := (&Reconciler{}).tellReadOnly(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			told := ""
			for _, p := range s.problems {
				told += p.Reason + ": " + p.Message + "\n"
			}
			if (told != "") != (c.tells != "") || !strings.Contains(told, c.tells) || strings.Contains(told, v1alpha1.ReasonEngineNotStarted) {
				t.Errorf("tells %s, want %q", told, c.tells)
			}
			if waits := slices.ContainsFunc(s.waiting, func(w string) bool { return strings.Contains(w, "cache-2") }); waits != c.waits {
				t.Errorf("waits for %v", s.waiting)
			}
		})
	}
}

// A primary's bad volume keeps nobody else from being healed whose volume is whole, so that somebody may take over from it.
func TestReadOnlyPrimaryAndAnotherThatEnds(t *testing.T) {
	s := crashing("cache-2", longReadOnly, andPrimary)
	noteReadOnly(s)
	if member, _ := nextHeal(s); member != "cache-2" {
		t.Errorf("%q is healed", member)
	}
	if err := (&Reconciler{}).tellReadOnly(t.Context(), s); err != nil || len(s.problems) != 1 {
		t.Errorf("told %v (%v)", s.problems, err)
	}
}

// The volume that refuses writes is kept like one of a node that is gone; and for longer where it may hold what nobody else has.
func TestReplaceReadOnlyVolume(t *testing.T) {
	kept := &wire.Lost{Epoch: 2, Bytes: 10, Dir: "lost/2"}
	for name, c := range map[string]struct {
		mode     v1alpha1.ReplicationMode
		quorum   int
		tooFew   failover.TooFewReplicas
		lost     *wire.Lost
		released bool
	}{
		"asynchronous":                      {v1alpha1.Asynchronous, 0, "", nil, false},
		"synchronous":                       {v1alpha1.Synchronous, 1, failover.StopWriting, nil, true},
		"synchronous, while there are some": {v1alpha1.Synchronous, 1, failover.ContinueWriting, nil, false},
		"synchronous, not in force":         {v1alpha1.Synchronous, 0, failover.StopWriting, nil, false},
		"synchronous, with data kept aside": {v1alpha1.Synchronous, 1, failover.StopWriting, kept, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := readOnlyScene(remountedOnce, func(s *scope) {
				s.svc.Spec.Replication = &v1alpha1.ReplicationSpec{Mode: c.mode}
				s.svc.Spec.Storage.Retention = v1alpha1.DeleteVolumes
				s.register.Terms.Quorum, s.register.Terms.OnTooFew = c.quorum, c.tooFew
				s.register.Terms.Sets = []failover.SyncSet{{Epoch: s.register.Epoch, Primary: "cache-0", Quorum: c.quorum}}
				change(s, "cache-2", func(st *wire.Status) { st.Lost = c.lost })
			})
			r, api := freshStage(t, s)
			if err := r.replaceVolumes(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if _, there := get(t, api, "data-cache-2", &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}}); there {
				t.Error("the claim is still there")
			}
			volume := oldVolume(t, s, api)
			if volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain || s.memory.begunAnew["cache-2"].pod == "" {
				t.Errorf("the volume is not kept: %+v", volume)
			}
			volume.Status.Phase = corev1.VolumeReleased
			if err := api.Status().Update(t.Context(), volume); err != nil {
				t.Fatal(err)
			}
			oldVolume(t, s, api)
			change(s, "cache-2", func(st *wire.Status) {
				st.State, st.Eligible, st.LagBytes, st.ReadOnly, st.Stuck = "Following", true, 0, nil, nil
			})
			if err := r.releaseKept(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if _, labelled := oldVolume(t, s, api).Labels[keys.LabelMember]; labelled == c.released {
				t.Errorf("released: %t, want %t", !labelled, c.released)
			}
		})
	}
}

// What the API server says now counts.
func TestReplaceReadOnlyVolumeReadsLive(t *testing.T) {
	s := readOnlyScene(remountedOnce)
	r, c := freshStage(t, s)
	pod, _ := get(t, c, "cache-2", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}})
	pod.Finalizers = []string{"example.com/holds"}
	if err := errors.Join(c.Update(t.Context(), pod), c.Delete(t.Context(), pod)); err != nil {
		t.Fatal(err)
	}
	if err := r.replaceVolumes(t.Context(), s); err != nil || !s.retry {
		t.Errorf("%v, looked at again: %t", err, s.retry)
	}
	if _, there := get(t, c, "data-cache-2", &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}}); !there {
		t.Error("the claim was deleted while its pod ends")
	}
}
