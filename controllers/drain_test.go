package controllers

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/wire"
)

// evictions waits until the budget of a service allows that many.
func (s *stage) evictions(service string, want int) {
	s.Helper()
	s.eventually(func() string {
		budget := &policyv1.PodDisruptionBudget{}
		s.get(service, budget)
		if n := budget.Spec.MaxUnavailable.IntValue(); n != want {
			return fmt.Sprintf("maxUnavailable is %d, want %d", n, want)
		}
		return ""
	})
}

// TestBudgetFollowsRedundancy: nothing may be evicted while a replica is missing, or is ready and does not follow yet.
func TestBudgetFollowsRedundancy(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.evictions("cache", 1)
	s.silent(pods[2])
	s.condition("cache", v1alpha1.ConditionRedundant, metav1.ConditionFalse, v1alpha1.ReasonReplicasMissing, "cache-2")
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPrimaryServing)
	s.evictions("cache", 0)
	s.says(pods[2], following(1))
	s.evictions("cache", 1)
	s.says(pods[1], func(st *wire.Status) { st.Epoch, st.State = 1, string(v1alpha1.MemberCatchingUp) })
	s.evictions("cache", 0)
	s.says(pods[1], following(1))
	s.evictions("cache", 1)
}

// onNodes makes a node for each member of a service, and puts the members there. Nodes are everybody's, so they are named after
// the test's namespace.
func (s *stage) onNodes(service string) (pods []*corev1.Pod, nodes []*corev1.Node) {
	s.Helper()
	for i := range 3 {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", s.namespace, i)}}
		if err := api.Create(s.ctx, node); err != nil {
			s.Fatal(err)
		}
		nodes = append(nodes, node)
	}
	pods = s.serve(service, func(pod *corev1.Pod) { pod.Spec.NodeName = strings.Replace(pod.Spec.NodeName, "node", s.namespace, 1) })
	s.healthy(service)
	return pods, nodes
}

// cordon closes a node, or opens it.
func (s *stage) cordon(node *corev1.Node, closed bool) {
	s.Helper()
	s.retry(func() error {
		if err := api.Get(s.ctx, s.key(node.Name), node); err != nil {
			return err
		}
		node.Spec.Unschedulable = closed
		return api.Update(s.ctx, node)
	})
}

// asked are the switchovers that the operator asked for.
func (s *stage) asked() []v1alpha1.Failover {
	s.Helper()
	list := &v1alpha1.FailoverList{}
	if err := api.List(s.ctx, list, inNamespace(s.namespace)); err != nil {
		s.Fatal(err)
	}
	var out []v1alpha1.Failover
	for _, fo := range list.Items {
		if fo.Spec.Type == v1alpha1.TypeSwitchover {
			out = append(out, fo)
		}
	}
	return out
}

// TestCordonedNode: the primary hands over to a member on an open node, once, and does not come back.
func TestCordonedNode(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods, nodes := s.onNodes("cache")
	s.answer(func(member string, request wire.Handover) (wire.HandoverReply, error) {
		if member != "cache-0" || request.Epoch != 1 || request.Target != "cache-2" {
			return wire.HandoverReply{}, fmt.Errorf("%s was asked for %+v", member, request)
		}
		go s.handOver("cache", pods[0], pods[2], 1, true)
		return wire.HandoverReply{ID: request.ID, Target: "cache-2"}, nil
	})
	s.cordon(nodes[1], true)
	s.eventually(settled)
	if n := len(s.asked()); n > 0 {
		t.Fatalf("%d switchovers were asked for when a replica's node was cordoned", n)
	}
	s.cordon(nodes[0], true)
	fo := s.outcome("cache-drain-1-1", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted, "cache-2 is the primary of epoch 2")
	if fo.Labels[keys.LabelReason] != "NodeCordoned" || metav1.GetControllerOf(fo) == nil || fo.Spec.Target != "cache-2" {
		t.Errorf("asked for %+v", fo)
	}
	s.condition("cache", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
	s.cordon(nodes[0], false)
	s.cordon(nodes[1], false)
	s.eventually(settled)
	if all := s.asked(); len(all) != 1 {
		t.Errorf("%d switchovers were asked for, want one: %+v", len(all), all)
	}
}

// TestNobodyOnAnOpenNode: when every node is cordoned the primary stays, and Available says why.
func TestNobodyOnAnOpenNode(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	_, nodes := s.onNodes("cache")
	for _, node := range []*corev1.Node{nodes[2], nodes[1], nodes[0]} {
		s.cordon(node, true)
	}
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPrimaryServing,
		"node "+nodes[0].Name+" is cordoned, and the primary stays", "cache-1", "cache-2")
	s.eventually(settled)
	if all := s.asked(); len(all) != 0 {
		t.Errorf("asked for %+v", all)
	}
}

// TestCordonedAndEvicted: the pod is ended while the operator asks. The one change that follows is what was asked for.
func TestCordonedAndEvicted(t *testing.T) {
	for _, reason := range []string{wire.NotPrimary, wire.HandoverUnderWay} {
		t.Run(reason, func(t *testing.T) {
			s := newStage(t)
			s.create(redis("cache"))
			pods, nodes := s.onNodes("cache")
			s.answer(func(_ string, request wire.Handover) (wire.HandoverReply, error) {
				go s.handOver("cache", pods[0], pods[2], 1, true) // to another than the operator's target
				return wire.HandoverReply{ID: request.ID, Refused: true, Reason: reason}, nil
			})
			s.cordon(nodes[0], true)
			s.outcome("cache-drain-1-1", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted, "cache-2", "epoch 2")
			s.eventually(settled)
			list := &v1alpha1.FailoverList{}
			if err := api.List(s.ctx, list, inNamespace(s.namespace)); err != nil || len(list.Items) != 1 {
				t.Errorf("the one change has %d objects (%v)", len(list.Items), err)
			}
		})
	}
}

// TestForeignBudget: a second budget for the same pods makes every eviction fail with 500, and is told of until it is gone.
func TestForeignBudget(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.healthy("cache")
	evict := func() error {
		return api.SubResource("eviction").Create(s.ctx, pods[1], &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pods[1].Name}})
	}
	s.evictions("cache", 1)
	budget := &policyv1.PodDisruptionBudget{}
	s.get("cache", budget)
	// There is no controller that counts the pods: none may go.
	budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: budget.Generation, ExpectedPods: 3, DesiredHealthy: 2, CurrentHealthy: 2}
	if err := api.Status().Update(s.ctx, budget); err != nil {
		t.Fatal(err)
	}
	if err := evict(); !apierrors.IsTooManyRequests(err) {
		t.Fatalf("with the service's own budget alone an eviction is answered with %v, want 429", err)
	}
	mine := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "mine"},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: ptr.To(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/component": "member"}},
		},
	}
	s.create(mine)
	s.condition("cache", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonForeignBudget, "PodDisruptionBudget mine", "kubectl delete pdb mine")
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPrimaryServing)
	if err := evict(); !apierrors.IsInternalError(err) {
		t.Errorf("with two budgets an eviction is answered with %v, want 500", err)
	}
	s.change("mine", mine, func() { mine.Spec.Selector.MatchLabels = map[string]string{"app": "another"} })
	s.condition("cache", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
}
