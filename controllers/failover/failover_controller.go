// Package failover runs the changes of primary that people ask for, and records those the members made by themselves.
package failover

import (
	"context"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/controllers/replicatedservice"
	"understudy.dev/understudy/internal/members"
)

// Reconciler carries out Failovers.
type Reconciler struct {
	Client   client.Client
	Live     client.Reader
	Members  members.Members
	Recorder events.EventRecorder
	Now      func() time.Time

	// answered are the Failovers, by UID, whose primary answered that it released its right: it is not asked again, whatever is still shown of it.
	answered sync.Map
}

// +kubebuilder:rbac:groups=ha.understudy.dev,resources=failovers,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=ha.understudy.dev,resources=failovers/status,verbs=get;update;patch

// Reconcile looks at one Failover that a person created. Automatic ones are records and complete when they are made.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	fo := &v1alpha1.Failover{}
	if err := r.Client.Get(ctx, req.NamespacedName, fo); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if fo.Spec.Type == v1alpha1.TypeAutomatic || !fo.DeletionTimestamp.IsZero() || replicatedservice.Over(fo) {
		r.answered.Delete(fo.UID)
		return ctrl.Result{}, nil
	}
	s, err := r.gather(ctx, fo)
	if err != nil {
		return ctrl.Result{}, err
	}
	_, s.answered = r.answered.Load(fo.UID)
	step := decide(s)
	if step.ask != nil {
		return later(r.ask(ctx, s, step))
	}
	if step.assert != nil {
		return later(r.assert(ctx, s, step))
	}
	return later(ctrl.Result{RequeueAfter: step.again}, r.write(ctx, s.fo, step))
}

// later turns a conflict into another look a moment later: the cache was behind, which is no error.
func later(result ctrl.Result, err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: 100 * time.Millisecond}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	return result, nil
}

// SetupWithManager starts the watches of both the people's and the automatic ones.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	changes := make(chan event.GenericEvent, 64)
	r.Members.Subscribe(replicatedservice.Feed(changes))
	err := ctrl.NewControllerManagedBy(mgr).Named("failover").
		For(&v1alpha1.Failover{}).
		Watches(&v1alpha1.Failover{}, handler.EnqueueRequestsFromMapFunc(r.openOfSameService)).
		WatchesRawSource(source.Channel(changes, replicatedservice.Settled(r.openOfService))).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(r)
	if err != nil {
		return err
	}
	return (&recorder{Reconciler: r}).setup(mgr)
}

// openOfSameService wakes those that wait for another one to end.
func (r *Reconciler) openOfSameService(ctx context.Context, obj client.Object) []reconcile.Request {
	fo, ok := obj.(*v1alpha1.Failover)
	if !ok {
		return nil
	}
	return r.open(ctx, fo.Namespace, fo.Spec.ServiceRef.Name)
}

func (r *Reconciler) openOfService(ctx context.Context, obj client.Object) []reconcile.Request {
	return r.open(ctx, obj.GetNamespace(), obj.GetName())
}

func (r *Reconciler) open(ctx context.Context, namespace, service string) []reconcile.Request {
	list, err := r.ofService(ctx, namespace, service)
	if err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range list {
		if list[i].Spec.Type != v1alpha1.TypeAutomatic && !replicatedservice.Over(&list[i]) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list[i])})
		}
	}
	return out
}

func (r *Reconciler) ofService(ctx context.Context, namespace, service string) ([]v1alpha1.Failover, error) {
	list := &v1alpha1.FailoverList{}
	if err := r.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var out []v1alpha1.Failover
	for _, fo := range list.Items {
		if fo.Spec.ServiceRef.Name == service {
			out = append(out, fo)
		}
	}
	return out, nil
}
