package replicatedservice

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/policy"
)

// reasonScaleDown is why a primary is asked to hand over that is one of those to go.
const reasonScaleDown = "ScaleDown"

// declared is the number of members that the spec asks for.
func declared(svc *v1alpha1.ReplicatedService) int32 { return ptr.Deref(svc.Spec.Replicas, 3) }

// membersToRun is the number of members that are to run: those that are declared, and those of which it is known no better than that they may
// vote, or have data that counts. Until the Lease names them no more their pods and volumes stay.
func (s *scope) membersToRun() int32 {
	need := declared(s.svc)
	need = max(need, upTo(s.named()))
	if !s.sureOfMembers() {
		if s.set != nil {
			need = max(need, ptr.Deref(s.set.Spec.Replicas, 0))
		}
		need = max(need, upTo(slices.Collect(maps.Keys(s.pods))))
	}
	return need
}

// sureOfMembers reports whether the Lease can be believed about who the members are: it is there, and not one from before.
func (s *scope) sureOfMembers() bool {
	l := s.register
	if l == nil || len(l.Terms.Members) == 0 {
		return s.set == nil && s.svc.Status.Primary == nil // it has not begun
	}
	return l.Epoch >= s.knownEpoch(s.routedEpoch())
}

// named are all members that the Lease names: as members now or soon, or as those that have data that counts.
func (s *scope) named() []string {
	if s.register == nil {
		return nil
	}
	t := s.register.Terms
	var out []string
	for _, list := range [][]failover.MemberEntry{t.Members, t.Next} {
		for _, m := range list {
			out = append(out, m.Name)
		}
	}
	for _, set := range t.Sets {
		out = append(out, set.Primary)
		out = slices.AppendSeq(out, maps.Keys(set.Replicas))
	}
	return out
}

// upTo is how many members there must be for all of these to be among them.
func upTo(members []string) int32 {
	var most int32
	for _, name := range members {
		if n, err := names.Ordinal(name); err == nil {
			most = max(most, int32(n)+1) //nolint:gosec // a service has few members
		}
	}
	return most
}

// leastOf is the list of members that the Lease is to name by now: those that are declared, and fewer than it names only when nothing is lost by
// that. The sentence says what is waited for.
func leastOf(s *scope, have *failover.Lease) (want []failover.MemberEntry, waits string) {
	want = policy.Members(s.svc.Name, declared(s.svc))
	if have == nil || have.Epoch == 0 || !slices.ContainsFunc(have.Terms.Members, func(m failover.MemberEntry) bool { return goes(s, m.Name) }) {
		return want, ""
	}
	most := int(declared(s.svc)) - 1
	quorum := have.Terms.Quorum
	if set := have.Terms.Set(); set != nil {
		quorum = max(quorum, set.Quorum)
	}
	switch {
	case max(have.Terms.MinReplicasToWrite, int(ptr.Deref(s.policy.MinReplicasToWrite, 0))) > most:
		waits = fmt.Sprintf("a FailoverPolicy with minReplicasToWrite of at most %d, before members leave", most)
	case quorum > most:
		waits = fmt.Sprintf("the primary to need no more than %d replicas for a write, before members leave", most)
	default:
		for _, m := range want {
			if !well(s, m.Name) {
				waits = fmt.Sprintf("%s to be well (%s), before members leave", m.Name, stateOf(s, m.Name))
				break
			}
		}
	}
	if waits != "" {
		return have.Terms.Members, waits
	}
	return want, ""
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
	if _, waits := leastOf(s, s.register); waits != "" {
		s.waiting = append(s.waiting, waits)
	} else if s.count() > declared(s.svc) {
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
	if why := askedLately(s, "scale"); why != "" {
		return scaleStep{stays: why}
	}
	return successor(s)
}

// successor is, of those that stay and may take over, one in the preferred zone, then the lowest ordinal.
func successor(s *scope) scaleStep {
	var refused []string
	for _, name := range preferredFirst(s) {
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
