package replicatedservice

import (
	"fmt"
	"strconv"
	"time"

	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
)

const (
	// cooldownRepeats: failovers repeat when they lie within so many of the policy's cooldowns.
	cooldownRepeats = 10
	// cooldownMost bounds what doubling makes of a cooldown.
	cooldownMost = time.Hour
)

// cooldown is for how long after a failover no other is to begin by itself: the policy's time, doubled for each failover but one in the last
// ten of these times; 0 once a person has acknowledged the one that the service is in.
func cooldown(s *scope) time.Duration {
	base := time.Duration(ptr.Deref(s.policy.CooldownSeconds, 0)) * time.Second
	if base == 0 || (s.register != nil && acknowledged(s.svc) == s.register.Epoch) {
		return 0
	}
	window := cooldownRepeats * base
	doubled := base
	first := true
	for i := range s.failovers {
		fo := &s.failovers[i]
		left := window - s.now.Sub(fo.CreationTimestamp.Time)
		if left <= 0 || !began(fo) {
			continue
		}
		s.lookIn(left) // from then on it does not count
		if first {
			first = false
			continue
		}
		doubled = min(2*doubled, max(base, cooldownMost))
	}
	return doubled
}

// began reports whether a record is of a failover that nobody asked for, to another member.
func began(fo *v1alpha1.Failover) bool {
	return fo.Spec.Type == v1alpha1.TypeAutomatic && fo.Status.To != "" && fo.Status.From != fo.Status.To
}

// acknowledged is the epoch that a person wrote on the service; 0: none.
func acknowledged(svc *v1alpha1.ReplicatedService) failover.Epoch {
	return epochIn(svc, keys.AnnotationAcknowledged)
}

func epochIn(svc *v1alpha1.ReplicatedService, annotation string) failover.Epoch {
	epoch, err := strconv.ParseInt(svc.Annotations[annotation], 10, 64)
	if err != nil {
		return 0
	}
	return failover.Epoch(epoch)
}

// coolingDown says that nobody takes over by itself yet, for people; empty: somebody may. Each member counts by itself; the record's time is
// near enough for people.
func coolingDown(s *scope) string {
	l := s.register
	if l == nil || l.Terms.Unasked == 0 || l.Terms.Unasked != l.Epoch || l.Terms.CooldownMillis == 0 {
		return ""
	}
	for i := range s.failovers {
		fo := &s.failovers[i]
		if fo.Status.Epoch != int64(l.Epoch) || fo.Status.To == "" {
			continue
		}
		until := fo.CreationTimestamp.Add(time.Duration(l.Terms.CooldownMillis) * time.Millisecond)
		if !until.After(s.now) {
			return ""
		}
		s.lookAt(until)
		return fmt.Sprintf("%s began by itself, so nobody takes over by itself before %s (the policy's cooldownSeconds, doubled when failovers repeat). "+
			"Look into it, and then let the next one happen at once: kubectl annotate rsvc %s %s=%d --overwrite",
			fo.Name, until.UTC().Format(time.RFC3339), s.svc.Name, keys.AnnotationAcknowledged, l.Epoch)
	}
	return ""
}
