package replicatedservice

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
)

// shrinking is a healthy service of three, with pods and a StatefulSet of three, of which the spec asks for so many.
func shrinking(to int32, change ...func(*scope)) *scope {
	return playing(4, append([]func(*scope){func(s *scope) {
		s.effective = s.svc.DeepCopy()
		s.svc.Spec.Replicas = &to
		s.set = &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](3)}}
	}}, change...)...)
}

// Whoever may vote, or has data that counts, keeps its pod and its volume.
func TestMembersToRun(t *testing.T) {
	list := func(n int) func(*scope) {
		return func(s *scope) { s.register.Terms.Members = s.register.Terms.Members[:n] }
	}
	for name, c := range map[string]struct {
		s    *scope
		want int32
	}{
		"as declared":            {shrinking(3), 3},
		"more":                   {shrinking(5), 5},
		"they are members yet":   {shrinking(2), 3},
		"they are none any more": {shrinking(2, list(2)), 2},
		"they are to be members": {shrinking(2, func(s *scope) { s.register.Terms.Next = s.register.Terms.Members }, list(2)), 3},
		"one has data that counts": {shrinking(1, list(1), func(s *scope) {
			s.register.Terms.Sets = []failover.SyncSet{{Primary: "cache-0", Replicas: map[string]string{"cache-2": "d"}}}
		}), 3},
		"one was the primary of a set":  {shrinking(1, list(1), func(s *scope) { s.register.Terms.Sets = []failover.SyncSet{{Primary: "cache-1"}} }), 2},
		"the Lease is gone":             {shrinking(1, func(s *scope) { s.register = nil }), 3},
		"the Lease cannot be read":      {shrinking(1, func(s *scope) { s.register = &failover.Lease{Version: "9"} }), 3},
		"the Lease is from before":      {shrinking(1, list(1), func(s *scope) { s.svc.Status.Primary = &v1alpha1.PrimaryStatus{Epoch: 9} }), 3},
		"the StatefulSet is gone too":   {shrinking(1, func(s *scope) { s.register, s.set = nil, nil; s.svc.Status.Primary = &v1alpha1.PrimaryStatus{Epoch: 4} }), 3},
		"nothing was made yet":          {shrinking(2, func(s *scope) { s.register, s.set, s.pods = nil, nil, map[string]*corev1.Pod{} }), 2},
		"the StatefulSet is made anew":  {shrinking(2, func(s *scope) { s.set = nil }), 3},
		"its pods are left by somebody": {shrinking(2, list(2), func(s *scope) { s.set = nil }), 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.s.membersToRun(); got != c.want {
				t.Errorf("%d members are to run, want %d", got, c.want)
			}
		})
	}
}

// Nobody leaves the Lease while that would cost more than a member.
func TestLeastOf(t *testing.T) {
	ill := func(name string) func(*scope) {
		return func(s *scope) { s.reports[name].Status.State = string(v1alpha1.MemberCatchingUp) }
	}
	for name, c := range map[string]struct {
		s     *scope
		want  int
		waits string
	}{
		"all are well":                         {shrinking(2), 2, ""},
		"more":                                 {shrinking(5), 5, ""},
		"one that stays is not":                {shrinking(2, ill("cache-1")), 3, "cache-1 to be well"},
		"one that leaves is not":               {shrinking(2, ill("cache-2")), 2, ""},
		"one that stays does not answer":       {shrinking(2, func(s *scope) { silence(s, "cache-1") }), 3, "cache-1 to be well"},
		"writes need more replicas":            {shrinking(2, func(s *scope) { s.register.Terms.MinReplicasToWrite = 2 }), 3, "minReplicasToWrite of at most 1"},
		"the policy wants more":                {shrinking(2, func(s *scope) { s.policy.MinReplicasToWrite = ptr.To[int32](2) }), 3, "minReplicasToWrite of at most 1"},
		"the quorum in force is larger":        {shrinking(2, func(s *scope) { s.register.Terms.Quorum = 2 }), 3, "no more than 1 replicas"},
		"the set in force asks for more":       {shrinking(2, func(s *scope) { s.register.Terms.Sets = []failover.SyncSet{{Primary: "cache-0", Quorum: 2}} }), 3, "no more than 1 replicas"},
		"there is nothing to lose yet":         {shrinking(2, func(s *scope) { s.register.Epoch = 0 }, ill("cache-1")), 2, ""},
		"one of the new ones is not well":      {shrinking(4, ill("cache-1")), 4, ""},
		"they left already, and one fell back": {shrinking(2, func(s *scope) { s.register.Terms.Members = s.register.Terms.Members[:2] }, ill("cache-1")), 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, waits := leastOf(c.s, c.s.register)
			if len(got) != c.want || (waits == "") != (c.waits == "") || !strings.Contains(waits, c.waits) {
				t.Errorf("%d members, waiting for %q; want %d, %q", len(got), waits, c.want, c.waits)
			}
		})
	}
}

func TestNextShrink(t *testing.T) {
	moved := func(s *scope) { // cache-2 serves
		for name := range s.reports {
			s.reports[name].Status.Serving = false
			s.reports[name].Status.State, s.reports[name].Status.Eligible = string(v1alpha1.MemberFollowing), true
		}
		st := s.reports["cache-2"].Status
		st.Serving, st.State = true, string(v1alpha1.MemberServing)
		s.register.Holder = runOf("cache-2")
		s.slices[0].Endpoints[0].Addresses = []string{s.pods["cache-2"].Status.PodIP}
		s.slices[0].Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: "cache-2", UID: "uid-cache-2"}
	}
	for name, c := range map[string]struct {
		s             *scope
		target, stays string
	}{
		"the primary stays":           {shrinking(2), "", ""},
		"it goes":                     {shrinking(2, moved), "cache-0", ""},
		"it goes, and one is not fit": {shrinking(2, moved, func(s *scope) { s.reports["cache-0"].Status.Eligible = false }), "cache-1", ""},
		"none is":                     {shrinking(1, moved, func(s *scope) { s.reports["cache-0"].Status.Eligible = false }), "", "cache-0 cannot take over"},
		"one is ending":               {shrinking(2, moved, func(s *scope) { s.pods["cache-0"].DeletionTimestamp = &metav1.Time{Time: noon} }), "cache-1", ""},
		"paused":                      {shrinking(2, moved, func(s *scope) { s.svc.Spec.State = v1alpha1.StatePaused }), "", "spec.state is Paused"},
		"Manual":                      {shrinking(2, moved, mode(failover.ModeManual)), "", "mode is Manual"},
		"the Lease names another":     {shrinking(2, moved, func(s *scope) { s.register.Holder = runOf("cache-1") }), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := nextShrink(c.s)
			if got.target != c.target || (got.stays == "") != (c.stays == "") || !strings.Contains(got.stays, c.stays) {
				t.Errorf("%+v, want target %q, and people read %q", got, c.target, c.stays)
			}
		})
	}
}
