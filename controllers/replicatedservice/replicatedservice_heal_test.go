package replicatedservice

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
)

// crashing is a service of which a member's container ended again and again, so that the kubelet holds it back.
func crashing(member string, change ...func(*scope)) *scope {
	s := playing(3, func(s *scope) {
		silence(s, member)
		pod := s.pods[member]
		pod.Status.Conditions = nil
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: names.EngineContainer, RestartCount: 2, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}},
		}}
	})
	for _, f := range change {
		f(s)
	}
	return s
}

func TestNextHeal(t *testing.T) {
	for name, c := range map[string]struct {
		s    *scope
		want string
	}{
		"a replica":                    {crashing("cache-2"), "cache-2"},
		"all are well":                 {playing(3), ""},
		"the holder":                   {crashing("cache-0"), ""},
		"another is missing too":       {crashing("cache-2", func(s *scope) { silence(s, "cache-1") }), ""},
		"the service is paused":        {crashing("cache-2", func(s *scope) { s.svc.Spec.State = v1alpha1.StatePaused }), ""},
		"something is to be put right": {crashing("cache-2", func(s *scope) { s.problems = []Problem{{Reason: "Any"}} }), ""},
		"a switchover is under way": {crashing("cache-2", func(s *scope) {
			s.failovers = []v1alpha1.Failover{{ObjectMeta: metav1.ObjectMeta{Name: "f"}, Spec: v1alpha1.FailoverSpec{Type: v1alpha1.TypeSwitchover}}}
		}), ""},
		"its pod is being deleted":      {crashing("cache-2", func(s *scope) { now := metav1.NewTime(noon); s.pods["cache-2"].DeletionTimestamp = &now }), ""},
		"the mode is DryRun":            {crashing("cache-2", func(s *scope) { s.register.Terms.Mode = failover.ModeDryRun }), ""},
		"it ends, and is not held back": {crashing("cache-2", func(s *scope) { s.pods["cache-2"].Status.ContainerStatuses[0].State = corev1.ContainerState{} }), ""},
		"two of them":                   {crashing("cache-2", func(s *scope) { s.pods["cache-1"] = s.pods["cache-2"].DeepCopy(); silence(s, "cache-1") }), ""},
		"it is to go":                   {crashing("cache-2", func(s *scope) { two := int32(2); s.svc.Spec.Replicas = &two }), ""},
		"members are being changed":     {crashing("cache-2", func(s *scope) { s.register.Terms.Next = s.register.Terms.Members }), ""},
		"its data goes with its pod": {crashing("cache-2", func(s *scope) {
			s.effective = s.svc.DeepCopy()
			s.effective.Spec.Engine = v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{}}
		}), ""},
		"nobody serves":                 {crashing("cache-2", func(s *scope) { silence(s, "cache-0") }), ""},
		"its own vote is not its pod's": {crashing("cache-2", func(s *scope) { s.register.Terms.Members[2].Pod = "another" }), "cache-2"},
		"another vote is not its pod's": {crashing("cache-2", func(s *scope) { s.register.Terms.Members[1].Pod = "another" }), ""},
		"the members were not asked yet": {crashing("cache-2", func(s *scope) {
			r := s.reports["cache-1"]
			r.Tried, r.Connected, r.Status = false, false, nil
			s.reports["cache-1"] = r
		}), ""},
	} {
		if got, problem := nextHeal(c.s); got != c.want || problem != nil {
			t.Errorf("%s: makes %q anew, problem %v; want %q and none", name, got, problem, c.want)
		}
	}
}

// After some new pods that did not help a person is told, with what to look at; when the hour is over it is tried again.
func TestHealEnds(t *testing.T) {
	s := crashing("cache-2")
	s.memory.healed = map[string][]time.Time{"cache-2": {noon.Add(-50 * time.Minute), noon.Add(-40 * time.Minute), noon.Add(-time.Minute)}}
	got, problem := nextHeal(s)
	if got != "" || problem == nil || problem.Reason != v1alpha1.ReasonMemberKeepsEnding {
		t.Fatalf("makes %q anew, problem %v", got, problem)
	}
	for _, want := range []string{"cache-2", "exit code 137 (OOMKilled)", "kubectl logs cache-2 -n default -c engine --previous"} {
		if !strings.Contains(problem.Message, want) {
			t.Errorf("%q does not say %q", problem.Message, want)
		}
	}
	s.pods["cache-2"].Status.ContainerStatuses[0].State = corev1.ContainerState{} // it runs for a moment
	if _, problem := nextHeal(s); problem == nil {
		t.Error("what a person has to look into is forgotten whenever the container runs for a moment")
	}
	s.pods["cache-2"].Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
	if s.next.Sub(noon) != 10*time.Minute {
		t.Errorf("looks again in %s", s.next.Sub(noon))
	}
	s.now = noon.Add(11 * time.Minute)
	if got, problem := nextHeal(s); got != "cache-2" || problem != nil {
		t.Errorf("after that it makes %q anew, problem %v", got, problem)
	}
}

// In DryRun nothing is made anew, and what would be is told.
func TestHealInDryRun(t *testing.T) {
	dry := func(s *scope) { s.register.Terms.Mode = failover.ModeDryRun }
	s := crashing("cache-2", dry)
	if err := (&Reconciler{}).heal(t.Context(), s); err != nil || len(s.waiting) != 1 || !strings.Contains(s.waiting[0], "cache-2 would be made anew: its container ended 3 times") {
		t.Errorf("waiting for %q (%v)", s.waiting, err)
	}
	for name, s := range map[string]*scope{"all are well": playing(3, dry), "two of them": crashing("cache-2", dry, func(s *scope) { silence(s, "cache-1") }), "another mode": playing(3)} {
		if would := dryHeal(s); would != "" {
			t.Errorf("%s: %s would be made anew", name, would)
		}
	}
}
