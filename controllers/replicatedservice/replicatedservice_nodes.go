package replicatedservice

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// podNode is the index of pods by the node they are on.
const podNode = "spec.nodeName"

// drainTaints are put on a node that is about to be drained, by kubectl cordon and by those who take nodes away: the cluster
// autoscaler, and Karpenter since v1 and before.
var drainTaints = []string{
	corev1.TaintNodeUnschedulable, "ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "karpenter.sh/disruption",
}

// faultTaints say that a node is in trouble, not that somebody wants it empty. What happens then is a failover's matter.
var faultTaints = []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeOutOfService}

// inTrouble reports whether a node has one of these.
func inTrouble(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return slices.Contains(faultTaints, t.Key) })
}

func taintOf(node *corev1.Node, key string) *corev1.Taint {
	for i := range node.Spec.Taints {
		if t := &node.Spec.Taints[i]; t.Key == key {
			return t
		}
	}
	return nil
}

// parting says why a pod has to leave its node soon, for people; empty: it may stay.
func parting(node *corev1.Node, pod *corev1.Pod) string {
	if node == nil {
		return ""
	}
	if node.Spec.Unschedulable {
		return fmt.Sprintf("node %s is cordoned", node.Name)
	}
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		evicts := taint.Effect == corev1.TaintEffectNoExecute && !slices.Contains(faultTaints, taint.Key) && !endures(pod, taint)
		if evicts || slices.Contains(drainTaints, taint.Key) {
			return fmt.Sprintf("node %s has the taint %s:%s", node.Name, taint.Key, taint.Effect)
		}
	}
	return ""
}

// endures reports whether a pod tolerates a taint for as long as it is there.
func endures(pod *corev1.Pod, taint *corev1.Taint) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return t.TolerationSeconds == nil && t.ToleratesTaint(klog.Background(), taint, false)
	})
}

// BareNode keeps of a Node what this package reads, so that thousands take little memory and their heartbeats are no news.
func BareNode(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	out := &corev1.Node{TypeMeta: node.TypeMeta}
	out.Name, out.UID, out.ResourceVersion = node.Name, node.UID, node.ResourceVersion
	if zone := node.Labels[corev1.LabelTopologyZone]; zone != "" {
		out.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	out.Spec.Unschedulable, out.Spec.Taints = node.Spec.Unschedulable, node.Spec.Taints
	return out, nil
}

// readNodes reads the nodes that the members are on.
func (r *Reconciler) readNodes(ctx context.Context, s *scope) error {
	s.nodes = map[string]*corev1.Node{}
	for _, pod := range s.pods {
		if err := r.readNode(ctx, s, pod.Spec.NodeName); err != nil {
			return err
		}
	}
	return nil
}

// readNode reads one, if there is such a node.
func (r *Reconciler) readNode(ctx context.Context, s *scope, name string) error {
	if name == "" || s.nodes[name] != nil {
		return nil
	}
	node := &corev1.Node{}
	err := r.Client.Get(ctx, types.NamespacedName{Name: name}, node)
	if err == nil {
		s.nodes[name] = node
	}
	return client.IgnoreNotFound(err)
}

func nodeOfPod(obj client.Object) []string {
	if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
		return []string{pod.Spec.NodeName}
	}
	return nil
}

// servicesOnNode finds the services with a member on a node.
func (r *Reconciler) servicesOnNode(ctx context.Context, obj client.Object) []reconcile.Request {
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.MatchingFields{podNode: obj.GetName()}); err != nil {
		return nil // the cache is not there yet; every service is looked at when it is
	}
	var out []reconcile.Request
	for i := range pods.Items {
		for _, req := range serviceOfLabel(ctx, &pods.Items[i]) {
			if !slices.Contains(out, req) {
				out = append(out, req)
			}
		}
	}
	return out
}
