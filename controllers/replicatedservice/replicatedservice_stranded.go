package replicatedservice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/names"
)

const (
	// strandedFor is how long a pod must have waited for a volume of a node that is gone: nodes are registered anew, too.
	strandedFor = 30 * time.Second
	// strandedAgain is when a member that was given an empty volume may be given another one.
	strandedAgain = time.Hour

	reasonVolumeReplaced = "VolumeReplaced"

	// selectedNode is the scheduler's note, on a claim, of the node that its volume was made for.
	selectedNode = "volume.kubernetes.io/selected-node"
)

// volumeConflicts are in the scheduler's message when no node that is there can reach a pod's volume, in older and in newer Kubernetes.
var volumeConflicts = []string{"volume node affinity conflict", "didn't match PersistentVolume's node affinity"}

// stranded is a member that cannot come back since its volumes are on a node that is gone for good.
type stranded struct {
	member, node string
	claims       []*corev1.PersistentVolumeClaim
	// gone says what is known of the node, for people.
	gone string
}

// readClaims reads the claims of pods that wait for a node, and the nodes of those claims.
func (r *Reconciler) readClaims(ctx context.Context, s *scope) error {
	s.claims = map[string][]*corev1.PersistentVolumeClaim{}
	if s.svc.Spec.Storage == nil {
		return nil
	}
	for _, pod := range s.pods {
		if !waitsForVolume(pod) {
			continue
		}
		for _, volume := range wantedSizes(s.svc.Spec.Storage) {
			claim := &corev1.PersistentVolumeClaim{}
			err := r.Client.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: names.Claim(volume.template, pod.Name)}, claim)
			if client.IgnoreNotFound(err) != nil {
				return err
			}
			if err == nil {
				s.claims[pod.Name] = append(s.claims[pod.Name], claim)
			}
		}
	}
	for _, claims := range s.claims {
		for _, claim := range claims {
			if err := r.readNode(ctx, s, claim.Annotations[selectedNode]); err != nil {
				return err
			}
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

// gone says that a node does not come back, by what Kubernetes has of it; empty: it may.
func gone(node *corev1.Node) string {
	switch {
	case node == nil:
		return "does not exist any more"
	case slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == corev1.TaintNodeOutOfService && t.Effect == corev1.TaintEffectNoExecute
	}):
		return "is out of service"
	}
	return ""
}

// nextStranded is the member to give an empty volume now, while all others are well; or what a person has to look into.
func nextStranded(s *scope) (*stranded, *Problem) {
	member := loneIll(s, func(name string) bool { return len(s.claims[name]) > 0 })
	if member == "" {
		return nil, nil
	}
	found := &stranded{member: member}
	for _, claim := range s.claims[member] {
		node := claim.Annotations[selectedNode]
		if why := gone(s.nodes[node]); node != "" && why != "" && claim.Status.Phase == corev1.ClaimBound && claim.DeletionTimestamp == nil {
			found.claims, found.node, found.gone = append(found.claims, claim), node, why
		}
	}
	if len(found.claims) == 0 {
		return nil, nil
	}
	if left := strandedFor - s.now.Sub(s.pods[member].CreationTimestamp.Time); left > 0 {
		s.lookIn(left)
		return nil, nil
	}
	if last, tried := s.memory.replaced[member]; tried && s.now.Sub(last) < strandedAgain {
		s.lookAt(last.Add(strandedAgain))
		return nil, &Problem{Reason: v1alpha1.ReasonMemberStranded, Message: fmt.Sprintf(
			"%s waits for a volume on node %s, which %s, although it was given an empty one not long ago: see `kubectl describe pod %s -n %s`; to have the member "+
				"made anew all the same: %s", member, found.node, found.gone, member, s.svc.Namespace, rebuild(s, member))}
	}
	return found, nil
}

// replaceStranded gives a member whose volumes are on a node that is gone for good empty ones, so that it copies the primary elsewhere.
func (r *Reconciler) replaceStranded(ctx context.Context, s *scope) error {
	found, problem := nextStranded(s)
	if problem != nil {
		s.problems = append(s.problems, *problem)
	}
	if found == nil {
		return nil
	}
	if still, err := r.stillGone(ctx, found); !still || err != nil {
		s.lookIn(strandedFor)
		return err
	}
	if same, err := r.asSeen(ctx, s, found.member); !same || err != nil {
		s.retry = true
		return err
	}
	var all error
	var claimNames []string
	for _, claim := range found.claims {
		uid := claim.UID
		claimNames = append(claimNames, claim.Name)
		all = errors.Join(all, client.IgnoreNotFound(r.Client.Delete(ctx, claim, client.Preconditions{UID: &uid})))
	}
	pod := s.pods[found.member]
	uid := pod.UID
	if all = errors.Join(all, client.IgnoreNotFound(r.Client.Delete(ctx, pod, client.Preconditions{UID: &uid}))); all != nil {
		return fmt.Errorf("giving %s an empty volume: %w", found.member, all)
	}
	if s.memory.replaced == nil {
		s.memory.replaced = map[string]time.Time{}
	}
	s.memory.replaced[found.member] = s.now
	ctrl.LoggerFrom(ctx).Info("a member whose volumes were on a node that is gone begins with empty ones", "pod", found.member, "node", found.node, "claims", claimNames)
	r.Recorder.Eventf(s.svc, pod, corev1.EventTypeWarning, reasonVolumeReplaced, "Heal",
		"%s is made anew with an empty volume, and copies the primary: PersistentVolumeClaim %s was on node %s, which %s",
		found.member, strings.Join(claimNames, ", "), found.node, found.gone)
	return nil
}

// stillGone asks the API server itself.
func (r *Reconciler) stillGone(ctx context.Context, found *stranded) (bool, error) {
	node := &corev1.Node{}
	err := r.Live.Get(ctx, types.NamespacedName{Name: found.node}, node)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading node %s before the volumes of %s are given up: %w", found.node, found.member, err)
	}
	return gone(node) != "", nil
}
