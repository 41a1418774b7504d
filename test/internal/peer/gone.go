package peer

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/test/internal/kube"
)

// Delete removes objects that may be there.
func Delete(ctx context.Context, c *kube.Cluster, objects ...client.Object) error {
	for _, obj := range objects {
		err := c.Delete(ctx, obj, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("removing %T %s, which was compared with: %w", obj, obj.GetName(), err)
		}
	}
	return nil
}

// WaitGone removes the volumes of sets that were deleted and waits until they and the pods are gone.
func WaitGone(ctx context.Context, c *kube.Cluster, namespace string, sets ...string) error {
	// The claims go with their set once its pods have gone; what an interrupted run left behind belongs to nobody.
	for _, set := range sets {
		err := c.DeleteAllOf(ctx, &corev1.PersistentVolumeClaim{}, client.InNamespace(namespace), client.MatchingLabels{Label: set})
		if err != nil {
			return fmt.Errorf("removing the volumes compared with: %w", err)
		}
	}
	return kube.Until(ctx, 2*time.Minute, "the pods and volumes compared with to go", func(ctx context.Context) (bool, string, error) {
		left := 0
		for _, set := range sets {
			pods, claims := &corev1.PodList{}, &corev1.PersistentVolumeClaimList{}
			for _, list := range []client.ObjectList{pods, claims} {
				if err := c.List(ctx, list, client.InNamespace(namespace), client.MatchingLabels{Label: set}); err != nil {
					return false, "", fmt.Errorf("listing what is compared with: %w", err)
				}
			}
			left += len(pods.Items) + len(claims.Items)
		}
		return left == 0, fmt.Sprintf("%d are left", left), nil
	})
}

// Ready are the pods of a set that the kubelet found ready.
func Ready(ctx context.Context, c *kube.Cluster, namespace, set string) ([]corev1.Pod, error) {
	var all corev1.PodList
	if err := c.List(ctx, &all, client.InNamespace(namespace), client.MatchingLabels{Label: set}); err != nil {
		return nil, fmt.Errorf("listing the pods compared with: %w", err)
	}
	var ready []corev1.Pod
	for i := range all.Items {
		if kube.PodReady(&all.Items[i]) && all.Items[i].DeletionTimestamp == nil {
			ready = append(ready, all.Items[i])
		}
	}
	return ready, nil
}
