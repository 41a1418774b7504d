package replicatedservice

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
)

const (
	// reasonPreferredZone is why a primary is asked to hand over to a member in the preferred zone, in the Failover's label and the event.
	reasonPreferredZone = "PreferredZone"
	// failBackKind is what these requests are called.
	failBackKind = "fail-back"
	// failBackRepeats: the primary came back repeatedly when that was within so many of the declared times.
	failBackRepeats = 10
	// failBackMost bounds what doubling makes of the declared time.
	failBackMost = 24 * time.Hour
)

// failBack moves the primary to the preferred zone, where that is asked for.
func (r *Reconciler) failBack(ctx context.Context, s *scope) error {
	target := nextFailBack(s)
	if target == "" {
		return nil
	}
	from, well := s.server().Run.Member, s.now.Sub(s.memory.homeSince).Round(time.Second)
	fo, err := r.askForSwitchover(ctx, s, switchover{kind: failBackKind, reason: reasonPreferredZone, target: target})
	if fo == nil || err != nil {
		return err
	}
	zone := s.effective.Spec.Placement.PreferredZone
	ctrl.LoggerFrom(ctx).Info("the primary is asked to move to the preferred zone", "member", from, "zone", zone, "target", target, "well", well, "failover", fo.Name)
	r.Recorder.Eventf(s.svc, fo, corev1.EventTypeNormal, reasonPreferredZone, "Handover",
		"Primary %s is not in zone %s, where %s has been well for %s: Failover %s asks it to hand over", from, zone, target, well, fo.Name)
	return nil
}

// nextFailBack is the member in the preferred zone that the primary moves to now; empty: it stays. How long that member and all others have
// been well is remembered by this operator alone: another one waits anew.
func nextFailBack(s *scope) string {
	home := homeOf(s)
	if home == "" || home != s.memory.home {
		s.memory.home, s.memory.homeSince = home, s.now
	}
	if home == "" {
		return ""
	}
	if left := failBackAfter(s) - s.now.Sub(s.memory.homeSince); left > 0 {
		s.lookIn(left)
		return ""
	}
	if askedLately(s, failBackKind) != "" {
		return ""
	}
	return home
}

// homeOf is the member that a primary outside of the preferred zone could move to, while all is well and nothing else is under way;
// empty: there is none.
func homeOf(s *scope) string {
	if p := s.effective.Spec.Placement; p == nil || p.FailBackAfterSeconds == nil || s.count() < 2 {
		return ""
	}
	serving, zone := s.server(), preferred(s)
	switch {
	case serving == nil || slices.Contains(zone, serving.Run.Member):
		return ""
	case s.paused() || rollMode(s) != failover.ModeAutomatic || len(s.problems) > 0 || coolingDown(s) != "":
		return ""
	case !agreed(s, serving) || !redundant(s).ok || changing(s) != "" || !settled(s) || len(renewals(s)) > 0:
		return ""
	}
	for _, name := range zone {
		if !goes(s, name) && unsuited(s, name) == "" {
			return name
		}
	}
	return ""
}

// failBackAfter is how long all must have been well: the declared time, doubled for each time that the primary came back in the last ten of
// these. A zone that it has to leave again and again is not better for it.
func failBackAfter(s *scope) time.Duration {
	base := time.Duration(*s.effective.Spec.Placement.FailBackAfterSeconds) * time.Second
	after := base
	for i := range s.failovers {
		fo := &s.failovers[i]
		if cameBack(fo) && s.now.Sub(fo.CreationTimestamp.Time) < failBackRepeats*base {
			after = min(2*after, max(base, failBackMost))
		}
	}
	return after
}

func cameBack(fo *v1alpha1.Failover) bool {
	return fo.Labels[keys.LabelReason] == reasonPreferredZone && Over(fo) && failure(*fo) == ""
}
