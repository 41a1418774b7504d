package controllers

import (
	"fmt"
	"strings"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// TestRejoinFailed: a member that gave up rejoining is told of with what to do, while the service goes on; and no more once it is back.
func TestRejoinFailed(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.healthy("cache")
	const why = "rejoining the primary at 10.9.0.1:6379 was given up after 5 base backups, the last time: pg_basebackup: No space left on device"
	s.says(pods[1], func(st *wire.Status) {
		following(1)(st)
		st.State, st.Eligible, st.Message = string(v1alpha1.MemberCatchingUp), false, why
		st.Stuck = &wire.Stuck{Reason: v1alpha1.ReasonRejoinFailed, Message: why}
	})
	s.condition("cache", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRejoinFailed,
		"cache-1", why, "kubectl delete pod cache-1 -n "+s.namespace)
	s.condition("cache", v1alpha1.ConditionRedundant, metav1.ConditionFalse, v1alpha1.ReasonReplicasMissing, "cache-1")
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPrimaryServing)
	svc := &v1alpha1.ReplicatedService{}
	s.get("cache", svc)
	if m := svc.Status.Members[1]; m.Message != why || m.State != v1alpha1.MemberCatchingUp {
		t.Errorf("the member is shown as %+v", m)
	}
	s.says(pods[1], following(1))
	s.condition("cache", v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNotStalled)
}

// TestWritesKeptAside: what the old primary had more is told in the service, in the Failover that ended its epoch, and once as an event.
func TestWritesKeptAside(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.healthy("cache")
	s.handOver("cache", pods[0], pods[1], 1, false)
	run := failover.Run{Member: "cache-1", PodUID: string(pods[1].UID), BootID: "boot"}
	old := failover.Run{Member: "cache-0", PodUID: string(pods[0].UID), BootID: "boot"}
	s.says(pods[1], func(st *wire.Status) {
		serving(2)(st)
		record := takeover(2, old, run, false)
		record.Base = failover.Position{DataEpoch: 1, Offset: 500}
		st.Takeovers = []wire.Takeover{record}
	})
	fo := s.outcome("cache-2", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted)
	if fo.Status.BytesLostPrecision != v1alpha1.LossAtLeast {
		t.Errorf("before the old primary is back: %s", fo.Status.BytesLostPrecision)
	}
	lost := wire.Lost{Epoch: 1, Primary: true, Bytes: 4711, Dir: "/data/lost/x", First: "000000010000000000000003", Last: "000000010000000000000004", Complete: true}
	s.says(pods[0], func(st *wire.Status) { following(2)(st); st.Lost = &lost })
	words := []string{"cache-0 had 4711 bytes of WAL of epoch 1", "may have been confirmed", "/data/lost/x of pod cache-0", lost.First, lost.Last}
	fo = s.outcome("cache-2", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted, words...)
	if *fo.Status.BytesLost != 4711 || fo.Status.BytesLostPrecision != v1alpha1.LossExact {
		t.Errorf("%d bytes lost, %s", *fo.Status.BytesLost, fo.Status.BytesLostPrecision)
	}
	s.eventually(func() string {
		svc := &v1alpha1.ReplicatedService{}
		s.get("cache", svc)
		if m := svc.Status.Members[0]; m.KeptAside == nil || m.KeptAside.Bytes != 4711 || m.KeptAside.Extent != v1alpha1.KeptAll {
			return fmt.Sprintf("shown %+v", m)
		}
		return ""
	})
	s.eventually(func() string {
		list := &eventsv1.EventList{}
		if err := api.List(s.ctx, list, inNamespace(s.namespace)); err != nil {
			return err.Error()
		}
		n := 0
		for _, e := range list.Items {
			if e.Reason != "WritesKeptAside" || e.Regarding.Name != "cache" || e.Type != "Warning" {
				continue
			}
			n++
			for _, w := range words {
				if !strings.Contains(e.Note, w) {
					return fmt.Sprintf("%q does not say %q", e.Note, w)
				}
			}
		}
		if n != 1 {
			return fmt.Sprintf("%d events", n)
		}
		return ""
	})
	s.silent(pods[0]) // who told it is gone: it stays told
	s.condition("cache", v1alpha1.ConditionRedundant, metav1.ConditionFalse, v1alpha1.ReasonReplicasMissing, "cache-0")
	if again := s.outcome("cache-2", v1alpha1.ConditionReady, v1alpha1.ReasonCompleted, words...); *again.Status.BytesLost != 4711 ||
		again.Status.BytesLostPrecision != v1alpha1.LossExact {
		t.Errorf("%+v", again.Status)
	}
}
