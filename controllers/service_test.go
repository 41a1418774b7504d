package controllers

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/lease"
)

// TestObjects: everything a service needs is made, and belongs to it.
func TestObjects(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	for name, obj := range map[string]client.Object{
		"cache":              &appsv1.StatefulSet{},
		"cache ":             &corev1.Service{},
		"cache-members":      &corev1.Service{},
		"cache-primary-ipv4": &discoveryv1.EndpointSlice{},
		"cache  ":            &policyv1.PodDisruptionBudget{},
		"cache-agent":        &corev1.ServiceAccount{},
		"cache-agent ":       &rbacv1.Role{},
		"cache-agent  ":      &rbacv1.RoleBinding{},
		"cache-ca":           &corev1.Secret{},
		"cache-agent-certs":  &corev1.Secret{},
		"cache-auth":         &corev1.Secret{},
		"cache-primary":      &coordinationv1.Lease{},
	} {
		for name[len(name)-1] == ' ' { // the same name for several kinds
			name = name[:len(name)-1]
		}
		s.exists(name, obj)
		if owner := metav1.GetControllerOf(obj); owner == nil || owner.Name != "cache" || obj.GetLabels()[keys.LabelService] != "cache" {
			t.Errorf("%T %s: owner %v, labels %v", obj, name, owner, obj.GetLabels())
		}
	}
	if err := api.Get(s.ctx, s.key("cache-agent"), &corev1.ConfigMap{}); !apierrors.IsNotFound(err) {
		t.Errorf("members of Redis read nothing while they run, and there is a ConfigMap for that: %v", err)
	}
	obj := &coordinationv1.Lease{}
	s.get("cache-primary", obj)
	register, err := lease.Read(obj)
	if err != nil || register.Epoch != 0 || !register.Holder.IsZero() || len(register.Terms.Members) != 3 || register.Terms.LeaseMillis != 3000 {
		t.Errorf("the new Lease holds %+v (%v)", register, err)
	}
	if len(obj.Finalizers) != 1 {
		t.Errorf("the Lease has finalizers %v", obj.Finalizers)
	}
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionFalse, v1alpha1.ReasonBootstrapping)
}
