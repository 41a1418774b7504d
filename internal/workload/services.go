package workload

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/names"
)

// PrimaryService leads to the primary. It has no selector: its EndpointSlices are ours.
func PrimaryService(in Input) *corev1.Service {
	var shape *v1alpha1.ServiceShape
	if s := in.Service.Spec.Services; s != nil {
		shape = s.Primary
	}
	return shaped(in, names.PrimaryService(in.Service.Name), ComponentPrimary, shape)
}

// ReplicasService leads to the readable replicas; nil when nobody asked for it.
func ReplicasService(in Input) *corev1.Service {
	if s := in.Service.Spec.Services; s == nil || s.Replicas == nil {
		return nil
	}
	return shaped(in, names.ReplicasService(in.Service.Name), ComponentReplicas, in.Service.Spec.Services.Replicas)
}

func shaped(in Input, name, component string, shape *v1alpha1.ServiceShape) *corev1.Service {
	out := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: in.meta(name, component),
		Spec: corev1.ServiceSpec{
			Type:           corev1.ServiceTypeClusterIP,
			IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicyPreferDualStack),
			Ports:          []corev1.ServicePort{enginePort(in.Service)},
		},
	}
	if shape != nil {
		out.Annotations = shape.Annotations
		if shape.Type != "" {
			out.Spec.Type = shape.Type
		}
	}
	return out
}

// MembersService names every member in DNS, ready or not.
func MembersService(in Input) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: in.meta(names.MembersService(in.Service.Name), ComponentMember),
		Spec: corev1.ServiceSpec{
			Type:                     corev1.ServiceTypeClusterIP,
			ClusterIP:                corev1.ClusterIPNone,
			IPFamilyPolicy:           ptr.To(corev1.IPFamilyPolicyPreferDualStack),
			PublishNotReadyAddresses: true,
			Selector:                 Selector(in.Service.Name),
			Ports: []corev1.ServicePort{
				enginePort(in.Service),
				servicePort("agent", names.AgentPort),
			},
		},
	}
}

func enginePort(svc *v1alpha1.ReplicatedService) corev1.ServicePort {
	engine := EngineOf(svc)
	return servicePort(engine.Name, engine.Port)
}

func servicePort(name string, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(port)}
}

// Budget is the one PodDisruptionBudget of a service; nil with one member, which could never be drained otherwise.
func Budget(in Input) *policyv1.PodDisruptionBudget {
	if members(in.Service) < 2 {
		return nil
	}
	allowed, unready := intstr.FromInt32(0), policyv1.IfHealthyBudget
	if in.Evictions.One {
		allowed = intstr.FromInt32(1)
	}
	if in.Evictions.Unready {
		unready = policyv1.AlwaysAllow
	}
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: in.meta(in.Service.Name, ComponentMember),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable:             &allowed,
			UnhealthyPodEvictionPolicy: &unready,
			Selector:                   &metav1.LabelSelector{MatchLabels: Selector(in.Service.Name)},
		},
	}
}

// EvictionsOf reads what a budget lets go.
func EvictionsOf(budget *policyv1.PodDisruptionBudget) Evictions {
	return Evictions{
		One:     budget.Spec.MaxUnavailable != nil && budget.Spec.MaxUnavailable.IntValue() > 0,
		Unready: ptr.Deref(budget.Spec.UnhealthyPodEvictionPolicy, policyv1.IfHealthyBudget) == policyv1.AlwaysAllow,
	}
}

// Families of a Service, in the form that slice names use.
var Families = map[corev1.IPFamily]string{corev1.IPv4Protocol: "ipv4", corev1.IPv6Protocol: "ipv6"}

// PrimarySlice is an empty slice of the primary's Service at epoch 0.
func PrimarySlice(svc *v1alpha1.ReplicatedService, family corev1.IPFamily) *discoveryv1.EndpointSlice {
	slice := emptySlice(svc, names.PrimaryService(svc.Name), ComponentPrimary, family)
	slice.Name = names.PrimarySlice(svc.Name, Families[family])
	slice.Annotations = map[string]string{keys.AnnotationEpoch: "0"}
	return slice
}

// ReplicasSlice is the slice of the Service NAME-replicas with the given members.
func ReplicasSlice(svc *v1alpha1.ReplicatedService, family corev1.IPFamily, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	service := names.ReplicasService(svc.Name)
	slice := emptySlice(svc, service, ComponentReplicas, family)
	slice.Name = service + "-" + Families[family]
	slice.Endpoints = endpoints
	return slice
}

func emptySlice(svc *v1alpha1.ReplicatedService, service, component string, family corev1.IPFamily) *discoveryv1.EndpointSlice {
	meta := Meta(svc, "", component)
	meta.Labels[discoveryv1.LabelServiceName] = service
	meta.Labels[discoveryv1.LabelManagedBy] = SliceManager
	return &discoveryv1.EndpointSlice{
		TypeMeta:    metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta:  meta,
		AddressType: discoveryv1.AddressType(family),
		Endpoints:   []discoveryv1.Endpoint{},
		Ports: []discoveryv1.EndpointPort{{
			Name: ptr.To(EngineOf(svc).Name), Port: ptr.To(EngineOf(svc).Port), Protocol: ptr.To(corev1.ProtocolTCP),
		}},
	}
}

// Endpoint is a member's pod in a slice of one family; false when the pod has no address of it.
func Endpoint(pod *corev1.Pod, family corev1.IPFamily) (discoveryv1.Endpoint, bool) {
	for _, ip := range pod.Status.PodIPs {
		if isIPv6(ip.IP) != (family == corev1.IPv6Protocol) {
			continue
		}
		e := discoveryv1.Endpoint{
			Addresses: []string{ip.IP},
			Conditions: discoveryv1.EndpointConditions{
				Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false),
			},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
			NodeName:  ptr.To(pod.Spec.NodeName),
		}
		if zone := pod.Labels[corev1.LabelTopologyZone]; zone != "" {
			e.Zone = &zone
		}
		return e, true
	}
	return discoveryv1.Endpoint{}, false
}

func isIPv6(ip string) bool {
	for _, c := range ip {
		if c == ':' {
			return true
		}
	}
	return false
}
