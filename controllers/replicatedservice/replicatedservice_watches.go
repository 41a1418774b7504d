package replicatedservice

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/members"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/workload"
)

// Feed turns keys of services into events of a channel source.
func Feed(changes chan<- event.GenericEvent) members.Subscriber {
	return func(ctx context.Context, key types.NamespacedName) {
		changed := event.GenericEvent{Object: &v1alpha1.ReplicatedService{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		}}
		select {
		case changes <- changed:
		case <-ctx.Done():
		}
	}
}

func request(namespace, name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

func serviceOfLabel(_ context.Context, obj client.Object) []reconcile.Request {
	if name := obj.GetLabels()[keys.LabelService]; name != "" {
		return []reconcile.Request{request(obj.GetNamespace(), name)}
	}
	return nil
}

// serviceOfVolume: a volume has no namespace of its own.
func serviceOfVolume(_ context.Context, obj client.Object) []reconcile.Request {
	of := obj.GetLabels()
	if of[keys.LabelService] == "" {
		return nil
	}
	return []reconcile.Request{request(of[keys.LabelNamespace], of[keys.LabelService])}
}

func serviceOfFailover(_ context.Context, obj client.Object) []reconcile.Request {
	fo, ok := obj.(*v1alpha1.Failover)
	if !ok {
		return nil
	}
	return []reconcile.Request{request(fo.Namespace, fo.Spec.ServiceRef.Name)}
}

// servicesOfBudget: a budget that is no service's own may match the pods of any in its namespace, or have done so before.
func (r *Reconciler) servicesOfBudget(ctx context.Context, obj client.Object) []reconcile.Request {
	if owner := metav1.GetControllerOf(obj); owner != nil && owner.Kind == "ReplicatedService" {
		return serviceOfLabel(ctx, obj)
	}
	return r.servicesWhere(ctx, obj.GetNamespace(), func(*v1alpha1.ReplicatedService) bool { return true })
}

// differs lets an update pass when more than the resourceVersion changed of what the cache keeps.
var differs = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, after := e.ObjectOld.DeepCopyObject().(client.Object), e.ObjectNew.DeepCopyObject().(client.Object)
	before.SetResourceVersion("")
	after.SetResourceVersion("")
	return !equality.Semantic.DeepEqual(before, after)
}}

func (r *Reconciler) servicesOfPolicy(ctx context.Context, obj client.Object) []reconcile.Request {
	return r.servicesWhere(ctx, obj.GetNamespace(), func(svc *v1alpha1.ReplicatedService) bool {
		return workload.PolicyOf(svc) == obj.GetName()
	})
}

// servicesOfSecret finds the services that use a Secret, whoever made it.
func (r *Reconciler) servicesOfSecret(ctx context.Context, obj client.Object) []reconcile.Request {
	return r.servicesWhere(ctx, obj.GetNamespace(), func(svc *v1alpha1.ReplicatedService) bool {
		return slices.Contains(secretsOf(svc), obj.GetName())
	})
}

func secretsOf(svc *v1alpha1.ReplicatedService) []string {
	out := []string{names.CASecret(svc.Name), names.CertsSecret(svc.Name), names.AuthSecret(svc.Name)}
	engine := workload.EngineOf(svc)
	for _, ref := range []*v1alpha1.SecretKeyReference{engine.Password, engine.Superuser, engine.Pooler} {
		if ref != nil {
			out = append(out, ref.Name)
		}
	}
	return out
}

func (r *Reconciler) servicesWhere(ctx context.Context, namespace string, uses func(*v1alpha1.ReplicatedService) bool) []reconcile.Request {
	list := &v1alpha1.ReplicatedServiceList{}
	if err := r.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil // the cache is not there yet; every service is looked at when it is
	}
	var out []reconcile.Request
	for i := range list.Items {
		if uses(&list.Items[i]) {
			out = append(out, request(list.Items[i].Namespace, list.Items[i].Name))
		}
	}
	return out
}

// secretKind is what the metadata of Secrets is watched as: their content never enters the cache.
func secretKind() *metav1.PartialObjectMetadata {
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	return meta
}
