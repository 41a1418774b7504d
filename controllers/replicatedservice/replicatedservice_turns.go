package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/workload"
)

// seeTurnsAgain is when the Lease that services share is looked for again: it is not watched, and without it nothing is limited.
const seeTurnsAgain = 10 * time.Minute

// crowd are the services under one policy of a namespace, where more than may fail over at once.
type crowd struct {
	most   int // 0: there are no more
	behind int // priorities above the service's own, at most as many as turns
}

// readCrowd finds out whether the services under the policy have to take turns when they fail over.
func (r *Reconciler) readCrowd(ctx context.Context, s *scope) error {
	most := int(s.policy.Budget.MaxConcurrentFailovers)
	list := &v1alpha1.ReplicatedServiceList{}
	if err := r.Client.List(ctx, list, client.InNamespace(s.svc.Namespace)); err != nil {
		return err
	}
	var peers []*v1alpha1.ReplicatedService
	for i := range list.Items {
		peer := &list.Items[i]
		if workload.PolicyOf(peer) == workload.PolicyOf(s.svc) && peer.DeletionTimestamp.IsZero() {
			peers = append(peers, peer)
		}
	}
	if most == 0 || len(peers) <= most {
		return nil
	}
	classes := &schedulingv1.PriorityClassList{}
	if err := r.Client.List(ctx, classes); err != nil {
		return err
	}
	own := priorityOf(s.svc, classes.Items)
	var above []int32
	for _, peer := range peers {
		if p := priorityOf(peer, classes.Items); p > own && !slices.Contains(above, p) {
			above = append(above, p)
		}
	}
	s.crowd = crowd{most: most, behind: min(len(above), most)}
	return nil
}

// priorityOf is what the members' pods get from their class, or from the cluster's default one.
func priorityOf(svc *v1alpha1.ReplicatedService, classes []schedulingv1.PriorityClass) int32 {
	named := svc.Spec.Template.PriorityClassName
	for i := range classes {
		if c := &classes[i]; c.Name == named || (named == "" && c.GlobalDefault) {
			return c.Value
		}
	}
	return 0
}

// ensureTurns makes the Lease in which the services under a policy count those that fail over. It goes with the last service that was in need of it.
func (r *Reconciler) ensureTurns(ctx context.Context, s *scope) error {
	name := names.Turns(workload.PolicyOf(s.svc))
	if s.crowd.most == 0 || s.paused() {
		return nil
	}
	if left := seeTurnsAgain - s.now.Sub(s.memory.turnsSeen); left > 0 && s.memory.turnsIn == name {
		s.lookIn(left)
		return nil
	}
	owner := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ReplicatedService", Name: s.svc.Name, UID: s.svc.UID}
	have := &coordinationv1.Lease{}
	key := types.NamespacedName{Namespace: s.svc.Namespace, Name: name}
	err := r.Live.Get(ctx, key, have)
	switch {
	case apierrors.IsNotFound(err):
		have.Namespace, have.Name, have.OwnerReferences = key.Namespace, key.Name, []metav1.OwnerReference{owner}
		err = r.Client.Create(ctx, have, apply.FieldOwner)
	case err == nil && !slices.ContainsFunc(have.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == owner.UID }):
		before := client.MergeFromWithOptions(have.DeepCopy(), client.MergeFromWithOptimisticLock{})
		have.OwnerReferences = append(have.OwnerReferences, owner)
		err = r.Client.Patch(ctx, have, before, apply.FieldOwner)
	}
	if err != nil {
		return fmt.Errorf("making Lease %s, which counts the services that fail over at once: %w", key.Name, err)
	}
	s.memory.turnsSeen, s.memory.turnsIn = s.now, name
	s.lookIn(seeTurnsAgain)
	return nil
}

// servicesBeside are those under the same policy: each that comes or goes may make them take turns, or end that.
func (r *Reconciler) servicesBeside(ctx context.Context, obj client.Object) []reconcile.Request {
	svc, ok := obj.(*v1alpha1.ReplicatedService)
	if !ok {
		return nil
	}
	return r.servicesWhere(ctx, svc.Namespace, func(o *v1alpha1.ReplicatedService) bool {
		return o.Name != svc.Name && workload.PolicyOf(o) == workload.PolicyOf(svc)
	})
}

// comeOrGone lets services pass that are made, are being deleted, or move to another policy.
var comeOrGone = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, okBefore := e.ObjectOld.(*v1alpha1.ReplicatedService)
	after, okAfter := e.ObjectNew.(*v1alpha1.ReplicatedService)
	if !okBefore || !okAfter {
		return false
	}
	moved := workload.PolicyOf(before) != workload.PolicyOf(after) || before.Spec.Template.PriorityClassName != after.Spec.Template.PriorityClassName
	return moved || before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero()
}}
