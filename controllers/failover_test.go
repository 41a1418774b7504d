package controllers

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

func (s *stage) outcome(name, kind, reason string, words ...string) *v1alpha1.Failover {
	s.Helper()
	fo := &v1alpha1.Failover{}
	s.eventually(func() string {
		if err := api.Get(s.ctx, s.key(name), fo); err != nil {
			return err.Error()
		}
		return differs(fo.Status.Conditions, kind, metav1.ConditionTrue, reason, words)
	})
	return fo
}

func switchover(name, service, target string) *v1alpha1.Failover {
	return &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.FailoverSpec{ServiceRef: v1alpha1.LocalReference{Name: service}, Target: target, DeadlineSeconds: 5},
	}
}

// takeover is the record of a change of primary.
func takeover(epoch failover.Epoch, from, to failover.Run, handover bool) wire.Takeover {
	return wire.Takeover{
		Epoch: epoch, From: from, To: to, Evidence: failover.Released, Handover: handover, LossExact: handover,
		WallNanos: time.Now().UnixNano(),
		Steps: map[string]int64{
			"Detected": 0, "Promised": 4e6, "Granted": 9e6, "Confirmed": 11e6, "Promoted": 12_500_000, "Routed": 20_400_000,
		},
	}
}

// handOver plays the members' part: the primary of an epoch hands over to another pod.
func (s *stage) handOver(service string, from, to *corev1.Pod, epoch failover.Epoch, handover bool) {
	s.Helper()
	s.says(from, following(epoch+1))
	run := failover.Run{Member: to.Name, PodUID: string(to.UID), BootID: "boot"}
	old := failover.Run{Member: from.Name, PodUID: string(from.UID), BootID: "boot"}
	s.setRegister(service, func(l *failover.Lease) { l.Epoch, l.Holder = epoch+1, run })
	s.route(service, int64(epoch+1), to)
	s.says(to, func(st *wire.Status) {
		serving(epoch + 1)(st)
		st.Takeovers = []wire.Takeover{takeover(epoch+1, old, run, handover)}
	})
}

func (s *stage) answer(f func(member string, request wire.Handover) (wire.HandoverReply, error)) {
	cast.Answer(func(key types.NamespacedName, member string, request wire.Handover) (wire.HandoverReply, error) {
		if key.Namespace != s.namespace {
			return wire.HandoverReply{}, fmt.Errorf("service %s was asked to hand over", key)
		}
		return f(member, request)
	})
}

// TestSwitchover: a person's order is carried out, and told with its steps.
func TestSwitchover(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.healthy("cache")
	s.answer(func(member string, request wire.Handover) (wire.HandoverReply, error) {
		if member != "cache-0" || request.Epoch != 1 || request.Target != "cache-2" {
			return wire.HandoverReply{}, fmt.Errorf("%s was asked for %+v", member, request)
		}
		go s.handOver("cache", pods[0], pods[2], 1, true)
		return wire.HandoverReply{ID: request.ID, Target: "cache-2"}, nil
	})
	s.create(switchover("please", "cache", "cache-2"))
	fo := s.outcome("please", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted, "cache-2", "epoch 2")
	st := fo.Status
	if st.From != "cache-0" || st.To != "cache-2" || st.Epoch != 2 || *st.ElapsedMilliseconds != 20 || *st.BytesLost != 0 ||
		st.BytesLostPrecision != v1alpha1.LossExact || len(st.Timeline) != 6 || st.Timeline[2].Step != v1alpha1.StepGranted ||
		*st.Timeline[2].ElapsedMicroseconds != 9000 {
		t.Errorf("status %+v", st)
	}
	s.eventually(func() string {
		svc := &v1alpha1.ReplicatedService{}
		s.get("cache", svc)
		if last := svc.Status.LastFailover; last == nil || last.Name != "please" || last.Epoch != 2 {
			return fmt.Sprintf("lastFailover is %+v", last)
		}
		return ""
	})
	list := &v1alpha1.FailoverList{}
	if err := api.List(s.ctx, list, inNamespace(s.namespace)); err != nil || len(list.Items) != 1 {
		t.Errorf("the same change was recorded twice: %d objects (%v)", len(list.Items), err)
	}
}

// TestSwitchoverIsAskedAgain: a question that nobody answered is asked again while the primary serves on, and that the primary hands over meanwhile is
// what was asked for.
func TestSwitchoverIsAskedAgain(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.healthy("cache")
	var asked atomic.Int32
	s.answer(func(_ string, request wire.Handover) (wire.HandoverReply, error) {
		switch asked.Add(1) {
		case 1:
			return wire.HandoverReply{}, errors.New("the connection ended before it answered")
		case 2:
			go s.handOver("cache", pods[0], pods[2], 1, true)
		}
		return wire.HandoverReply{ID: request.ID, Refused: true, Reason: wire.NotPrimary}, nil
	})
	s.create(switchover("please", "cache", "cache-2"))
	fo := s.outcome("please", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted, "cache-2", "epoch 2")
	if n := asked.Load(); n < 2 || fo.Status.To != "cache-2" {
		t.Errorf("asked %d times: %+v", n, fo.Status)
	}
}

// TestAutomaticRecord: what the members did by themselves is recorded, and brought up to date when more is known.
func TestAutomaticRecord(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.healthy("cache")
	s.handOver("cache", pods[0], pods[1], 1, false)
	fo := s.outcome("cache-2", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted)
	if fo.Spec.Type != v1alpha1.TypeAutomatic || fo.Status.From != "cache-0" || fo.Status.To != "cache-1" ||
		fo.Status.BytesLostPrecision != v1alpha1.LossAtLeast || metav1.GetControllerOf(fo) == nil {
		t.Errorf("recorded %+v", fo)
	}
	run := failover.Run{Member: "cache-1", PodUID: string(pods[1].UID), BootID: "boot"}
	s.says(pods[1], func(st *wire.Status) {
		serving(2)(st)
		record := takeover(2, failover.Run{Member: "cache-0", PodUID: string(pods[0].UID), BootID: "boot"}, run, false)
		record.BytesLost, record.LossExact = 77, true
		st.Takeovers = []wire.Takeover{record}
	})
	s.eventually(func() string {
		s.get("cache-2", fo)
		if *fo.Status.BytesLost != 77 || fo.Status.BytesLostPrecision != v1alpha1.LossExact {
			return fmt.Sprintf("%d bytes lost, %s", *fo.Status.BytesLost, fo.Status.BytesLostPrecision)
		}
		return ""
	})
}

// TestSwitchoverRefusals: each refusal says why and what to do, and changes nothing.
func TestSwitchoverRefusals(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.healthy("cache")
	s.answer(func(string, wire.Handover) (wire.HandoverReply, error) {
		return wire.HandoverReply{Refused: true, Reason: "TargetLags", Message: "cache-1 did not catch up"}, nil
	})
	s.create(switchover("nowhere", "absent", ""))
	s.outcome("nowhere", v1alpha1.ConditionStalled, v1alpha1.ReasonServiceNotFound, "spec.serviceRef.name", `"absent"`)
	s.create(switchover("nobody", "cache", "cache-7"))
	s.outcome("nobody", v1alpha1.ConditionStalled, v1alpha1.ReasonTargetRefused, "spec.target", "cache-7", "cache-0, cache-1, cache-2")
	s.create(switchover("same", "cache", "cache-0"))
	s.outcome("same", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted, "is the primary already")
	s.create(switchover("refused", "cache", "cache-1"))
	s.outcome("refused", v1alpha1.ConditionStalled, v1alpha1.ReasonHandoverFailed, "cache-0 refused", "cache-1 did not catch up")
	s.says(pods[1], func(st *wire.Status) {
		st.Epoch, st.State, st.Reason, st.Explanation = 1, string(v1alpha1.MemberCatchingUp), "Lagging", "it is 40 MiB behind"
	})
	s.create(switchover("behind", "cache", "cache-1"))
	s.outcome("behind", v1alpha1.ConditionStalled, v1alpha1.ReasonTargetRefused, "cache-1: Lagging: it is 40 MiB behind")
	force := switchover("force", "cache", "")
	force.Spec.Type = v1alpha1.TypeForced
	force.Spec.AssertDead = &v1alpha1.AssertDead{Member: "cache-0", PodUID: string(pods[0].UID), Epoch: 1}
	s.create(force)
	s.outcome("force", v1alpha1.ConditionStalled, v1alpha1.ReasonTargetRefused, "cache-0, which answers and serves", "Switchover")
	if r := s.register("cache"); r.Epoch != 1 {
		t.Errorf("epoch %d after refusals", r.Epoch)
	}
	s.stillAvailable("cache")
}

// TestSwitchoverDeadline: an order that cannot begin ends.
func TestSwitchoverDeadline(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	fo := switchover("late", "cache", "")
	fo.Spec.DeadlineSeconds = 1
	s.create(fo)
	s.outcome("late", v1alpha1.ConditionStalled, v1alpha1.ReasonDeadlineExceeded, "first primary", "create another")
}

// TestOneAtATime: a second order waits for the first.
func TestOneAtATime(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.healthy("cache")
	asked := make(chan string, 4)
	s.answer(func(_ string, request wire.Handover) (wire.HandoverReply, error) {
		asked <- request.Target
		return wire.HandoverReply{ID: request.ID, Target: request.Target}, nil
	})
	s.create(switchover("first", "cache", "cache-1"))
	if got := <-asked; got != "cache-1" {
		t.Fatalf("asked for %s", got)
	}
	s.create(switchover("second", "cache", "cache-2"))
	s.outcome("second", v1alpha1.ConditionReconciling, v1alpha1.ReasonInProgress, "waits for Failover first")
	s.handOver("cache", pods[0], pods[1], 1, true)
	s.outcome("first", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted)
	if got := <-asked; got != "cache-2" {
		t.Fatalf("then asked for %s", got)
	}
	s.handOver("cache", pods[1], pods[2], 2, true)
	s.outcome("second", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted, "cache-2")
}

// TestForced: a person's word reaches every other member, and the takeover that follows completes the Failover.
func TestForced(t *testing.T) {
	s := newStage(t)
	s.create(redis("dead"))
	pods := s.serve("dead")
	s.healthy("dead")
	s.silent(pods[0])
	force := switchover("force", "dead", "")
	force.Spec.Type, force.Spec.DeadlineSeconds = v1alpha1.TypeForced, 60
	force.Spec.AssertDead = &v1alpha1.AssertDead{Member: "dead-0", PodUID: string(pods[0].UID), Epoch: 1}
	s.create(force)
	s.eventually(func() string {
		for _, name := range []string{"dead-1", "dead-2"} {
			p, ok := cast.Proof(name)
			if !ok || len(p.Evidence) != 1 || p.Evidence[0].Kind != failover.Asserted || p.Evidence[0].Run.PodUID != string(pods[0].UID) {
				return fmt.Sprintf("%s was handed %+v", name, p)
			}
		}
		return ""
	})
	old := failover.Run{Member: pods[0].Name, PodUID: string(pods[0].UID), BootID: "boot"}
	run := failover.Run{Member: pods[1].Name, PodUID: string(pods[1].UID), BootID: "boot"}
	s.setRegister("dead", func(l *failover.Lease) { l.Epoch, l.Holder = 2, run })
	s.route("dead", 2, pods[1])
	won := takeover(2, old, run, false)
	won.Evidence = failover.Asserted
	s.says(pods[1], func(st *wire.Status) { serving(2)(st); st.Takeovers = []wire.Takeover{won} })
	fo := s.outcome("force", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted, "dead-1 is the primary of epoch 2")
	if fo.Status.Evidence != v1alpha1.EvidenceAsserted {
		t.Errorf("evidence %s", fo.Status.Evidence)
	}
}
