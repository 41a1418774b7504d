// Package operator finds the operator's Deployment and switches it off and on.
package operator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/test/internal/kube"
)

// Namespace is where make deploy installs the chart.
const Namespace = "understudy-system"

var labels = client.MatchingLabels{"app.kubernetes.io/name": "understudy", "app.kubernetes.io/component": "operator"}

// Find reads the Deployment.
func Find(ctx context.Context, c *kube.Cluster) (*appsv1.Deployment, error) {
	var all appsv1.DeploymentList
	if err := c.List(ctx, &all, client.InNamespace(Namespace)); err != nil {
		return nil, fmt.Errorf("listing Deployments in %s: %w", Namespace, err)
	}
	for i := range all.Items {
		if all.Items[i].Spec.Template.Labels["app.kubernetes.io/component"] == "operator" {
			return &all.Items[i], nil
		}
	}
	return nil, fmt.Errorf("no operator in namespace %s: install it with make deploy", Namespace)
}

// Pods of the operator.
func Pods(ctx context.Context, c *kube.Cluster) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := c.List(ctx, &pods, client.InNamespace(Namespace), labels); err != nil {
		return nil, fmt.Errorf("listing the operator's pods: %w", err)
	}
	return pods.Items, nil
}

// Scale sets the number of operators, waits until it is reached, and returns what it was.
func Scale(ctx context.Context, c *kube.Cluster, to int32) (before int32, err error) {
	deployment, err := Find(ctx, c)
	if err != nil {
		return 0, err
	}
	before = ptr.Deref(deployment.Spec.Replicas, 1)
	patch := client.MergeFrom(deployment.DeepCopy())
	deployment.Spec.Replicas = &to
	if err := c.Patch(ctx, deployment, patch); err != nil {
		return before, fmt.Errorf("scaling Deployment %s/%s to %d: %w", Namespace, deployment.Name, to, err)
	}
	what := fmt.Sprintf("the operator to be scaled to %d", to)
	return before, kube.Until(ctx, 2*time.Minute, what, func(ctx context.Context) (bool, string, error) {
		pods, err := Pods(ctx, c)
		ready := 0
		for i := range pods {
			if kube.PodReady(&pods[i]) {
				ready++
			}
		}
		return len(pods) == int(to) && ready == int(to), fmt.Sprintf("%d pods, %d ready", len(pods), ready), err
	})
}

// Arguments that tests change, as an upgrade of the chart does.
const (
	AgentImage             = "--agent-image"
	MaxConcurrentFailovers = "--max-concurrent-failovers"
)

// Argument is what the operator is given; empty: it is not.
func Argument(ctx context.Context, c *kube.Cluster, name string) (string, error) {
	deployment, err := Find(ctx, c)
	if err != nil {
		return "", err
	}
	for _, arg := range deployment.Spec.Template.Spec.Containers[0].Args {
		if value, found := strings.CutPrefix(arg, name+"="); found {
			return value, nil
		}
	}
	return "", nil
}

// SetArguments gives the operator other arguments; empty ones are left out.
func SetArguments(ctx context.Context, c *kube.Cluster, values map[string]string) error {
	deployment, err := Find(ctx, c)
	if err != nil {
		return err
	}
	patch := client.MergeFrom(deployment.DeepCopy())
	container := &deployment.Spec.Template.Spec.Containers[0]
	container.Args = slices.DeleteFunc(container.Args, func(arg string) bool {
		name, _, _ := strings.Cut(arg, "=")
		_, changed := values[name]
		return changed
	})
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if values[name] != "" {
			container.Args = append(container.Args, name+"="+values[name])
		}
	}
	if err := c.Patch(ctx, deployment, patch); err != nil {
		return fmt.Errorf("changing the arguments of Deployment %s/%s: %w", Namespace, deployment.Name, err)
	}
	return nil
}

// Ready waits until every operator pod that is wanted is ready.
func Ready(ctx context.Context, c *kube.Cluster) error {
	return kube.Until(ctx, 2*time.Minute, "the operator to be ready", func(ctx context.Context) (bool, string, error) {
		d, err := Find(ctx, c)
		if err != nil {
			return false, "", err
		}
		want := ptr.Deref(d.Spec.Replicas, 1)
		done := d.Status.ObservedGeneration == d.Generation && d.Status.ReadyReplicas == want && d.Status.UpdatedReplicas == want
		return done, fmt.Sprintf("%d of %d replicas are ready", d.Status.ReadyReplicas, want), nil
	})
}

// LeaderElectionLease is the Lease by which the operator's pods choose a leader; the chart's Role names it too.
const LeaderElectionLease = "understudy-operator.ha.understudy.dev"
