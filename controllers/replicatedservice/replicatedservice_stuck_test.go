package replicatedservice

import (
	"strings"
	"testing"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/wire"
)

// An event with a longer note is refused by the API server.
func TestNotesOfEventsFit(t *testing.T) {
	for _, n := range []int{1, 1023, 1024, 1025, 5000} {
		note := strings.Repeat("ü", n/2) + strings.Repeat("x", n%2)
		got := noted(note)
		if len(got) > 1024 || !utf8.ValidString(got) || (n <= 1024) != (got == note) {
			t.Errorf("%d bytes became %d", n, len(got))
		}
	}
}

// halted is a service whose member cache-1 does not go on; change comes after.
func halted(reason, message string, change ...func(*scope)) *scope {
	s := playing(3, func(s *scope) {
		say(s, "cache-1", func(st *wire.Status) {
			st.Epoch, st.State, st.Message, st.Stuck = 3, "CatchingUp", message, &wire.Stuck{Reason: reason, Message: message}
		})
	})
	for _, f := range change {
		f(s)
	}
	s.problems = append(s.problems, stuckProblems(s)...)
	return s
}

// What a person sees of a member that does not go on: what was tried, why it failed, and what to do.
func TestMembersThatNeedAPerson(t *testing.T) {
	const why = "rejoining the primary at 10.0.0.1:5432 was given up after 1 rewind and 4 base backups, the last time: pg_basebackup: it broke"
	volumes := func(s *scope) {
		s.effective.Spec.Storage = &v1alpha1.StorageSpec{WAL: &v1alpha1.WALStorageSpec{}}
	}
	nobody := func(s *scope) { say(s, "cache-0", func(*wire.Status) {}) }
	for name, c := range map[string]struct {
		s      *scope
		reason string
		words  []string
		not    string
	}{
		"it gave up rejoining": {halted("RejoinFailed", why, volumes), v1alpha1.ReasonRejoinFailed, []string{
			"cache-1 cannot rejoin: " + why, "delete its pod, whose successor tries as often again: `kubectl delete pod cache-1 -n default`",
			"`kubectl delete pvc data-cache-1 wal-cache-1 -n default --wait=false && kubectl delete pod cache-1 -n default`"}, ""},
		"and has no volume": {halted("RejoinFailed", why), v1alpha1.ReasonRejoinFailed, []string{"`kubectl delete pod cache-1 -n default`, which has no volume"}, "pvc"},
		"and nobody serves": {halted("RejoinFailed", why, volumes, nobody), v1alpha1.ReasonRejoinFailed, []string{"no primary serves"}, "pvc"},
		"its data cannot be made": {halted("BootstrapFailed", "initdb failed: no such locale"), v1alpha1.ReasonBootstrapFailed,
			[]string{"cache-1: initdb failed: no such locale; put that right"}, ""},
		"its configuration is refused": {halted("ConfigurationRefused", "unrecognized parameter: correct spec.engine.postgresql.parameters"),
			v1alpha1.ReasonConfigurationRefused, []string{"cache-1 does not start: unrecognized parameter: correct spec"}, ""},
		"its engine is refused":       {halted("EngineNotStarted", "its port is in use"), v1alpha1.ReasonEngineNotStarted, []string{"cache-1: its engine cannot be started: its port"}, ""},
		"a reason of a later version": {halted("SomethingNew", "it is new"), v1alpha1.ReasonEngineNotStarted, []string{"it is new"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status := computeStatus(c.s)
			have := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled)
			if have.Status != metav1.ConditionTrue || have.Reason != c.reason {
				t.Errorf("Stalled is %s (%s)", have.Status, have.Reason)
			}
			for _, w := range c.words {
				if !strings.Contains(have.Message, w) {
					t.Errorf("%q does not say %q", have.Message, w)
				}
			}
			if c.not != "" && strings.Contains(have.Message, c.not) {
				t.Errorf("%q says %q", have.Message, c.not)
			}
			if m := status.Members[1]; m.Message != c.s.reports["cache-1"].Status.Message {
				t.Errorf("the member's message is %q", m.Message)
			}
			if r := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionRedundant); r.Status != metav1.ConditionFalse || !strings.Contains(r.Message, "cache-1") {
				t.Errorf("Redundant is %s: %s", r.Status, r.Message)
			}
			if !c.s.mayBuild() {
				t.Error("one member in trouble keeps the operator from building")
			}
		})
	}
}
