package replicatedservice

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// ReasonNodeCordoned is why a primary is asked to hand over, in the Failover's label and the event.
const ReasonNodeCordoned = "NodeCordoned"

// cordonSettle is how long the primary of a node that was just cordoned is not asked yet. Whoever drains evicts next: the API server is busy with that, and the
// handover's two writes would queue behind it while clients wait. The primary's own pod is mostly evicted meanwhile, and then its agent hands over
// by itself, once the API server is calm (docs/design/2026-11-29-drains.md). It knows of no nodes: where another member is on one that is emptied too, the
// primary is asked at once, with a target.
const cordonSettle = 1500 * time.Millisecond

// leaveStep is what comes next about a primary whose node is to be emptied.
type leaveStep struct {
	ask    bool
	target string
	node   string // why the node is left, for people
	stays  string // why the primary stays there for longer, for people; what passes by itself is not told
}

// leaveNode lets the primary hand over before its node is emptied.
func (r *Reconciler) leaveNode(ctx context.Context, s *scope) error {
	step := nextLeave(s)
	if step.stays != "" {
		s.stays = step.node + ", and the primary stays: " + step.stays
	}
	if !step.ask {
		return nil
	}
	from := s.server().Run.Member
	fo, err := r.askForSwitchover(ctx, s, switchover{kind: "drain", reason: ReasonNodeCordoned, target: step.target})
	if fo == nil || err != nil {
		return err
	}
	ctrl.LoggerFrom(ctx).Info("the primary is asked to leave its node", "member", from, "reason", step.node, "target", step.target, "failover", fo.Name)
	r.Recorder.Eventf(s.svc, fo, corev1.EventTypeNormal, ReasonNodeCordoned, "Handover",
		"%s: Failover %s asks primary %s to hand over to %s", step.node, fo.Name, from, step.target)
	return nil
}

// nextLeave decides on what is known now. Nothing brings the primary back when its node is open again.
func nextLeave(s *scope) leaveStep {
	serving := s.server()
	if serving == nil || s.count() < 2 {
		return leaveStep{}
	}
	pod := s.pods[serving.Run.Member]
	if pod == nil || string(pod.UID) != serving.Run.PodUID || pod.DeletionTimestamp != nil {
		return leaveStep{} // an ending pod's agent hands over by itself
	}
	step := leaveStep{node: parting(s.nodes[pod.Spec.NodeName], pod)}
	if step.node == "" {
		s.memory.parting = podSeen{}
		return leaveStep{}
	}
	if s.memory.parting.pod != pod.UID {
		s.memory.parting = podSeen{at: s.now, pod: pod.UID}
	}
	switch {
	case s.paused():
		step.stays = "nothing is changed while spec.state is Paused"
		return step
	case rollMode(s) != failover.ModeAutomatic:
		step.stays = fmt.Sprintf("the policy's mode is %s: create a Failover of type Switchover; an eviction makes it hand over too", rollMode(s))
		return step
	case !agreed(s, serving) || !redundant(s).ok || changing(s) != "":
		return step
	}
	return leaveFor(s, step)
}

// leaveFor finds a member to hand over to, and asks again after a failure.
func leaveFor(s *scope, step leaveStep) leaveStep {
	step.target, step.stays = shelter(s)
	if step.target == "" {
		return step
	}
	step.stays = askedLately(s, "drain")
	left := cordonSettle - s.now.Sub(s.memory.parting.at)
	if left > 0 && allSuit(s) {
		s.lookIn(left)
		return step
	}
	step.ask = step.stays == ""
	return step
}

// agreed reports whether Lease, member and route name the same primary, so that no change is under way.
func agreed(s *scope, serving *wire.Status) bool {
	return s.register != nil && s.register.Holder == serving.Run && s.register.Epoch == serving.Epoch && routed(s, s.slices, serving)
}

// shelter is the member to hand over to: of those that may take over, on a node that stays, one in the preferred zone,
// then the lowest ordinal. Without one it says why.
func shelter(s *scope) (target, why string) {
	var refused []string
	for _, name := range preferredFirst(s) {
		if holds(s, name) || goes(s, name) {
			continue
		}
		why := unsuited(s, name)
		if why == "" {
			return name, ""
		}
		refused = append(refused, why)
	}
	return "", "nobody to hand over to: " + strings.Join(refused, "; ")
}

// allSuit reports whether whoever the primary's agent may choose, which knows of no nodes, is on one that stays.
func allSuit(s *scope) bool {
	for _, name := range s.memberNames() {
		status := s.reports[name].Live()
		if !holds(s, name) && status != nil && status.Eligible && unsuited(s, name) != "" {
			return false
		}
	}
	return true
}

// unsuited says why a member is not one that the primary may be moved to, for people; empty: it is.
func unsuited(s *scope, name string) string {
	if !well(s, name) {
		return name + " cannot take over"
	}
	pod := s.pods[name]
	node := s.nodes[pod.Spec.NodeName]
	if node == nil {
		return fmt.Sprintf("%s is on node %s, which is not there any more", name, pod.Spec.NodeName)
	}
	if why := parting(node, pod); why != "" {
		return fmt.Sprintf("%s is no better off, since %s", name, why)
	}
	return ""
}
