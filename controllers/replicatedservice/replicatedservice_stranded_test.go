package replicatedservice

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
)

// strandedScene is a service of which cache-2 waits for a volume of a node that is gone.
func strandedScene(message string, change ...func(*scope)) *scope {
	s := playing(3, func(s *scope) {
		silence(s, "cache-2")
		s.svc.Spec.Storage = &v1alpha1.StorageSpec{}
		pod := s.pods["cache-2"]
		pod.CreationTimestamp = metav1.NewTime(noon.Add(-time.Minute))
		pod.Spec.NodeName, pod.Status.Phase = "", corev1.PodPending
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: message,
		}}
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data-cache-2", Annotations: map[string]string{selectedNode: "node-3"}}}
		s.stranded, s.nodes = map[string][]strandedVolume{"cache-2": {{claim: claim}}}, map[string]*corev1.Node{}
	})
	for _, f := range change {
		f(s)
	}
	return s
}

const (
	olderConflict = "0/2 nodes are available: 2 node(s) had volume node affinity conflict."
	newerConflict = "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match PersistentVolume's node affinity. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
)

// A member whose volume no node reaches is told of, with where the volume is, what is known of that node, and both ways out.
func TestStrandedProblems(t *testing.T) {
	node := func(s *scope, taints ...corev1.Taint) {
		s.nodes["node-3"] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-3"}, Spec: corev1.NodeSpec{Taints: taints}}
	}
	const remedy = "kubectl delete pvc data-cache-2 -n default --wait=false && kubectl delete pod cache-2 -n default"
	for name, c := range map[string]struct {
		s    *scope
		want []string // none: nothing is told
	}{
		"its node does not exist": {strandedScene(olderConflict), []string{"node node-3, which does not exist any more", remedy}},
		"its node is out of service": {strandedScene(newerConflict, func(s *scope) {
			node(s, corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute})
		}), []string{"node node-3, which is declared out of service", remedy}},
		"its node is silent":     {strandedScene(newerConflict, func(s *scope) { node(s) }), []string{"was made for node node-3)", remedy}},
		"nobody noted the node":  {strandedScene(newerConflict, func(s *scope) { s.stranded["cache-2"][0].claim.Annotations = nil }), []string{"can reach. Bring", remedy}},
		"nobody serves":          {strandedScene(newerConflict, func(s *scope) { silence(s, "cache-0") }), []string{"not now, since no primary serves"}},
		"its pod was just made":  {strandedScene(newerConflict, func(s *scope) { s.pods["cache-2"].CreationTimestamp = metav1.NewTime(noon) }), nil},
		"it waits for memory":    {strandedScene("0/3 nodes are available: 3 Insufficient memory."), nil},
		"its pod is on a node":   {strandedScene(newerConflict, func(s *scope) { s.pods["cache-2"].Spec.NodeName = "node-1" }), nil},
		"its pod is being ended": {strandedScene(newerConflict, func(s *scope) { now := metav1.NewTime(noon); s.pods["cache-2"].DeletionTimestamp = &now }), nil},
	} {
		got := strandedProblems(c.s)
		if (len(got) == 1) != (c.want != nil) || (len(got) == 1 && got[0].Reason != v1alpha1.ReasonMemberStranded) {
			t.Errorf("%s: told %+v", name, got)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(got[0].Message, part) {
				t.Errorf("%s: %q does not say %q", name, got[0].Message, part)
			}
		}
	}
}
