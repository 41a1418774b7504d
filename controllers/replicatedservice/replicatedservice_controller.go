// Package replicatedservice builds what a ReplicatedService declares and keeps it so. It takes no part in a failover:
// the members' agents do that alone.
package replicatedservice

import (
	"context"
	"errors"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/members"
)

// Reconciler brings services to their declared state.
type Reconciler struct {
	Client     client.Client // reads from the cache
	Live       client.Reader // reads from the API server, before each irreversible step
	Members    members.Members
	Recorder   events.EventRecorder
	AgentImage string
	Now        func() time.Time
	// ClusterTurns limits failovers at once in the whole cluster.
	ClusterTurns ClusterTurns

	memories    memories
	secrets     secretStore
	disruptions disruptions
}

// +kubebuilder:rbac:groups=ha.understudy.dev,resources=replicatedservices,verbs=get;list;watch;update;patch
// +kubebuilder:rbac:groups=ha.understudy.dev,resources=replicatedservices/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=ha.understudy.dev,resources=replicatedservices/finalizers,verbs=update
// +kubebuilder:rbac:groups=ha.understudy.dev,resources=failoverpolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups=apps,resources=statefulsets,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=apps,resources=controllerrevisions,verbs=get
// +kubebuilder:rbac:groups="",resources=services;serviceaccounts;configmaps,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update;patch
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;list;watch;patch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumes,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=storage.k8s.io,resources=storageclasses,verbs=get
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices/restricted,verbs=create
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles;rolebindings,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;list;watch;create;update;patch
// +kubebuilder:rbac:groups=scheduling.k8s.io,resources=priorityclasses,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;update;patch

// Reconcile looks at one service.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	svc := &v1alpha1.ReplicatedService{}
	if err := r.Client.Get(ctx, req.NamespacedName, svc); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !svc.DeletionTimestamp.IsZero() {
		r.disruptions.forget(req.NamespacedName)
		if wait, err := r.endMembers(ctx, svc); wait > 0 || err != nil {
			return ctrl.Result{RequeueAfter: wait}, err
		}
		return again(r.finalize(ctx, svc))
	}
	if err := r.protect(ctx, svc); err != nil {
		return again(err)
	}
	s, err := r.gather(ctx, svc)
	if err != nil {
		return ctrl.Result{}, err
	}
	err = r.act(ctx, s)
	if s.ready() {
		err = errors.Join(err, r.report(ctx, s))
	}
	return s.result(err)
}

// again turns a conflict into another look a moment later: the cache was behind, which is no error.
func again(err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: 100 * time.Millisecond}, nil
	}
	return ctrl.Result{}, err
}

// act carries out each phase; the failure of one does not keep the others from running.
func (r *Reconciler) act(ctx context.Context, s *scope) error {
	var all error
	for _, phase := range []func(context.Context, *scope) error{
		r.ensurePassword, r.ensureCertificates, r.ensureObjects, r.ensureVolumes, r.ensureSlices,
		r.syncMembers, r.ensureTurns, r.ensureLease, r.ensureTerms, r.sendProof, r.ensureRoute, r.ensureReplicasRoute, r.shrink, r.leaveNode, r.settleDisruptions, r.heal, r.replaceVolumes,
		r.roll, r.tellReadOnly, r.watchRoom, r.failBack, r.tellRolledBack,
	} {
		err := s.absorb(phase(ctx, s))
		all = errors.Join(all, err)
	}
	return all
}

// protect puts the finalizer on, so that the Lease can be released when the service goes.
func (r *Reconciler) protect(ctx context.Context, svc *v1alpha1.ReplicatedService) error {
	if controllerutil.ContainsFinalizer(svc, keys.Finalizer) {
		return nil
	}
	before := svc.DeepCopy()
	controllerutil.AddFinalizer(svc, keys.Finalizer)
	return r.Client.Patch(ctx, svc, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), apply.FieldOwner)
}

// finalize releases the Lease; the garbage collector removes the rest, and volumes stay unless the retention says else.
func (r *Reconciler) finalize(ctx context.Context, svc *v1alpha1.ReplicatedService) error {
	r.forget(client.ObjectKeyFromObject(svc))
	if !controllerutil.ContainsFinalizer(svc, keys.Finalizer) {
		return nil
	}
	if err := r.releaseAll(ctx, svc); err != nil {
		return err
	}
	r.leaveTurns(ctx, svc)
	lease, err := r.liveLease(ctx, svc)
	if err != nil {
		return err
	}
	if lease != nil && controllerutil.RemoveFinalizer(lease, keys.Finalizer) {
		if err := r.Client.Update(ctx, lease, apply.FieldOwner); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	before := svc.DeepCopy()
	controllerutil.RemoveFinalizer(svc, keys.Finalizer)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.Client.Patch(ctx, svc, patch, apply.FieldOwner))
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.Members.Forget(key)
	r.memories.forget(key)
	r.secrets.forget(key)
	r.disruptions.forget(key)
}

// SetupWithManager starts the watches.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &corev1.Pod{}, podNode, nodeOfPod); err != nil {
		return err
	}
	changes := make(chan event.GenericEvent, 64)
	r.Members.Subscribe(Feed(changes))
	b := ctrl.NewControllerManagedBy(mgr).Named("replicatedservice").
		// Our own status writes are events too, on purpose: a look that came before the cache showed the last write
		// compared with an older status, and must be repeated.
		For(&v1alpha1.ReplicatedService{}).
		Watches(&v1alpha1.FailoverPolicy{}, handler.EnqueueRequestsFromMapFunc(r.servicesOfPolicy)).
		Watches(&v1alpha1.ReplicatedService{}, Settled(r.servicesBeside), builder.WithPredicates(comeOrGone)).
		Watches(&v1alpha1.Failover{}, handler.EnqueueRequestsFromMapFunc(serviceOfFailover)).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.servicesOfSecret)).
		// Not settled: whoever drains evicts next.
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.servicesOnNode), builder.WithPredicates(differs)).
		Watches(&policyv1.PodDisruptionBudget{}, Settled(r.servicesOfBudget), builder.WithPredicates(differs)).
		Watches(&corev1.PersistentVolume{}, Settled(serviceOfVolume)).
		WatchesRawSource(source.Channel(changes, Settled(Itself))).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4})
	for _, obj := range []client.Object{
		&appsv1.StatefulSet{}, &corev1.Service{}, &corev1.ServiceAccount{}, &corev1.ConfigMap{}, &corev1.Pod{},
		&discoveryv1.EndpointSlice{}, &rbacv1.Role{}, &rbacv1.RoleBinding{},
		&coordinationv1.Lease{}, &corev1.PersistentVolumeClaim{},
	} {
		b = b.Watches(obj, Settled(serviceOfLabel))
	}
	return b.Complete(r)
}
