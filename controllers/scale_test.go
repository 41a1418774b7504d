package controllers

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// size waits until the StatefulSet has so many replicas.
func (s *stage) size(service string, want int32) {
	s.Helper()
	s.eventually(func() string {
		set := &appsv1.StatefulSet{}
		s.get(service, set)
		if n := ptr.Deref(set.Spec.Replicas, 0); n != want {
			return fmt.Sprintf("the StatefulSet has %d replicas, want %d", n, want)
		}
		return ""
	})
}

// changesTo waits until the Lease says that the members change to so many, and plays the holder, who carries that out.
func (s *stage) changesTo(service string, want int) {
	s.Helper()
	s.eventually(func() string {
		if n := len(s.register(service).Terms.Next); n != want {
			return fmt.Sprintf("the Lease names %d members to change to, want %d", n, want)
		}
		return ""
	})
	s.setRegister(service, func(l *failover.Lease) { l.Terms.Members, l.Terms.Next = l.Terms.Next, nil })
}

func (s *stage) scale(service string, n int32) {
	s.Helper()
	svc := &v1alpha1.ReplicatedService{}
	s.change(service, svc, func() { svc.Spec.Replicas = ptr.To(n) })
}

// TestScale: new members get their pods first and count when they answer; those that leave are voters no more before their pods end.
func TestScale(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.healthy("cache")

	s.scale("cache", 5)
	s.size("cache", 5)
	if next := s.register("cache").Terms.Next; len(next) > 0 {
		t.Errorf("members that never answered are made voters: %v", next)
	}
	for i := 3; i < 5; i++ {
		pods = append(pods, s.pod("cache", i))
		s.says(pods[i], func(*wire.Status) {})
	}
	s.changesTo("cache", 5)
	s.condition("cache", v1alpha1.ConditionRedundant, metav1.ConditionFalse, v1alpha1.ReasonReplicasMissing, "cache-3")
	for _, pod := range pods[3:] {
		s.says(pod, following(1))
	}
	s.healthy("cache")

	s.scale("cache", 2)
	s.eventually(func() string {
		if n := len(s.register("cache").Terms.Next); n != 2 {
			return fmt.Sprintf("the Lease names %d members to change to, want 2", n)
		}
		return ""
	})
	s.size("cache", 5) // they may vote until the holder has dropped them
	s.changesTo("cache", 2)
	s.size("cache", 2)
}

// TestScaleDownMovesThePrimary: a primary that is to go hands over to a member that stays, once.
func TestScaleDownMovesThePrimary(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.healthy("cache")
	s.handOver("cache", pods[0], pods[2], 1, true)
	s.says(pods[1], following(2))
	s.healthy("cache")
	s.answer(func(member string, request wire.Handover) (wire.HandoverReply, error) {
		if member != "cache-2" || request.Epoch != 2 || request.Target != "cache-0" {
			return wire.HandoverReply{}, fmt.Errorf("%s was asked for %+v", member, request)
		}
		go func() {
			s.handOver("cache", pods[2], pods[0], 2, true)
			s.says(pods[1], following(3))
		}()
		return wire.HandoverReply{ID: request.ID, Target: "cache-0"}, nil
	})
	s.scale("cache", 2)
	fo := s.outcome("cache-scale-2-1", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted, "cache-0 is the primary of epoch 3")
	if fo.Labels[keys.LabelReason] != "ScaleDown" || metav1.GetControllerOf(fo) == nil {
		t.Errorf("asked for %+v", fo)
	}
	s.changesTo("cache", 2)
	s.size("cache", 2)
	if err := api.Delete(s.ctx, pods[2]); err != nil {
		t.Fatal(err)
	}
	s.healthy("cache")
	if all := s.asked(); len(all) != 1 {
		t.Errorf("%d switchovers were asked for, want one: %+v", len(all), all)
	}
}

// TestScaleDownToMembersThatAreNotWell: the primary stays, and Available says why.
func TestScaleDownToMembersThatAreNotWell(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.healthy("cache")
	s.handOver("cache", pods[0], pods[2], 1, true)
	for _, pod := range pods[:2] {
		s.says(pod, func(st *wire.Status) { st.Epoch, st.State = 2, string(v1alpha1.MemberCatchingUp) })
	}
	s.scale("cache", 2)
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPrimaryServing, "spec.replicas", "cache-0 cannot take over")
	s.size("cache", 3)
	if all := s.asked(); len(all) > 0 {
		t.Errorf("a switchover was asked for: %+v", all)
	}
}
