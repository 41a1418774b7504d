package replicatedservice

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
)

// reasonScaleDown is why a primary is asked to hand over that is one of those to go.
const reasonScaleDown = "ScaleDown"

// declared is the number of members that the spec asks for.
func declared(svc *v1alpha1.ReplicatedService) int32 { return ptr.Deref(svc.Spec.Replicas, 3) }

// membersToRun is the number of members that are to run. They stay until the Lease names them no more: the pods of a voter or of a holder of data that counts are not ended.
func membersToRun(svc *v1alpha1.ReplicatedService, set *appsv1.StatefulSet, register *failover.Lease) int32 {
	need := declared(svc)
	if set == nil {
		return need
	}
	if register == nil { // it may be lost: nobody knows who counts
		return max(need, ptr.Deref(set.Spec.Replicas, 0))
	}
	for _, list := range [][]failover.MemberEntry{register.Terms.Members, register.Terms.Next} {
		for _, m := range list {
			if n, err := names.Ordinal(m.Name); err == nil {
				need = max(need, int32(n)+1) //nolint:gosec // a service has few members
			}
		}
	}
	return need
}

// goes reports whether a member is one of those that the spec asks for no more.
func goes(s *scope, member string) bool {
	n, err := names.Ordinal(member)
	return err == nil && n >= int(declared(s.svc))
}

// scaleStep is what comes next about a primary that is to go.
type scaleStep struct {
	target string // empty: nobody is asked
	stays  string // why it is not asked, for people
}

// shrink lets a primary that is to go hand over to a member that stays. The Lease follows when it has: it names no more than what is declared,
// and then the StatefulSet does.
func (r *Reconciler) shrink(ctx context.Context, s *scope) error {
	if s.count() > declared(s.svc) {
		s.waiting = append(s.waiting, fmt.Sprintf("members above spec.replicas %d to leave", declared(s.svc)))
	}
	step := nextShrink(s)
	if step.stays != "" {
		s.stays = "spec.replicas no longer includes the primary, which stays: " + step.stays
	}
	if step.target == "" {
		return nil
	}
	from := s.server().Run.Member
	fo, err := r.askForSwitchover(ctx, s, switchover{kind: "scale", reason: reasonScaleDown, target: step.target})
	if fo == nil || err != nil {
		return err
	}
	ctrl.LoggerFrom(ctx).Info("the primary is asked to hand over, since it is to go", "member", from, "target", step.target, "failover", fo.Name)
	r.Recorder.Eventf(s.svc, fo, corev1.EventTypeNormal, reasonScaleDown, "Handover",
		"spec.replicas is %d: Failover %s asks primary %s to hand over to %s", declared(s.svc), fo.Name, from, step.target)
	return nil
}

// nextShrink decides on what is known now.
func nextShrink(s *scope) scaleStep {
	serving := s.server()
	if serving == nil || !goes(s, serving.Run.Member) {
		return scaleStep{}
	}
	switch {
	case s.paused():
		return scaleStep{stays: "nothing is changed while spec.state is Paused"}
	case rollMode(s) != failover.ModeAutomatic:
		return scaleStep{stays: fmt.Sprintf("the policy's mode is %s: create a Failover of type Switchover to a member that stays", rollMode(s))}
	case !agreed(s, serving) || changing(s) != "":
		return scaleStep{}
	}
	if failures, last := requests(s, "scale"); failures > 0 {
		if left := pauseAfter(failures) - s.now.Sub(last.CreationTimestamp.Time); left > 0 {
			s.lookIn(left)
			return scaleStep{stays: "it is asked again to hand over in a while: " + failure(last)}
		}
	}
	return successor(s)
}

// successor is the lowest ordinal of those that stay and may take over.
func successor(s *scope) scaleStep {
	var refused []string
	for _, name := range s.memberNames() {
		switch {
		case goes(s, name):
		case well(s, name):
			return scaleStep{target: name}
		default:
			refused = append(refused, fmt.Sprintf("%s cannot take over (%s)", name, stateOf(s, name)))
		}
	}
	return scaleStep{stays: "nobody to hand over to: " + strings.Join(refused, "; ")}
}
