package controllers

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
)

// coolsFor waits until the Lease has that cooldown.
func (s *stage) coolsFor(service string, seconds int64) {
	s.Helper()
	s.eventually(func() string {
		if have := s.register(service).Terms.CooldownMillis; have != seconds*1000 {
			return fmt.Sprintf("the Lease's cooldown is %d ms, want %d s", have, seconds)
		}
		return ""
	})
}

// TestCooldown: it is doubled when failovers repeat, told with what ends it, and over when a person says so.
func TestCooldown(t *testing.T) {
	s := newStage(t)
	s.create(&v1alpha1.FailoverPolicy{ObjectMeta: metav1.ObjectMeta{Name: "calm"}, Spec: v1alpha1.FailoverPolicySpec{CooldownSeconds: ptr.To[int32](60)}})
	svc := redis("cache")
	svc.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: "calm"}
	s.create(svc)
	pods := s.serve("cache")
	s.healthy("cache")
	s.coolsFor("cache", 60)
	s.handOver("cache", pods[0], pods[1], 1, false)
	s.setRegister("cache", func(l *failover.Lease) { l.Terms.Unasked = 2 })
	s.says(pods[2], following(2))
	s.condition("cache", v1alpha1.ConditionFailoverPossible, metav1.ConditionFalse, v1alpha1.ReasonCooldown, "cache-2 began by itself", "acknowledged-epoch=2")
	s.evictions("cache", 1) // what is asked for happens nevertheless
	s.coolsFor("cache", 60)
	s.handOver("cache", pods[1], pods[2], 2, false)
	s.setRegister("cache", func(l *failover.Lease) { l.Terms.Unasked = 3 })
	s.says(pods[0], following(3))
	s.coolsFor("cache", 120)
	s.change("cache", svc, func() { svc.Annotations = map[string]string{keys.AnnotationAcknowledged: "3"} })
	s.coolsFor("cache", 0)
	s.condition("cache", v1alpha1.ConditionFailoverPossible, metav1.ConditionTrue, v1alpha1.ReasonCandidatesReady)
}
