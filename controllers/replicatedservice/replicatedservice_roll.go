package replicatedservice

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
)

// roll renews members whose pods or engines run something older than the spec.
func (r *Reconciler) roll(ctx context.Context, s *scope) error {
	step := nextRoll(s)
	s.rolling = step.why
	switch step.act {
	case rollRenews:
		return r.renew(ctx, s, step.member)
	case rollHandsOver:
		return r.askToHandOver(ctx, s)
	case rollStops:
		s.problems = append(s.problems, Problem{Reason: v1alpha1.ReasonRollStopped, Message: step.why})
	case rollRests, rollWaits:
	}
	return nil
}

// renew deletes a member's pod. That it is no primary is read anew: it may have taken over a moment ago.
func (r *Reconciler) renew(ctx context.Context, s *scope, member string) error {
	pod := s.pods[member]
	if s.count() > 1 && well(s, member) {
		lease, err := r.liveLease(ctx, s.svc)
		if err != nil {
			return err
		}
		if lease != nil && lease.Spec.HolderIdentity != nil && s.register != nil && lease.ResourceVersion != s.register.Version {
			s.retry = true // it changed since it was looked at
			return nil
		}
	}
	uid := pod.UID
	err := r.Client.Delete(ctx, pod, client.Preconditions{UID: &uid})
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	s.memory.calmFor = ""
	ctrl.LoggerFrom(ctx).Info("a member is renewed", "pod", member, "uid", uid)
	r.Recorder.Eventf(s.svc, pod, corev1.EventTypeNormal, "MemberRenewed", "Roll", "pod %s is made anew, since it runs something older than the spec", member)
	return nil
}

// askToHandOver lets the primary hand over to a member that was renewed.
func (r *Reconciler) askToHandOver(ctx context.Context, s *scope) error {
	fo, err := r.askForSwitchover(ctx, s, switchover{kind: rollKind, reason: "Roll"})
	if fo == nil || err != nil {
		return err
	}
	r.Recorder.Eventf(s.svc, fo, corev1.EventTypeNormal, "RollHandover", "Roll", "the primary is the last with something older than the spec: Failover %s asks it to hand over", fo.Name)
	return nil
}
