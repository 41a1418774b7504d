package kube

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/lease"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/workload"
)

// Service is one ReplicatedService of a cluster.
type Service struct {
	*Cluster

	Namespace, Name string
}

// Primary is who may write, as the Lease says, and whom clients are led to, as the EndpointSlice says.
type Primary struct {
	Member  string
	PodUID  string
	Node    string
	Epoch   int64
	Since   time.Time
	Routed  int64 // the epoch on the slice
	Address []string
}

// Object reads the ReplicatedService.
func (s Service) Object(ctx context.Context) (*v1alpha1.ReplicatedService, error) {
	var obj v1alpha1.ReplicatedService
	if err := s.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: s.Name}, &obj); err != nil {
		return nil, fmt.Errorf("reading ReplicatedService %s/%s: %w", s.Namespace, s.Name, err)
	}
	return &obj, nil
}

// Primary reads Lease, slice and the holder's pod. With the operator down the status is old; these never are.
func (s Service) Primary(ctx context.Context) (Primary, error) {
	var p Primary
	var register coordinationv1.Lease
	if err := s.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: names.Lease(s.Name)}, &register); err != nil {
		return p, fmt.Errorf("reading the Lease of service %s/%s: %w", s.Namespace, s.Name, err)
	}
	if register.Spec.HolderIdentity == nil || register.Spec.LeaseTransitions == nil {
		return p, fmt.Errorf("service %s/%s has no primary yet: its Lease names no holder", s.Namespace, s.Name)
	}
	run, err := failover.ParseRun(*register.Spec.HolderIdentity)
	if err != nil {
		return p, fmt.Errorf("reading Lease %s/%s: %w", s.Namespace, register.Name, err)
	}
	p.Member, p.PodUID, p.Epoch = run.Member, run.PodUID, int64(*register.Spec.LeaseTransitions)
	if register.Spec.AcquireTime != nil {
		p.Since = register.Spec.AcquireTime.Time
	}
	slice, err := s.Slice(ctx)
	if err != nil {
		return p, err
	}
	p.Routed, p.Address = Route(slice)
	var pod corev1.Pod
	if err := s.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: p.Member}, &pod); client.IgnoreNotFound(err) != nil {
		return p, fmt.Errorf("reading pod %s/%s: %w", s.Namespace, p.Member, err)
	}
	p.Node = pod.Spec.NodeName
	return p, nil
}

// WaitLeaseMillis waits until the Lease carries a lease of that length: a policy counts from then on.
func (s Service) WaitLeaseMillis(ctx context.Context, millis int64) error {
	return s.WaitTerms(ctx, fmt.Sprintf("a lease of %d ms", millis), func(t failover.Terms) bool { return t.LeaseMillis == millis })
}

// WaitTerms waits until the Lease carries terms that are to count.
func (s Service) WaitTerms(ctx context.Context, what string, there func(failover.Terms) bool) error {
	return Until(ctx, time.Minute, "the Lease to carry "+what, func(ctx context.Context) (bool, string, error) {
		var obj coordinationv1.Lease
		if err := s.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: names.Lease(s.Name)}, &obj); err != nil {
			return false, "", err
		}
		register, err := lease.Read(&obj)
		return there(register.Terms), fmt.Sprintf("%+v", register.Terms), err
	})
}

// Slice reads the EndpointSlice of the primary.
func (s Service) Slice(ctx context.Context) (*discoveryv1.EndpointSlice, error) {
	var slice discoveryv1.EndpointSlice
	key := client.ObjectKey{Namespace: s.Namespace, Name: names.PrimarySlice(s.Name, "ipv4")}
	if err := s.Get(ctx, key, &slice); err != nil {
		return nil, fmt.Errorf("reading EndpointSlice %s/%s: %w", key.Namespace, key.Name, err)
	}
	return &slice, nil
}

// Route is the epoch and the addresses of a slice.
func Route(slice *discoveryv1.EndpointSlice) (epoch int64, addresses []string) {
	epoch, _ = strconv.ParseInt(slice.Annotations[keys.AnnotationEpoch], 10, 64)
	for _, e := range slice.Endpoints {
		if e.Conditions.Ready == nil || *e.Conditions.Ready {
			addresses = append(addresses, e.Addresses...)
		}
	}
	return epoch, addresses
}

// Address is the ClusterIP and port of the primary's Service.
func (s Service) Address(ctx context.Context) (string, error) {
	var svc corev1.Service
	key := client.ObjectKey{Namespace: s.Namespace, Name: names.PrimaryService(s.Name)}
	if err := s.Get(ctx, key, &svc); err != nil {
		return "", fmt.Errorf("reading Service %s/%s: %w", key.Namespace, key.Name, err)
	}
	if svc.Spec.ClusterIP == "" || len(svc.Spec.Ports) == 0 {
		return "", fmt.Errorf("finding the address: Service %s/%s has no ClusterIP or no port", key.Namespace, key.Name)
	}
	return net.JoinHostPort(svc.Spec.ClusterIP, strconv.Itoa(int(svc.Spec.Ports[0].Port))), nil
}

// Password of the engine.
func (s Service) Password(ctx context.Context) (string, error) {
	obj, err := s.Object(ctx)
	if err != nil {
		return "", err
	}
	key, entry := client.ObjectKey{Namespace: s.Namespace, Name: names.AuthSecret(s.Name)}, names.PasswordKey
	if ref := workload.EngineOf(obj).Password; ref != nil {
		key.Name, entry = ref.Name, ref.Key
	}
	var secret corev1.Secret
	if err := s.Get(ctx, key, &secret); err != nil {
		return "", fmt.Errorf("reading Secret %s/%s with the password: %w", key.Namespace, key.Name, err)
	}
	if len(secret.Data[entry]) == 0 {
		return "", fmt.Errorf("finding the password: Secret %s/%s has no key %s", key.Namespace, key.Name, entry)
	}
	return string(secret.Data[entry]), nil
}

// Failing lists the conditions of the three that are not True, each with its message.
func Failing(obj *v1alpha1.ReplicatedService) string {
	var out []string
	for _, name := range []string{v1alpha1.ConditionAvailable, v1alpha1.ConditionRedundant, v1alpha1.ConditionFailoverPossible} {
		condition := meta.FindStatusCondition(obj.Status.Conditions, name)
		switch {
		case condition == nil:
			out = append(out, name+" is not reported")
		case condition.Status != "True":
			out = append(out, fmt.Sprintf("%s is %s: %s: %s", name, condition.Status, condition.Reason, condition.Message))
		}
	}
	return strings.Join(out, "; ")
}
