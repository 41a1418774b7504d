package replicatedservice

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/names"
)

// askClassAgain is when a storage class that allows no expansion is read again: classes are not watched.
const askClassAgain = time.Minute

// wantedSize is the size that the members' volumes of one claim template are to have.
type wantedSize struct {
	template, field string
	size            resource.Quantity
}

func wantedSizes(storage *v1alpha1.StorageSpec) []wantedSize {
	if storage == nil {
		return nil
	}
	out := []wantedSize{{names.DataVolume, "spec.storage.size", storage.Size}}
	if storage.WAL != nil {
		out = append(out, wantedSize{names.WALVolume, "spec.storage.wal.size", storage.WAL.Size})
	}
	return out
}

// ensureVolumes lets the members' volumes grow with the spec. A StatefulSet's claim templates cannot be changed, and theirs keep
// the first size: a set that is made anew around running pods would leave them without a controller meanwhile, and a claim that is
// made from the old template later is made to grow here like the others.
func (r *Reconciler) ensureVolumes(ctx context.Context, s *scope) error {
	if !s.mayBuild() {
		return nil
	}
	var all error
	for _, want := range wantedSizes(s.svc.Spec.Storage) {
		for _, member := range s.memberNames() {
			problem, err := r.grow(ctx, s, names.Claim(want.template, member), want)
			all = errors.Join(all, s.absorb(err))
			if problem != nil {
				s.problems = append(s.problems, *problem)
				s.lookIn(askClassAgain)
				break // the others would say the same
			}
		}
	}
	return all
}

// grow asks for a larger volume, where one is wanted and can be had.
func (r *Reconciler) grow(ctx context.Context, s *scope, name string, want wantedSize) (*Problem, error) {
	claim := &corev1.PersistentVolumeClaim{}
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: s.svc.Namespace, Name: name}, claim)
	if err != nil || claim.Status.Phase != corev1.ClaimBound || claim.DeletionTimestamp != nil {
		return nil, client.IgnoreNotFound(err) // it is looked at again when it is there and bound
	}
	if asked := claim.Spec.Resources.Requests[corev1.ResourceStorage]; asked.Cmp(want.size) >= 0 {
		return s.growing(claim, want), nil
	}
	if problem, err := r.expandable(ctx, claim, want); problem != nil || err != nil {
		return problem, err
	}
	larger := claim.DeepCopy()
	larger.Spec.Resources.Requests = maps.Clone(claim.Spec.Resources.Requests)
	larger.Spec.Resources.Requests[corev1.ResourceStorage] = want.size
	patch := client.MergeFromWithOptions(claim, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, larger, patch, apply.FieldOwner); err != nil {
		return nil, fmt.Errorf("growing PersistentVolumeClaim %s to %s: %w", name, want.size.String(), err)
	}
	return nil, nil
}

// growing reports a volume that was asked to grow and has not yet, and why if its storage says so.
func (s *scope) growing(claim *corev1.PersistentVolumeClaim, want wantedSize) *Problem {
	has, told := claim.Status.Capacity[corev1.ResourceStorage]
	if !told || has.Cmp(want.size) >= 0 {
		return nil
	}
	for _, c := range claim.Status.Conditions {
		failed := c.Type == corev1.PersistentVolumeClaimControllerResizeError || c.Type == corev1.PersistentVolumeClaimNodeResizeError
		if failed && c.Status == corev1.ConditionTrue {
			return &Problem{Reason: v1alpha1.ReasonVolumeCannotGrow, Message: fmt.Sprintf(
				"%s: PersistentVolumeClaim %s stays at %s instead of %s: %s: put that right in the storage; it is tried again by itself",
				want.field, claim.Name, has.String(), want.size.String(), c.Message)}
		}
	}
	s.waiting = append(s.waiting, fmt.Sprintf("volume %s to grow from %s to %s", claim.Name, has.String(), want.size.String()))
	return nil
}

// expandable says why a volume cannot grow, or nothing.
func (r *Reconciler) expandable(ctx context.Context, claim *corev1.PersistentVolumeClaim, want wantedSize) (*Problem, error) {
	grows, err := r.grows(ctx, claim)
	if grows || err != nil {
		return nil, err
	}
	have := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return &Problem{Reason: v1alpha1.ReasonVolumeCannotGrow, Message: fmt.Sprintf(
		"%s: PersistentVolumeClaim %s stays at %s instead of %s, since StorageClass %q does not allow volumes to grow: set allowVolumeExpansion: "+
			"true on it if its driver can, or make a new service with larger volumes and move the data", want.field, claim.Name, have.String(),
		want.size.String(), ptr.Deref(claim.Spec.StorageClassName, ""))}, nil
}

// grows reports whether a claim's class lets volumes grow. One that somebody made by hand has none.
func (r *Reconciler) grows(ctx context.Context, claim *corev1.PersistentVolumeClaim) (bool, error) {
	name := ptr.Deref(claim.Spec.StorageClassName, "")
	if name == "" {
		return false, nil
	}
	class := &storagev1.StorageClass{}
	if err := client.IgnoreNotFound(r.Live.Get(ctx, types.NamespacedName{Name: name}, class)); err != nil {
		return false, fmt.Errorf("reading StorageClass %s: %w", name, err)
	}
	return ptr.Deref(class.AllowVolumeExpansion, false), nil
}
