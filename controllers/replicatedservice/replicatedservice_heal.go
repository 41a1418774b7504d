package replicatedservice

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
)

const (
	// healTries is how often within healWindow a member's pod is made anew because its container ends again and again. More would
	// hide a fault that a new pod does not mend.
	healTries  = 3
	healWindow = time.Hour
	// hungFor is how long an agent may answer nobody, in a container that runs on a node that answers, before its pod is made anew.
	hungFor = time.Minute

	reasonMemberRecreated = "MemberRecreated"
)

// heal makes the pod of a member anew whose container the kubelet holds back, since each end makes it wait longer, up to five minutes, or whose
// agent hangs, which nothing else would end.
func (r *Reconciler) heal(ctx context.Context, s *scope) error {
	member, problem := nextHeal(s)
	if problem != nil {
		s.problems = append(s.problems, *problem)
	}
	if member == "" {
		if would := dryHeal(s); would != "" {
			s.waiting = append(s.waiting, fmt.Sprintf("another mode than DryRun, in which %s would be made anew: %s", would, ailment(s, s.pods[would])))
		}
		return nil
	}
	may, undo, err := r.mayDisrupt(ctx, s, member, r.asSeen)
	if !may || err != nil {
		return err
	}
	pod := s.pods[member]
	uid := pod.UID
	if err := r.Client.Delete(ctx, pod, client.Preconditions{UID: &uid}); err != nil {
		if undone(err) {
			undo()
		}
		return client.IgnoreNotFound(err)
	}
	try, most := noteHealed(s, member, uid)
	ctrl.LoggerFrom(ctx).Info("a member that does not come back is made anew", "why", ailment(s, pod), "pod", member, "uid", uid, "try", try)
	r.Recorder.Eventf(s.svc, pod, corev1.EventTypeWarning, reasonMemberRecreated, "Heal",
		"pod %s is made anew (%d of %d times within %s): %s", member, try, most, healWindow, ailment(s, pod))
	return nil
}

// noteHealed counts what was done, and says how often it has been and may be.
func noteHealed(s *scope, member string, pod types.UID) (try, most int) {
	if len(readOnly(s, member)) > 0 {
		if s.memory.remounted == nil {
			s.memory.remounted = map[string]podSeen{}
		}
		s.memory.remounted[member] = podSeen{at: s.now, pod: pod}
		return 1, 1
	}
	if s.memory.healed == nil {
		s.memory.healed = map[string][]time.Time{}
	}
	s.memory.healed[member] = append(s.memory.healed[member], s.now)
	return len(s.memory.healed[member]), healTries
}

// nextHeal is the member to make anew now, one at a time and only while all others are well; or what a person has to look into, until the
// member is well or the window is over.
func nextHeal(s *scope) (string, *Problem) {
	for name, tries := range s.memory.healed {
		for len(tries) > 0 && s.now.Sub(tries[0]) >= healWindow {
			tries = tries[1:]
		}
		s.memory.healed[name] = tries
	}
	member := held(s)
	if member == "" {
		return "", nil
	}
	tries := s.memory.healed[member]
	if len(tries) < healTries || len(readOnly(s, member)) > 0 {
		return member, nil
	}
	s.lookAt(tries[0].Add(healWindow))
	return "", &Problem{Reason: v1alpha1.ReasonMemberKeepsEnding, Message: fmt.Sprintf(
		"%s does not come back, in %d pods within %s: %s. See `kubectl logs %s -n %s -c %s --previous` and put the cause right; "+
			"or have the member made anew from the primary: %s", member, len(tries)+1, healWindow, ailment(s, s.pods[member]), member, s.svc.Namespace, names.EngineContainer, rebuild(s, member))}
}

// dryHeal is the member that would be made anew if the policy's mode were not DryRun.
func dryHeal(s *scope) string {
	if s.register == nil || rollMode(s) != failover.ModeDryRun {
		return ""
	}
	wet, register := *s, *s.register
	register.Terms.Mode, wet.register = failover.ModeAutomatic, &register
	return held(&wet)
}

// held is the one member that is not well, if it is a replica whose container the kubelet holds back, or did until a moment ago after as
// many new pods as are made, or whose agent hangs, or whose volume refuses writes, and nothing else is being changed or to be put right: never is more than one member healed at once. PostgreSQL's
// data without a volume goes with the pod, and may be all there is of what only a former primary had.
func held(s *scope) string {
	goesWithPod := s.effective.Spec.Storage == nil && s.effective.Spec.Engine.PostgreSQL != nil
	if goesWithPod || len(s.problems) > 0 || !undisturbed(s) || rollMode(s) == failover.ModeDryRun || len(renewals(s)) > 0 {
		return ""
	}
	found, failing := "", false
	for _, name := range s.memberNames() {
		pod := s.pods[name]
		ill := pod != nil && pod.DeletionTimestamp == nil && ails(s, pod)
		switch {
		case well(s, name):
			failing = failing || !sound(s, name)
		case found == "" && ill && !holds(s, name) && !goes(s, name):
			found = name
		default:
			return "" // another one is missing too
		}
	}
	if failing && len(readOnly(s, found)) > 0 {
		return "" // the primary's disk fails, and this one's data may be what is left
	}
	return found
}

// ails reports whether a pod may be mended by a new one, or was in vain.
func ails(s *scope, pod *corev1.Pod) bool {
	if len(readOnly(s, pod.Name)) > 0 {
		return remounts(s, pod.Name)
	}
	return crashes(pod) || hangs(s, pod) || len(s.memory.healed[pod.Name]) >= healTries
}

// undisturbed reports whether a primary serves and is routed, all members were asked, and nothing about the service is being changed.
func undisturbed(s *scope) bool {
	serving := s.server()
	return !s.paused() && s.heard() && s.register != nil && len(s.register.Terms.Next) == 0 && changing(s) == "" && settled(s) &&
		serving != nil && routed(s, s.slices, serving)
}

// ailment says why a pod is made anew, for people.
func ailment(s *scope, pod *corev1.Pod) string {
	switch {
	case crashes(pod):
		return lastEnd(pod) + ", and the kubelet waits longer each time before it starts it again"
	case len(readOnly(s, pod.Name)) > 0:
		return fmt.Sprintf("its volume %s refuses writes (read-only file system)", strings.Join(readOnly(s, pod.Name), ", "))
	case hangs(s, pod):
		return "its container runs, and its agent answers nobody"
	}
	return "the newest one has not become well yet"
}

// hangs reports whether a member's agent answers neither the operator nor the kubelet's probe, though its container runs and its node is well.
func hangs(s *scope, pod *corev1.Pod) bool {
	report, node := s.reports[pod.Name], s.nodes[pod.Spec.NodeName]
	begun := runsSince(pod)
	if begun.IsZero() || podReady(pod) || report.Live() != nil || !report.Tried || node == nil {
		return false
	}
	if inTrouble(node) {
		return false // what is on it is not known, and a pod that is deleted there does not end
	}
	left := hungFor - min(s.now.Sub(report.Since), s.now.Sub(begun))
	if left > 0 {
		s.lookIn(left)
	}
	return left <= 0
}

// runsSince is since when the engine's container runs; zero: it does not.
func runsSince(pod *corev1.Pod) time.Time {
	for _, c := range pod.Status.ContainerStatuses {
		if c.Name == names.EngineContainer && c.State.Running != nil {
			return c.State.Running.StartedAt.Time
		}
	}
	return time.Time{}
}

// lastEnd says how a pod's engine container ended last, for people.
func lastEnd(pod *corev1.Pod) string {
	for _, c := range pod.Status.ContainerStatuses {
		if t := c.LastTerminationState.Terminated; c.Name == names.EngineContainer && t != nil {
			return fmt.Sprintf("its container ended %d times, last with exit code %d (%s)", c.RestartCount+1, t.ExitCode, t.Reason)
		}
	}
	return "its container ended again and again"
}
