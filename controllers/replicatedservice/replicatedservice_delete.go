package replicatedservice

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
)

const (
	// endLimit bounds how long a deleted service waits for its pods: one on a node that is gone never ends by itself.
	endLimit = 90 * time.Second
	endPoll  = time.Second
)

// endMembers deletes the StatefulSet and waits until its pods are gone. A service of the same name that is made anew
// right away would else find its predecessor's pods, and the StatefulSet controller makes no pod under a taken name
// and is not told when that name is free.
func (r *Reconciler) endMembers(ctx context.Context, svc *v1alpha1.ReplicatedService) (time.Duration, error) {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(set), set)
	if client.IgnoreNotFound(err) != nil {
		return 0, err
	}
	if err == nil && metav1.IsControlledBy(set, svc) && set.DeletionTimestamp.IsZero() {
		if err := r.Client.Delete(ctx, set, client.PropagationPolicy(metav1.DeletePropagationBackground)); client.IgnoreNotFound(err) != nil {
			return 0, fmt.Errorf("deleting StatefulSet %s/%s: %w", set.Namespace, set.Name, err)
		}
	}
	if r.Now().Sub(svc.DeletionTimestamp.Time) > endLimit {
		return 0, nil
	}
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.InNamespace(svc.Namespace), client.MatchingLabels{keys.LabelService: svc.Name}); err != nil {
		return 0, err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if metav1.GetControllerOf(pod) != nil && metav1.GetControllerOf(pod).Name == svc.Name {
			return endPoll, nil
		}
	}
	return 0, nil
}
