package replicatedservice

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/workload"
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

// renew deletes a member's pod. Whether it became the primary a moment ago is read anew.
func (r *Reconciler) renew(ctx context.Context, s *scope, member string) error {
	pod, alone := s.pods[member], s.count() == 1
	if !alone && !idle(s, member) {
		obj, err := r.liveLease(ctx, s.svc)
		if err != nil {
			return err
		}
		if obj == nil || readable(ctx, obj).Holder.Member == member {
			s.retry = true
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
	note := fmt.Sprintf("pod %s is made anew, since it runs something older than the spec", member)
	if alone {
		note += "; it is the only member, so there are no writes until it is back"
	}
	r.Recorder.Eventf(s.svc, pod, corev1.EventTypeNormal, "MemberRenewed", "Roll", "%s", note)
	return nil
}

// askToHandOver makes a Failover with a name that the next look, or another operator, would give it too.
func (r *Reconciler) askToHandOver(ctx context.Context, s *scope) error {
	number := 1
	for _, fo := range s.failovers {
		if fo.Name == rollName(s, strconv.Itoa(number)) {
			number++
		}
	}
	fo := &v1alpha1.Failover{
		ObjectMeta: workload.Meta(s.svc, rollName(s, strconv.Itoa(number)), "failover"),
		Spec: v1alpha1.FailoverSpec{
			ServiceRef: v1alpha1.LocalReference{Name: s.svc.Name}, Type: v1alpha1.TypeSwitchover,
		},
	}
	if err := r.Client.Create(ctx, fo, apply.FieldOwner); err != nil {
		if apierrors.IsAlreadyExists(err) {
			s.retry = true
			return nil
		}
		return fmt.Errorf("asking the primary of %s to hand over for a roll: %w", s.svc.Name, err)
	}
	r.Recorder.Eventf(s.svc, fo, corev1.EventTypeNormal, "RollHandover", "Roll", "the primary is the last with something older than the spec: Failover %s asks it to hand over", fo.Name)
	return nil
}
