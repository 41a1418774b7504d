package replicatedservice

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/names"
)

// How long a member may be away for a reason that usually passes by itself, before a person is told.
const (
	// nodeSilentFor is when Kubernetes gives up on a node's pods too (the default tolerationSeconds of the taints not-ready and unreachable).
	nodeSilentFor = 5 * time.Minute
	// endingFor is counted from the end of a pod's grace period.
	endingFor = 2 * time.Minute
	// unscheduledFor leaves a cluster autoscaler the time to add a node.
	unscheduledFor = 5 * time.Minute
	// unstartedFor is longer than the two minutes after which the kubelet tells that it cannot mount a volume.
	unstartedFor = 5 * time.Minute
	// endsFor is longer than the operator takes to make a pod anew whose container ends again and again, where it does.
	endsFor = 5 * time.Minute
	// behindFor is how long a replica may fail to come closer to the primary.
	behindFor = 10 * time.Minute
	// cameCloser: a replica comes closer when its lag falls by a tenth.
	cameCloser = 10
)

// awayProblems are members that do not come back by themselves, each with what a person can do. What an operator could do about them would be a guess: that
// a node is silent proves nothing of what runs on it.
func awayProblems(s *scope) []Problem {
	var out []Problem
	for _, name := range s.memberNames() {
		pod := s.pods[name]
		if pod == nil || well(s, name) {
			delete(s.memory.behind, name)
			continue
		}
		for _, look := range []func(*scope, *corev1.Pod) (Problem, time.Time){silentNode, stuckEnding, unscheduled, unstarted, keepsEnding, behind} {
			problem, since := look(s, pod)
			if problem.Reason == "" {
				continue
			}
			if s.now.Before(since) {
				s.lookAt(since)
			} else {
				out = append(out, problem)
			}
			break // the first that fits is what keeps it away
		}
	}
	return out
}

// silentNode: the node of a pod does not answer Kubernetes, and nobody says that it is out of service.
func silentNode(s *scope, pod *corev1.Pod) (Problem, time.Time) {
	node := s.nodes[pod.Spec.NodeName]
	if node == nil || taintOf(node, corev1.TaintNodeOutOfService) != nil {
		return Problem{}, time.Time{}
	}
	taint := cmp.Or(taintOf(node, corev1.TaintNodeUnreachable), taintOf(node, corev1.TaintNodeNotReady))
	if taint == nil || taint.TimeAdded == nil {
		return Problem{}, time.Time{}
	}
	return Problem{Reason: v1alpha1.ReasonNodeUnreachable, Message: fmt.Sprintf(
		"%s is on node %s, which has the taint %s since %s: bring the node back, and the member returns by itself; or, once it is certain that the machine is off and stays "+
			"off, say so, and the member moves: `kubectl taint node %s %s=nodeshutdown:NoExecute`", pod.Name, node.Name, taint.Key,
		taint.TimeAdded.UTC().Format(time.RFC3339), node.Name, corev1.TaintNodeOutOfService)}, taint.TimeAdded.Add(nodeSilentFor)
}

// stuckEnding: a pod that should have ended is still there, on a node that answers.
func stuckEnding(s *scope, pod *corev1.Pod) (Problem, time.Time) {
	if pod.DeletionTimestamp == nil || s.nodes[pod.Spec.NodeName] == nil {
		return Problem{}, time.Time{} // the pods of a node that is gone are removed by Kubernetes
	}
	remedy := fmt.Sprintf("see `kubectl describe pod %s -n %s` for what holds it, a volume that cannot be unmounted for instance. Deleting it by force proves nothing of its "+
		"processes: restart node %s, or make sure that it is off, before that", pod.Name, s.svc.Namespace, pod.Spec.NodeName)
	if held := pod.Finalizers; len(held) > 0 {
		remedy = fmt.Sprintf("its finalizers hold it (%s): see to it that who set them removes them", strings.Join(held, ", "))
	}
	return Problem{Reason: v1alpha1.ReasonMemberKeepsTerminating, Message: fmt.Sprintf("%s was to have ended at %s and is still there: %s", pod.Name,
		pod.DeletionTimestamp.UTC().Format(time.RFC3339), remedy)}, pod.DeletionTimestamp.Add(endingFor)
}

// unscheduled: no node takes a pod, for another reason than its volumes.
func unscheduled(_ *scope, pod *corev1.Pod) (Problem, time.Time) {
	if pod.Spec.NodeName != "" || waitsForVolume(pod) {
		return Problem{}, time.Time{}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return Problem{Reason: v1alpha1.ReasonMemberUnschedulable, Message: fmt.Sprintf("no node takes %s: %s. Make room for it, or ask for less in spec.template", pod.Name,
				strings.TrimSuffix(c.Message, "."))}, pod.CreationTimestamp.Add(unscheduledFor)
		}
	}
	return Problem{}, time.Time{}
}

// unstartable are reasons for which a kubelet does not start a container, other than its image's.
var unstartable = []string{"ContainerCreating", "PodInitializing", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}

// unstarted: a node does not get a pod's container to run.
func unstarted(s *scope, pod *corev1.Pod) (Problem, time.Time) {
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		w := c.State.Waiting
		if w == nil || !slices.Contains(unstartable, w.Reason) || (w.Reason == "PodInitializing" && len(pod.Status.InitContainerStatuses) > 0) {
			continue
		}
		why := strings.TrimSuffix(fmt.Sprintf("%s: %s", w.Reason, w.Message), ": ")
		return Problem{Reason: v1alpha1.ReasonMemberNotStarted, Message: fmt.Sprintf(
			"node %s does not start container %s of %s (%s): see the events of `kubectl describe pod %s -n %s`; a volume that is still attached to another node, or a Secret "+
				"that is missing, is told there", pod.Spec.NodeName, c.Name, pod.Name, why, pod.Name, s.svc.Namespace)}, startedTrying(pod).Add(unstartedFor)
	}
	return Problem{}, time.Time{}
}

// keepsEnding: a container ends again and again, and its pod is not made anew, since it is not the only member that is missing, or not one that may be.
func keepsEnding(s *scope, pod *corev1.Pod) (Problem, time.Time) {
	if !crashes(pod) {
		return Problem{}, time.Time{}
	}
	return Problem{Reason: v1alpha1.ReasonMemberKeepsEnding, Message: fmt.Sprintf("the container of %s ends again and again: %s. See `kubectl logs %s -n %s -c %s --previous` and put the cause right",
		pod.Name, lastEnd(pod), pod.Name, s.svc.Namespace, names.EngineContainer)}, startedTrying(pod).Add(endsFor)
}

// startedTrying is since when a node has had a pod and its containers have not run.
func startedTrying(pod *corev1.Pod) time.Time {
	since := pod.CreationTimestamp.Time
	for _, c := range pod.Status.Conditions {
		scheduled := c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue
		unready := c.Type == corev1.PodReady && c.Status == corev1.ConditionFalse
		if (scheduled || unready) && c.LastTransitionTime.After(since) {
			since = c.LastTransitionTime.Time
		}
	}
	return since
}

// lagSeen is the least lag that a replica had, and when.
type lagSeen struct {
	bytes int64
	at    time.Time
}

// behind: a replica follows the primary and does not come closer.
func behind(s *scope, pod *corev1.Pod) (Problem, time.Time) {
	status := s.reports[pod.Name].Live()
	if status == nil || status.Stuck != nil || len(status.ReadOnly) > 0 || status.LagBytes <= 0 || status.Serving {
		delete(s.memory.behind, pod.Name)
		return Problem{}, time.Time{}
	}
	least, known := s.memory.behind[pod.Name]
	if !known || status.LagBytes < least.bytes-least.bytes/cameCloser {
		least = lagSeen{status.LagBytes, s.now}
		if s.memory.behind == nil {
			s.memory.behind = map[string]lagSeen{}
		}
		s.memory.behind[pod.Name] = least
	}
	return Problem{Reason: v1alpha1.ReasonMemberBehind, Message: fmt.Sprintf(
		"%s is far behind the primary since %s and does not come closer: its disk, its processor or the network is slower than what is written. Give it what the primary has, write "+
			"less, or have it made anew: %s. What it waits for is in `kubectl logs %s -n %s -c %s`", pod.Name, least.at.UTC().Format(time.RFC3339), rebuild(s, pod.Name), pod.Name,
		s.svc.Namespace, names.EngineContainer)}, least.at.Add(behindFor)
}
