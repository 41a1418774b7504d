package replicatedservice

import (
	"context"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
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

// makeTurnsAgain is when that is tried again after it could not be made.
const makeTurnsAgain = 30 * time.Second

// ClusterTurns is the operator's limit on failovers at once in the whole cluster.
type ClusterTurns struct {
	Most      int    // 0: there is none, and each policy's counts alone, namespace by namespace
	Namespace string // the operator's, where the Lease is that counts them
}

// crowd are the services that a service takes turns with when it fails over, where more are there than may do so at once.
type crowd struct {
	most   int    // 0: there are no more
	in     string // the Lease that counts them, in the terms' words
	behind int    // priorities above the service's own, at most as many as turns
	// The same of those under the service's policy, where the services of the cluster are counted; groupMost is 0 where there are no more of them.
	group                  string
	groupMost, groupBehind int
}

// readCrowd finds out whether the service has to take turns when it fails over.
func (r *Reconciler) readCrowd(ctx context.Context, s *scope) error {
	most, policy := int(s.policy.Budget.MaxConcurrentFailovers), workload.PolicyOf(s.svc)
	all := r.ClusterTurns.Most
	if most == 0 && all == 0 {
		return nil
	}
	list := &v1alpha1.ReplicatedServiceList{}
	var where []client.ListOption
	if all == 0 {
		where = append(where, client.InNamespace(s.svc.Namespace))
	}
	if err := r.Client.List(ctx, list, where...); err != nil {
		return err
	}
	var every, peers []*v1alpha1.ReplicatedService
	for i := range list.Items {
		peer := &list.Items[i]
		if !peer.DeletionTimestamp.IsZero() {
			continue
		}
		every = append(every, peer)
		if peer.Namespace == s.svc.Namespace && workload.PolicyOf(peer) == policy {
			peers = append(peers, peer)
		}
	}
	switch {
	case all > 0 && len(every) > all:
		s.crowd = crowd{most: all, in: r.ClusterTurns.Namespace + "/" + names.ClusterTurns, group: s.svc.Namespace + "/" + policy}
		if most > 0 && len(peers) > most {
			s.crowd.groupMost = most
		}
	case most > 0 && len(peers) > most:
		s.crowd = crowd{most: most, in: names.Turns(policy)}
		every = peers
	default:
		return nil
	}
	classes := &schedulingv1.PriorityClassList{}
	if err := r.Client.List(ctx, classes); err != nil {
		return err
	}
	s.crowd.behind = min(prioritiesAbove(s.svc, every, classes.Items), s.crowd.most)
	s.crowd.groupBehind = min(prioritiesAbove(s.svc, peers, classes.Items), s.crowd.groupMost)
	return nil
}

// prioritiesAbove is how many there are above a service's own.
func prioritiesAbove(svc *v1alpha1.ReplicatedService, peers []*v1alpha1.ReplicatedService, classes []schedulingv1.PriorityClass) int {
	own := priorityOf(svc, classes)
	var above []int32
	for _, peer := range peers {
		if p := priorityOf(peer, classes); p > own && !slices.Contains(above, p) {
			above = append(above, p)
		}
	}
	return len(above)
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

// ensureTurns makes the Lease in which services count those that fail over.
func (r *Reconciler) ensureTurns(ctx context.Context, s *scope) error {
	if s.crowd.most == 0 || s.paused() {
		return nil
	}
	if left := seeTurnsAgain - s.now.Sub(s.memory.turnsSeen); left > 0 && s.memory.turnsIn == s.crowd.in {
		s.lookIn(left)
		return nil
	}
	ensure := r.ensurePolicyTurns
	if s.crowd.group != "" {
		ensure = r.ensureClusterTurns
	}
	if err := ensure(ctx, s); err != nil { // a limit that only delays must hold nothing else up
		ctrl.LoggerFrom(ctx).Error(err, "what counts the services that fail over at once cannot be made; nobody waits for others meanwhile", "lease", s.crowd.in)
		s.lookIn(makeTurnsAgain)
		return nil
	}
	s.memory.turnsSeen, s.memory.turnsIn = s.now, s.crowd.in
	s.lookIn(seeTurnsAgain)
	return nil
}

// ensurePolicyTurns makes that of the services under a policy. It goes with the last service that was in need of it.
func (r *Reconciler) ensurePolicyTurns(ctx context.Context, s *scope) error {
	owner := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ReplicatedService", Name: s.svc.Name, UID: s.svc.UID}
	have := &coordinationv1.Lease{}
	key := types.NamespacedName{Namespace: s.svc.Namespace, Name: s.crowd.in}
	err := r.Live.Get(ctx, key, have)
	switch {
	case apierrors.IsNotFound(err):
		have.Namespace, have.Name, have.OwnerReferences = key.Namespace, key.Name, []metav1.OwnerReference{owner}
		return r.Client.Create(ctx, have, apply.FieldOwner)
	case err == nil && !slices.ContainsFunc(have.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == owner.UID }):
		before := client.MergeFromWithOptions(have.DeepCopy(), client.MergeFromWithOptimisticLock{})
		have.OwnerReferences = append(have.OwnerReferences, owner)
		return r.Client.Patch(ctx, have, before, apply.FieldOwner)
	}
	return err
}

// ensureClusterTurns makes that of all services, in the operator's namespace, and lets this service's agents change it and nothing else there.
func (r *Reconciler) ensureClusterTurns(ctx context.Context, s *scope) error {
	namespace := r.ClusterTurns.Namespace
	for _, obj := range []client.Object{workload.ClusterTurns(namespace), workload.ClusterTurnsRole(namespace), workload.ClusterTurnsBinding(s.svc, namespace)} {
		err := r.Live.Get(ctx, client.ObjectKeyFromObject(obj), obj.DeepCopyObject().(client.Object))
		if apierrors.IsNotFound(err) {
			err = client.IgnoreAlreadyExists(r.Client.Create(ctx, obj, apply.FieldOwner))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leaveTurns takes the right to change the cluster's turns from the agents of a service that goes, whether there is a limit still or not. The service goes
// nevertheless: its service account goes with it.
func (r *Reconciler) leaveTurns(ctx context.Context, svc *v1alpha1.ReplicatedService) {
	if r.ClusterTurns.Namespace == "" {
		return
	}
	binding := workload.ClusterTurnsBinding(svc, r.ClusterTurns.Namespace)
	if err := r.Client.Delete(ctx, binding); client.IgnoreNotFound(err) != nil {
		ctrl.LoggerFrom(ctx).Error(err, "a RoleBinding of a service that is gone is left", "namespace", binding.Namespace, "name", binding.Name)
	}
}

// servicesBeside are those that a service may share turns with: each that comes or goes may make them take turns, or end that.
func (r *Reconciler) servicesBeside(ctx context.Context, obj client.Object) []reconcile.Request {
	svc, ok := obj.(*v1alpha1.ReplicatedService)
	if !ok {
		return nil
	}
	if r.ClusterTurns.Most > 0 {
		return r.servicesWhere(ctx, metav1.NamespaceAll, func(o *v1alpha1.ReplicatedService) bool { return o.UID != svc.UID })
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
