package replicatedservice

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
)

// homeless is a healthy service whose primary cache-0 serves in zone-1 and is wanted in zone-2, where cache-1 is, and cache-2 too. All have been
// well for an hour.
func homeless(change ...func(*scope)) *scope {
	return leaving(append([]func(*scope){func(s *scope) {
		s.nodes["node-0"].Spec.Unschedulable = false
		for node, zone := range map[string]string{"node-0": "zone-1", "node-1": "zone-2", "node-2": "zone-2"} {
			s.nodes[node].Labels = map[string]string{corev1.LabelTopologyZone: zone}
		}
		s.effective.Spec.Placement = &v1alpha1.PlacementSpec{PreferredZone: "zone-2", FailBackAfterSeconds: ptr.To[int32](60)}
		s.memory.home, s.memory.homeSince = "cache-1", noon.Add(-time.Hour)
	}}, change...)...)
}

// cameHome is a switchover to the preferred zone that was made some time ago.
func cameHome(name string, ago time.Duration, outcome string) func(*scope) {
	return func(s *scope) {
		asked(name, ago, outcome)(s)
		s.failovers[len(s.failovers)-1].Labels = map[string]string{keys.LabelReason: reasonPreferredZone}
	}
}

func wellFor(d time.Duration) func(*scope) {
	return func(s *scope) { s.memory.homeSince = noon.Add(-d) }
}

func TestNextFailBack(t *testing.T) {
	for name, c := range map[string]struct {
		s    *scope
		want string
	}{
		"well for long":            {homeless(), "cache-1"},
		"well for long enough":     {homeless(wellFor(time.Minute)), "cache-1"},
		"not for long enough":      {homeless(wellFor(59 * time.Second)), ""},
		"another one was meant":    {homeless(func(s *scope) { s.memory.home = "cache-2" }), ""},
		"the first one is unfit":   {homeless(unfit("cache-1"), func(s *scope) { s.memory.home = "cache-2" }), "cache-2"},
		"its node is cordoned":     {homeless(cordon("node-1", "node-2")), ""},
		"nobody asked for it":      {homeless(func(s *scope) { s.effective.Spec.Placement.FailBackAfterSeconds = nil }), ""},
		"no zone is preferred":     {homeless(func(s *scope) { s.effective.Spec.Placement.PreferredZone = "" }), ""},
		"the primary is there":     {homeless(func(s *scope) { s.effective.Spec.Placement.PreferredZone = "zone-1" }), ""},
		"nobody is there":          {homeless(func(s *scope) { s.effective.Spec.Placement.PreferredZone = "zone-3" }), ""},
		"not redundant":            {homeless(func(s *scope) { s.reports["cache-2"].Status.State = "CatchingUp" }), ""},
		"a member is not heard":    {homeless(func(s *scope) { delete(s.reports, "cache-2") }), ""},
		"paused":                   {homeless(func(s *scope) { s.svc.Spec.State = v1alpha1.StatePaused }), ""},
		"Manual":                   {homeless(mode(failover.ModeManual)), ""},
		"something is stalled":     {homeless(func(s *scope) { s.problems = append(s.problems, Problem{}) }), ""},
		"a change is under way":    {homeless(asked("by-hand", time.Second, "")), ""},
		"it is not routed":         {homeless(func(s *scope) { s.slices[0].Endpoints = nil }), ""},
		"the Lease names another":  {homeless(func(s *scope) { s.register.Holder = runOf("cache-1") }), ""},
		"a member is to be rolled": {homeless(func(s *scope) { s.set = &appsv1.StatefulSet{Status: appsv1.StatefulSetStatus{UpdateRevision: "newer"}} }), ""},
		"one member":               {homeless(single), ""},
		"refused a moment ago":     {homeless(asked("cache-fail-back-4-1", time.Second, v1alpha1.ConditionStalled)), ""},
		"refused a while ago":      {homeless(asked("cache-fail-back-4-1", 31*time.Second, v1alpha1.ConditionStalled)), "cache-1"},
		"it came back lately":      {homeless(wellFor(119*time.Second), cameHome("cache-fail-back-2-1", 9*time.Minute, v1alpha1.ConditionReady)), ""},
		"and has been well twice":  {homeless(wellFor(2*time.Minute), cameHome("cache-fail-back-2-1", 9*time.Minute, v1alpha1.ConditionReady)), "cache-1"},
		"it came back long ago":    {homeless(wellFor(time.Minute), cameHome("cache-fail-back-2-1", 11*time.Minute, v1alpha1.ConditionReady)), "cache-1"},
		"that came to nothing":     {homeless(wellFor(time.Minute), cameHome("cache-fail-back-2-1", 9*time.Minute, v1alpha1.ConditionStalled)), "cache-1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := nextFailBack(c.s); got != c.want {
				t.Errorf("moves to %q, want %q", got, c.want)
			}
		})
	}
}

// TestFailBackWaitsAnew: what interrupts the time makes it begin anew, and the service is looked at when it is over.
func TestFailBackWaitsAnew(t *testing.T) {
	s := homeless(wellFor(59 * time.Second))
	s.reports["cache-2"].Status.State = "CatchingUp"
	if got := nextFailBack(s); got != "" {
		t.Fatalf("moves to %q while a replica is missing", got)
	}
	s.reports["cache-2"].Status.State = string(v1alpha1.MemberFollowing)
	s.now = noon.Add(2 * time.Second)
	if got := nextFailBack(s); got != "" {
		t.Fatalf("moves to %q though a replica was missing two seconds ago", got)
	}
	if want := s.now.Add(time.Minute); !s.next.Equal(want) {
		t.Errorf("looks again at %s, want %s", s.next, want)
	}
	s.now = s.now.Add(time.Minute)
	if got := nextFailBack(s); got != "cache-1" {
		t.Errorf("moves to %q, want cache-1", got)
	}
}
