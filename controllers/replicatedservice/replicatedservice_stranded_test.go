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
func strandedScene(change ...func(*scope)) *scope {
	s := playing(3, func(s *scope) {
		silence(s, "cache-2")
		pod := s.pods["cache-2"]
		pod.CreationTimestamp = metav1.NewTime(noon.Add(-time.Minute))
		pod.Spec.NodeName, pod.Status.Phase = "", corev1.PodPending
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			Message: "0/2 nodes are available: 2 node(s) had volume node affinity conflict.",
		}}
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data-cache-2", Annotations: map[string]string{selectedNode: "node-3"}}}
		claim.Status.Phase = corev1.ClaimBound
		s.claims, s.nodes = map[string][]*corev1.PersistentVolumeClaim{"cache-2": {claim}}, map[string]*corev1.Node{}
	})
	for _, f := range change {
		f(s)
	}
	return s
}

func nodeNamed(name string, taints ...corev1.Taint) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Taints: taints}}
}

func TestNextStranded(t *testing.T) {
	out := corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}
	unreachable := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
	for name, c := range map[string]struct {
		s    *scope
		want string
	}{
		"its node does not exist":         {strandedScene(), "does not exist any more"},
		"its node is out of service":      {strandedScene(func(s *scope) { s.nodes["node-3"] = nodeNamed("node-3", unreachable, out) }), "is out of service"},
		"its node is silent":              {strandedScene(func(s *scope) { s.nodes["node-3"] = nodeNamed("node-3", unreachable) }), ""},
		"its pod has only just been made": {strandedScene(func(s *scope) { s.pods["cache-2"].CreationTimestamp = metav1.NewTime(noon) }), ""},
		"another is missing too":          {strandedScene(func(s *scope) { silence(s, "cache-1") }), ""},
		"nobody serves":                   {strandedScene(func(s *scope) { silence(s, "cache-0") }), ""},
		"the service is paused":           {strandedScene(func(s *scope) { s.svc.Spec.State = v1alpha1.StatePaused }), ""},
		"nobody noted the node":           {strandedScene(func(s *scope) { s.claims["cache-2"][0].Annotations = nil }), ""},
		"the claim waits itself":          {strandedScene(func(s *scope) { s.claims["cache-2"][0].Status.Phase = corev1.ClaimPending }), ""},
		"the claim is being deleted":      {strandedScene(func(s *scope) { now := metav1.NewTime(noon); s.claims["cache-2"][0].DeletionTimestamp = &now }), ""},
		"its volume can be reached":       {strandedScene(func(s *scope) { s.claims = nil }), ""},
	} {
		got, problem := nextStranded(c.s)
		if problem != nil || (got != nil) != (c.want != "") || (got != nil && (got.gone != c.want || got.member != "cache-2" || got.node != "node-3" || len(got.claims) != 1)) {
			t.Errorf("%s: %+v, problem %v; want %q", name, got, problem, c.want)
		}
	}
}

// A new volume that did not help is not thrown away again at once; a person is told.
func TestStrandedAgain(t *testing.T) {
	s := strandedScene()
	s.memory.replaced = map[string]time.Time{"cache-2": noon.Add(-10 * time.Minute)}
	got, problem := nextStranded(s)
	if got != nil || problem == nil || problem.Reason != v1alpha1.ReasonMemberStranded || !strings.Contains(problem.Message, "kubectl describe pod cache-2 -n default") {
		t.Errorf("%+v, problem %v", got, problem)
	}
}

func TestWaitsForVolume(t *testing.T) {
	s := strandedScene()
	for _, message := range []string{
		"0/2 nodes are available: 2 node(s) had volume node affinity conflict.",
		"0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match PersistentVolume's node affinity. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
	} {
		if s.pods["cache-2"].Status.Conditions[0].Message = message; !waitsForVolume(s.pods["cache-2"]) {
			t.Errorf("%q: a pod whose volume no node reaches is taken for one that waits for something else", message)
		}
	}
	s.pods["cache-2"].Status.Conditions[0].Message = "0/3 nodes are available: 3 Insufficient memory."
	if waitsForVolume(s.pods["cache-2"]) || waitsForVolume(s.pods["cache-1"]) {
		t.Error("a pod that waits for something else is taken for one whose volume no node reaches")
	}
}
