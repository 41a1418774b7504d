package replicatedservice

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/workload"
)

// roll renews members whose pods or engines run something older than the spec.
func (r *Reconciler) roll(ctx context.Context, s *scope) error {
	step := nextRoll(s)
	s.rolling = step.why
	switch step.act {
	case rollRenews:
		return r.renew(ctx, s, step.member)
	case rollsBack:
		return r.rollBack(ctx, s, step)
	case rollHandsOver:
		return r.askToHandOver(ctx, s)
	case rollStops:
		s.problems = append(s.problems, Problem{Reason: v1alpha1.ReasonRollStopped, Message: step.why})
	case rollRests, rollWaits:
	}
	return nil
}

// renew deletes a member's pod.
func (r *Reconciler) renew(ctx context.Context, s *scope, member string) error {
	pod, alone := s.pods[member], s.count() == 1
	undo := func() {}
	if !alone && !idle(s, member) {
		if broken := r.disruptions.spoilt(s, member, r.AgentImage); broken != nil {
			s.problems = append(s.problems, Problem{Reason: v1alpha1.ReasonBudgetExhausted, Message: fmt.Sprintf(
				"%s is not renewed: the agent %s, which it would get, broke a member each of as many services as budget.maxDisruptions.perCluster allows, and they got their former one "+
					"back (%s). Set the operator back to a version whose agent works", member, r.AgentImage, firstOf(broken))})
			s.lookIn(time.Minute)
			return nil
		}
		may, revert, err := r.mayDisrupt(ctx, s, member, r.asSeen)
		if !may || err != nil {
			return err
		}
		undo = revert
	}
	uid := pod.UID
	err := r.Client.Delete(ctx, pod, client.Preconditions{UID: &uid})
	if err != nil {
		if undone(err) {
			undo()
		}
		return client.IgnoreNotFound(err)
	}
	s.memory.calmFor = ""
	if s.memory.illBefore == nil {
		s.memory.illBefore = map[string]bool{}
	}
	s.memory.illBefore[member] = !well(s, member)
	ctrl.LoggerFrom(ctx).Info("a member is renewed", "pod", member, "uid", uid)
	note := fmt.Sprintf("pod %s is made anew, since it runs something older than the spec", member)
	if alone {
		note += "; it is the only member, so there are no writes until it is back"
	}
	r.Recorder.Eventf(s.svc, pod, corev1.EventTypeNormal, "MemberRenewed", "Roll", "%s", note)
	return nil
}

// asSeen asks the API server whether a member may still go: it may have become the primary a moment ago, and another one may have
// been evicted.
func (r *Reconciler) asSeen(ctx context.Context, s *scope, member string) (bool, error) {
	lease, err := r.liveLease(ctx, s.svc)
	if err != nil || lease == nil || readable(ctx, lease).Holder.Member == member {
		return false, err
	}
	pods := &corev1.PodList{}
	if err := r.Live.List(ctx, pods, client.InNamespace(s.svc.Namespace), client.MatchingLabels(workload.Selector(s.svc.Name))); err != nil {
		return false, fmt.Errorf("listing the pods of %s before %s is renewed: %w", s.svc.Name, member, err)
	}
	stay := map[string]bool{}
	for _, pod := range pods.Items {
		seen := s.pods[pod.Name]
		stay[pod.Name] = seen != nil && seen.UID == pod.UID && pod.DeletionTimestamp == nil
	}
	for _, name := range s.memberNames() {
		if name != member && well(s, name) && !stay[name] {
			return false, nil
		}
	}
	return true, nil
}

// askToHandOver lets the primary hand over to a member that was renewed.
func (r *Reconciler) askToHandOver(ctx context.Context, s *scope) error {
	fo, err := r.askForSwitchover(ctx, s, switchover{kind: rollKind(s), reason: "Roll"})
	if fo == nil || err != nil {
		return err
	}
	r.Recorder.Eventf(s.svc, fo, corev1.EventTypeNormal, "RollHandover", "Roll", "the primary is the last with something older than the spec: Failover %s asks it to hand over", fo.Name)
	return nil
}
