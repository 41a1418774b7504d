package rounds

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
)

// rollWithin is how long a roll may take: every member ends, begins and catches up, one after the other.
const rollWithin = 4 * time.Minute

// planned changes cost one change of primary and no more.
func planned(fault faults.Kind) bool {
	return fault == faults.Switchover || fault == faults.Drain || fault == faults.Roll
}

// drainable waits until the clients and the budget are as they were before the last drain.
func (r Runner) drainable(ctx context.Context) error {
	if err := r.Clients.Ensure(ctx); err != nil {
		return err
	}
	return r.Service.WaitEvictable(ctx, time.Minute)
}

// rolled is an annotation of the template; like any change of that it makes every member's pod anew.
const rolled = "example.com/rolled-at"

// roll changes the template, as kubectl rollout restart does.
func (r Runner) roll(ctx context.Context) error {
	obj, err := r.Service.Object(ctx)
	if err != nil {
		return err
	}
	patch := client.MergeFrom(obj.DeepCopy())
	template := &obj.Spec.Template
	if template.Metadata == nil {
		template.Metadata = &v1alpha1.TemplateMetadata{}
	}
	if template.Metadata.Annotations == nil {
		template.Metadata.Annotations = map[string]string{}
	}
	template.Metadata.Annotations[rolled] = time.Now().UTC().Format(time.RFC3339Nano)
	if err := r.Service.Patch(ctx, obj, patch); err != nil {
		return fmt.Errorf("changing the template of service %s/%s: %w", r.Service.Namespace, r.Service.Name, err)
	}
	return nil
}

// over waits until somebody else is primary, and at a roll until every member has the change.
func (r Runner) over(ctx context.Context, fault faults.Kind, routes watch.Interface, old kube.Primary, before []corev1.Pod) error {
	if fault != faults.Roll {
		return r.Service.WaitRouted(ctx, routes, old.Epoch, within)
	}
	return kube.UntilEvery(ctx, rollWithin, time.Second, "every member to have the change", r.Renewed(before))
}

// Renewed says when all pods are other ones than before and all is well.
func (r Runner) Renewed(before []corev1.Pod) func(context.Context) (bool, string, error) {
	return func(ctx context.Context) (bool, string, error) {
		now, err := r.Service.Pods(ctx)
		if err != nil {
			return false, "", err
		}
		if left := Same(before, now); len(left) > 0 || len(now) != len(before) {
			return false, "not renewed yet: " + strings.Join(left, ", "), nil
		}
		obj, err := r.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		failing := kube.Failing(obj)
		return failing == "", failing, nil
	}
}

// Same are the pods that are in both lists.
func Same(before, now []corev1.Pod) []string {
	var out []string
	for _, a := range before {
		for _, b := range now {
			if a.UID == b.UID {
				out = append(out, a.Name)
			}
		}
	}
	return out
}
