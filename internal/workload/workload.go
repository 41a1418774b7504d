// Package workload builds the objects a service owns. Its functions are pure: the same input gives the same object.
package workload

import (
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/names"
)

const (
	// ManagedBy is the value of app.kubernetes.io/managed-by.
	ManagedBy = "understudy"
	// SliceManager is the value of endpointslice.kubernetes.io/managed-by: Kubernetes' own controllers leave such
	// slices alone.
	SliceManager = "understudy.dev"
	// ComponentMember, ComponentPrimary and ComponentReplicas are values of app.kubernetes.io/component.
	ComponentMember   = "member"
	ComponentPrimary  = "primary"
	ComponentReplicas = "replicas"

	// annotationConfig on a pod: the agent's configuration, as JSON.
	annotationConfig = "ha.understudy.dev/config"
)

// Evictions say which members may be evicted now.
type Evictions struct {
	// One: any one of them.
	One bool
	// Unready: those whose pod is not ready, whatever One says.
	Unready bool
}

// Input is what objects are built from.
type Input struct {
	Service    *v1alpha1.ReplicatedService
	AgentImage string
	// PasswordSecret and PasswordKey name the engine's password.
	PasswordSecret, PasswordKey string
	// Evictions is what the budget lets go.
	Evictions Evictions
}

func members(svc *v1alpha1.ReplicatedService) int { return int(ptr.Deref(svc.Spec.Replicas, 3)) }

// Selector matches the members' pods.
func Selector(service string) map[string]string {
	return map[string]string{
		keys.LabelService:             service,
		"app.kubernetes.io/component": ComponentMember,
	}
}

// Labels are those of every owned object.
func Labels(svc *v1alpha1.ReplicatedService, component string) map[string]string {
	return map[string]string{
		keys.LabelService:              svc.Name,
		"app.kubernetes.io/name":       EngineOf(svc).Name,
		"app.kubernetes.io/instance":   svc.Name,
		"app.kubernetes.io/component":  component,
		"app.kubernetes.io/managed-by": ManagedBy,
		"app.kubernetes.io/part-of":    svc.Name,
	}
}

// Owner is the owner reference of every owned object.
func Owner(svc *v1alpha1.ReplicatedService) metav1.OwnerReference {
	return *metav1.NewControllerRef(svc, v1alpha1.GroupVersion.WithKind("ReplicatedService"))
}

// Meta is the metadata of an owned object.
func Meta(svc *v1alpha1.ReplicatedService, name, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:            name,
		Namespace:       svc.Namespace,
		Labels:          Labels(svc, component),
		OwnerReferences: []metav1.OwnerReference{Owner(svc)},
	}
}

func (in Input) meta(name, component string) metav1.ObjectMeta {
	return Meta(in.Service, name, component)
}

func merged(base, over map[string]string) map[string]string {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, over)
	return out
}

func meshAnnotations() map[string]string {
	agent := strconv.Itoa(names.AgentPort)
	return map[string]string{
		"traffic.sidecar.istio.io/excludeInboundPorts":  agent,
		"traffic.sidecar.istio.io/excludeOutboundPorts": agent,
		"config.linkerd.io/skip-inbound-ports":          agent,
		"config.linkerd.io/skip-outbound-ports":         agent,
	}
}

func fieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path},
	}}
}
