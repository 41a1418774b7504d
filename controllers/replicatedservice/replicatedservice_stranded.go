package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/names"
)

const (
	// strandedFor is how long a pod may wait for its volume before a person is told: a node may be on its way.
	strandedFor = 30 * time.Second
	// askStrandedAgain is when a stranded member's volume is looked at again: no pod of the service is on its node, whose end is no news of the
	// service's, and volumes are not watched.
	askStrandedAgain = 10 * time.Second
	// selectedNode is the scheduler's note, on a claim, of the node that its volume was made for.
	selectedNode = "volume.kubernetes.io/selected-node"
)

// volumeConflicts are in the scheduler's message when no node that is there can reach a pod's volume, in older and in newer Kubernetes, or when
// the volume does not exist.
var volumeConflicts = []string{"volume node affinity conflict", "didn't match PersistentVolume's node affinity", "bound to non-existent p"}

// readClaims reads the claims of pods that wait for a node or whose volumes refuse writes, their volumes, and the nodes that these were made for.
func (r *Reconciler) readClaims(ctx context.Context, s *scope) error {
	s.stranded = map[string][]strandedVolume{}
	for _, pod := range s.pods {
		refusing := readOnly(s, pod.Name)
		if s.svc.Spec.Storage == nil || (!waitsForVolume(pod) && len(refusing) == 0) {
			continue
		}
		for _, volume := range wantedSizes(s.svc.Spec.Storage) {
			claim := &corev1.PersistentVolumeClaim{}
			err := r.Client.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: names.Claim(volume.template, pod.Name)}, claim)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err == nil {
				err = r.readNode(ctx, s, claim.Annotations[selectedNode])
			}
			if err != nil {
				return err
			}
			found := r.readVolume(ctx, claim)
			found.refuses = slices.Contains(refusing, volume.template)
			s.stranded[pod.Name] = append(s.stranded[pod.Name], found)
		}
	}
	return nil
}

// waitsForVolume reports whether the scheduler found no node that reaches a pod's volume.
func waitsForVolume(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		unscheduled := c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse
		return unscheduled && slices.ContainsFunc(volumeConflicts, func(words string) bool { return strings.Contains(c.Message, words) })
	})
}

// strandedProblems are members that cannot come back since no node reaches their volumes, and that do not begin anew by themselves: whether a
// node that still has its Node is gone for good, and whether what only that copy has may go with it, is a person's to say.
func strandedProblems(s *scope) []Problem {
	var out []Problem
	for _, member := range s.memberNames() {
		pod := s.pods[member]
		if pod == nil || !waitsForVolume(pod) {
			continue
		}
		if left := strandedFor - s.now.Sub(pod.CreationTimestamp.Time); left > 0 {
			s.lookIn(left)
			continue
		}
		s.lookIn(askStrandedAgain)
		if len(s.problems) == 0 && beginsAnew(s, member) {
			s.waiting = append(s.waiting, fmt.Sprintf("%s to begin anew with fresh volumes%s", member, volumesOf(s, member)))
			continue
		}
		out = append(out, Problem{Reason: v1alpha1.ReasonMemberStranded, Message: fmt.Sprintf(
			"%s waits for its volume, which no node that is there can reach%s. Bring the volume's node back; or, if it is gone for good, have the member made anew "+
				"from the primary on another node: %s", member, volumesOf(s, member), rebuild(s, member))})
	}
	return out
}

// volumesOf says where a member's volumes are, as far as anybody noted that, for people.
func volumesOf(s *scope, member string) string {
	var told []string
	for _, v := range s.stranded[member] {
		claim := v.claim
		node := claim.Annotations[selectedNode]
		switch found := s.nodes[node]; {
		case v.refuses:
			told = append(told, fmt.Sprintf("PersistentVolumeClaim %s on node %s", claim.Name, nodeOf(s, member)))
		case v.lost():
			told = append(told, fmt.Sprintf("PersistentVolumeClaim %s is bound to PersistentVolume %s, which does not exist any more", claim.Name, claim.Spec.VolumeName))
		case node == "":
		case found == nil:
			told = append(told, fmt.Sprintf("PersistentVolumeClaim %s was made for node %s, which does not exist any more", claim.Name, node))
		case taintOf(found, corev1.TaintNodeOutOfService) != nil:
			told = append(told, fmt.Sprintf("PersistentVolumeClaim %s was made for node %s, which is declared out of service", claim.Name, node))
		default:
			told = append(told, fmt.Sprintf("PersistentVolumeClaim %s was made for node %s", claim.Name, node))
		}
	}
	if len(told) == 0 {
		return ""
	}
	return " (" + strings.Join(told, "; ") + ")"
}
