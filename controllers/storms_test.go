package controllers

import (
	"fmt"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/wire"
)

// under is a service under a policy.
func under(policy, name string) *v1alpha1.ReplicatedService {
	svc := redis(name)
	svc.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: policy}
	return svc
}

// TestDisruptionsOfSeveralServices: while as many members as the policy allows are away by the operator's hand, it touches no other service's, and says so.
func TestDisruptionsOfSeveralServices(t *testing.T) {
	s := newStage(t)
	s.create(&v1alpha1.FailoverPolicy{ObjectMeta: metav1.ObjectMeta{Name: "calm"}, Spec: v1alpha1.FailoverPolicySpec{
		Budget: v1alpha1.BudgetSpec{MaxDisruptions: v1alpha1.DisruptionLimits{PerNode: 1}}}}, under("calm", "a"), under("calm", "b"))
	a, b := s.rehearse("a", quiet), s.rehearse("b", quiet)
	good := a.plays
	a.plays = func(string) func(*wire.Status) {
		return func(st *wire.Status) { st.State, st.Message = string(v1alpha1.MemberStarting), "no such file" }
	}
	a.image("2", "redis:broken")
	a.play("2", a.all("a-2"))
	b.image("2", "redis:9")
	s.condition("b", v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonProgressing,
		"b-2 is not touched before budget.maxDisruptions.perNode of 1 for node node-2 allows it")
	a.plays = good
	a.image("1", "redis:8")
	a.play("1", a.all("a-2", "a-2"))
	s.healthy("a")
	b.play("2", b.all("b-2"))
}

// TestTurns: where a policy has more services than may fail over at once, their Leases say so, with how many of higher priority go first, and the Lease
// that counts them is there.
func TestTurns(t *testing.T) {
	s := newStage(t)
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}, Value: 1000}
	if err := api.Create(s.ctx, class); err != nil {
		t.Fatal(err)
	}
	first := under("narrow", "a")
	first.Spec.Template.PriorityClassName = class.Name
	s.create(&v1alpha1.FailoverPolicy{ObjectMeta: metav1.ObjectMeta{Name: "narrow"}, Spec: v1alpha1.FailoverPolicySpec{
		Budget: v1alpha1.BudgetSpec{MaxConcurrentFailovers: 1}}}, first, under("another", "c"))
	s.serve("a")
	s.healthy("a")
	s.turns("a", 0, 0)
	second := under("narrow", "b")
	s.create(second)
	s.serve("b")
	s.turns("a", 1, 0)
	s.turns("b", 1, 1)
	s.eventually(func() string {
		counts := &coordinationv1.Lease{}
		if err := api.Get(s.ctx, s.key("failovers.policy.narrow"), counts); err != nil {
			return err.Error()
		}
		if n := len(counts.OwnerReferences); n != 2 {
			return fmt.Sprintf("it goes with %d services", n)
		}
		return ""
	})
	if err := api.Get(s.ctx, s.key("failovers.policy.another"), &coordinationv1.Lease{}); !apierrors.IsNotFound(err) {
		t.Errorf("a service alone under its policy counts failovers: %v", err)
	}
	if err := api.Delete(s.ctx, second); err != nil {
		t.Fatal(err)
	}
	s.turns("a", 0, 0)
}

func (s *stage) turns(service string, turns, behind int) {
	s.Helper()
	s.eventually(func() string {
		if got := s.register(service).Terms; got.Turns != turns || got.Behind != behind || (got.TurnsIn == "failovers.policy.narrow") != (turns > 0) {
			return fmt.Sprintf("%s: of %d turns in %q it leaves %d", service, got.Turns, got.TurnsIn, got.Behind)
		}
		return ""
	})
}
