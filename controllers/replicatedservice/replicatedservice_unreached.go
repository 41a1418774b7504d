package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// strandedVolume is one that a pod waits for, as the API server has it now.
type strandedVolume struct {
	claim  *corev1.PersistentVolumeClaim
	volume *corev1.PersistentVolume // nil: the claim has none
	// gone: the volume is one node's, and that node does not exist any more, or the volume does not exist itself.
	gone bool
	// refuses: what the member's engine writes to it is refused.
	refuses bool
	err     error // what keeps it from being known
}

// lost: the claim's volume was deleted.
func (v strandedVolume) lost() bool { return v.gone && v.volume == nil }

// useless reports whether one of a member's volumes is gone or refuses writes. The others are of no use without it.
func useless(volumes []strandedVolume) bool {
	gone := false
	for _, v := range volumes {
		if v.err != nil {
			return false
		}
		gone = gone || v.gone || v.refuses
	}
	return gone
}

func volumeNames(volumes []strandedVolume) []string {
	var out []string
	for _, v := range volumes {
		if v.volume != nil {
			out = append(out, v.volume.Name)
		}
	}
	return out
}

// readVolume reads the volume of a claim, and whether its node is gone. Volumes of others are not watched.
func (r *Reconciler) readVolume(ctx context.Context, claim *corev1.PersistentVolumeClaim) strandedVolume {
	found := strandedVolume{claim: claim}
	if claim.Spec.VolumeName == "" {
		return found
	}
	volume := &corev1.PersistentVolume{}
	err := r.Live.Get(ctx, types.NamespacedName{Name: claim.Spec.VolumeName}, volume)
	if apierrors.IsNotFound(err) {
		found.gone = true
		return found
	}
	if err == nil {
		found.volume = volume
		found.gone, err = r.goneWithNode(ctx, volume, claim.Annotations[selectedNode])
	}
	if err != nil {
		found.err = fmt.Errorf("reading PersistentVolume %s, which %s waits for: %w", claim.Spec.VolumeName, claim.Name, err)
		ctrl.LoggerFrom(ctx).Error(found.err, "a member's volume cannot be looked at")
	}
	return found
}

func (r *Reconciler) goneWithNode(ctx context.Context, volume *corev1.PersistentVolume, madeFor string) (bool, error) {
	if !ofOneNode(volume) {
		return false, nil
	}
	there, err := r.reachable(ctx, volume, madeFor)
	return err == nil && !there, err
}

// nodeKeys end the labels that tell one node from all others: kubernetes.io/hostname, and what drivers of local volumes call a node. A label that is not
// known may be an area's, whose next node reaches the volume: then a person is asked.
var nodeKeys = []string{"/hostname", "/node", "/nodename", "/node-name", "/nodeid", "/node-id"}

// ofOneNode reports whether each of the ways to reach a volume is through one node.
func ofOneNode(volume *corev1.PersistentVolume) bool {
	terms := nodeTerms(volume)
	for _, term := range terms {
		bound := len(term.MatchFields) > 0
		for _, e := range term.MatchExpressions {
			bound = bound || (e.Operator == corev1.NodeSelectorOpIn && slices.ContainsFunc(nodeKeys, func(end string) bool { return strings.HasSuffix(strings.ToLower(e.Key), end) }))
		}
		if !bound {
			return false
		}
	}
	return len(terms) > 0
}

func nodeTerms(volume *corev1.PersistentVolume) []corev1.NodeSelectorTerm {
	if volume.Spec.NodeAffinity == nil || volume.Spec.NodeAffinity.Required == nil {
		return nil
	}
	return volume.Spec.NodeAffinity.Required.NodeSelectorTerms
}

// reachable asks the API server whether a node is there that a volume can be reached from, or the one that it was made for, whatever that one's labels are now.
func (r *Reconciler) reachable(ctx context.Context, volume *corev1.PersistentVolume, madeFor string) (bool, error) {
	if madeFor != "" {
		err := r.Live.Get(ctx, types.NamespacedName{Name: madeFor}, &corev1.Node{})
		if !apierrors.IsNotFound(err) {
			return true, err
		}
	}
	for _, term := range nodeTerms(volume) {
		selector, err := selectorOf(term)
		if err != nil { // what is not understood says nothing of any node
			return true, nil
		}
		nodes := &corev1.NodeList{}
		if err := r.Live.List(ctx, nodes, client.MatchingLabelsSelector{Selector: selector}); err != nil {
			return true, fmt.Errorf("listing the nodes that reach PersistentVolume %s: %w", volume.Name, err)
		}
		for i := range nodes.Items {
			if named(term, nodes.Items[i].Name) {
				return true, nil
			}
		}
	}
	return false, nil
}

var operators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn, corev1.NodeSelectorOpExists: selection.Exists,
	corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist, corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
}

func selectorOf(term corev1.NodeSelectorTerm) (labels.Selector, error) {
	selector := labels.NewSelector()
	for _, e := range term.MatchExpressions {
		requirement, err := labels.NewRequirement(e.Key, operators[e.Operator], e.Values)
		if err != nil {
			return nil, err
		}
		selector = selector.Add(*requirement)
	}
	return selector, nil
}

// named reports whether a term's fields allow a node. The only field there is is metadata.name.
func named(term corev1.NodeSelectorTerm, node string) bool {
	for _, f := range term.MatchFields {
		in := false
		for _, value := range f.Values {
			in = in || value == node
		}
		if in != (f.Operator == corev1.NodeSelectorOpIn) {
			return false
		}
	}
	return true
}
