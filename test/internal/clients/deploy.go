// Package clients puts load clients into the cluster, on several nodes, and speaks to them.
package clients

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/test/internal/kube"
)

const (
	name  = "understudy-client"
	label = "app.kubernetes.io/name"
	port  = 8090

	// DefaultImage is what make images builds.
	DefaultImage = "docker.io/understudy/client:dev"
)

// Set is the clients of one namespace. There are three, kept apart, so that one is always on another node than the
// primary, wherever that moves to: a client on the primary's node would not go through the network, and would be lost
// with the node.
type Set struct {
	Cluster   *kube.Cluster
	Namespace string
	Image     string
}

// Ensure makes the clients and waits until two of them run, or one on a cluster of one node.
func (s Set) Ensure(ctx context.Context) error {
	want := s.deployment()
	var there appsv1.Deployment
	err := s.Cluster.Get(ctx, client.ObjectKeyFromObject(want), &there)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return fmt.Errorf("reading Deployment %s/%s: %w", s.Namespace, name, err)
	case err != nil:
		if err := s.Cluster.Create(ctx, want); err != nil {
			return fmt.Errorf("making the clients: %w", err)
		}
	default:
		there.Spec = want.Spec
		if err := s.Cluster.Update(ctx, &there); err != nil {
			return fmt.Errorf("renewing the clients: %w", err)
		}
	}
	var nodes corev1.NodeList
	if err := s.Cluster.List(ctx, &nodes); err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	need := min(2, len(nodes.Items))
	return kube.Until(ctx, 2*time.Minute, "the load clients (image "+s.Image+") to run", func(ctx context.Context) (bool, string, error) {
		ready, seen, err := s.ready(ctx)
		return len(ready) >= need, seen, err
	})
}

// Remove deletes the clients.
func (s Set) Remove(ctx context.Context) error {
	err := s.Cluster.Delete(ctx, s.deployment(), client.PropagationPolicy(metav1.DeletePropagationBackground))
	return client.IgnoreNotFound(err)
}

func (s Set) deployment() *appsv1.Deployment {
	labels := map[string]string{label: name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](3),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					AutomountServiceAccountToken:  ptr.To(false),
					TerminationGracePeriodSeconds: ptr.To[int64](1),
					// One a node even while a node is off: a client that was put beside another one would stay there.
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
						LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
					SecurityContext: &corev1.PodSecurityContext{
						RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](65532),
						SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					},
					Containers: []corev1.Container{{
						Name: "client", Image: s.Image, ImagePullPolicy: corev1.PullIfNotPresent,
						Ports: []corev1.ContainerPort{{Name: "control", ContainerPort: port}},
						Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
							// What measures must not wait for the processor longer than what is measured.
							corev1.ResourceCPU: resource.MustParse("200m"), corev1.ResourceMemory: resource.MustParse("16Mi"),
						}},
						SecurityContext: &corev1.SecurityContext{
							AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
							Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
						},
					}},
				},
			},
		},
	}
}

// ready lists the running client pods.
func (s Set) ready(ctx context.Context) ([]corev1.Pod, string, error) {
	var pods corev1.PodList
	if err := s.Cluster.List(ctx, &pods, client.InNamespace(s.Namespace), client.MatchingLabels{label: name}); err != nil {
		return nil, "", fmt.Errorf("listing the load clients: %w", err)
	}
	var out []corev1.Pod
	seen := "no pod"
	for i := range pods.Items {
		pod := pods.Items[i]
		if pod.DeletionTimestamp == nil && kube.PodReady(&pod) {
			out = append(out, pod)
			continue
		}
		seen = fmt.Sprintf("pod %s is %s", pod.Name, pod.Status.Phase)
		for _, c := range pod.Status.ContainerStatuses {
			if w := c.State.Waiting; w != nil {
				seen += ": " + w.Reason + ": " + w.Message
			}
		}
	}
	return out, fmt.Sprintf("%d run; %s", len(out), seen), nil
}
