package agent

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/lease"
	"understudy.dev/understudy/internal/wire"
)

// apiTimeout bounds every call to the API server. An answer that was lost is read back, never assumed.
const apiTimeout = time.Second

// apiSilence is how long bytes sent to the API server may stay unacknowledged. All calls share one connection, and after an
// interruption TCP would try that one again only after up to half a minute, while a new one works at once.
const apiSilence = 2 * time.Second

// KubeWatcher is Kube with a watch of the Lease.
type KubeWatcher interface {
	Kube
	// WatchLease tells of each change after the given version until it ends.
	WatchLease(ctx context.Context, version string, changed func(failover.Lease)) error
}

// kube talks to the API server with two small clients: the typed clientset would triple the agent.
type kube struct {
	namespace, lease string
	codec            runtime.ParameterCodec
	coordination     rest.Interface
	discovery        rest.Interface

	mu   sync.Mutex
	last *coordinationv1.Lease // as last seen, so that a swap needs no read before it
}

// NewKube makes the client from the pod's service account.
func NewKube(namespace, leaseName string) (KubeWatcher, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("configuring the API client: %w", err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{coordinationv1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("configuring the API client: %w", err)
		}
	}
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	config.UserAgent = "understudy-agent"
	config.Dial = wire.Dialer(apiSilence).DialContext
	config.QPS, config.Burst = 50, 100
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.APIPath = "/apis"
	k := &kube{namespace: namespace, lease: leaseName, codec: runtime.NewParameterCodec(scheme)}
	client, err := rest.HTTPClientFor(config) // one connection for both
	if err != nil {
		return nil, fmt.Errorf("configuring the API client: %w", err)
	}
	for made, gv := range map[*rest.Interface]metav1.GroupVersion{
		&k.coordination: metav1.GroupVersion(coordinationv1.SchemeGroupVersion), &k.discovery: metav1.GroupVersion(discoveryv1.SchemeGroupVersion),
	} {
		c := rest.CopyConfig(config)
		c.GroupVersion = &schema.GroupVersion{Group: gv.Group, Version: gv.Version}
		if *made, err = rest.RESTClientForConfigAndClient(c, client); err != nil {
			return nil, fmt.Errorf("configuring the API client: %w", err)
		}
	}
	return k, nil
}

func (k *kube) ReadLease(ctx context.Context) (failover.Lease, error) {
	obj, err := k.getLease(ctx)
	if err != nil {
		return failover.Lease{}, err
	}
	return lease.Read(obj)
}

func (k *kube) getLease(ctx context.Context) (*coordinationv1.Lease, error) {
	obj := &coordinationv1.Lease{}
	err := k.coordination.Get().Namespace(k.namespace).Resource("leases").Name(k.lease).Do(ctx).Into(obj)
	if err != nil {
		return nil, fmt.Errorf("reading Lease %s/%s: %w", k.namespace, k.lease, err)
	}
	k.remember(obj)
	return obj, nil
}

func (k *kube) remember(obj *coordinationv1.Lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = obj.DeepCopy()
}

// known is the object of a version, from memory if it was seen.
func (k *kube) known(ctx context.Context, version string) (*coordinationv1.Lease, error) {
	k.mu.Lock()
	last := k.last
	k.mu.Unlock()
	if last != nil && last.ResourceVersion == version {
		return last.DeepCopy(), nil
	}
	return k.getLease(ctx)
}

// SwapLease builds the object anew from what was decided on, so the version in it is the one the decision was made
// under; only what the decision is not about is taken from the object as it is now.
func (k *kube) SwapLease(ctx context.Context, l failover.Lease) (failover.Lease, error) {
	obj, err := k.known(ctx, l.Version)
	if err != nil {
		return failover.Lease{}, err
	}
	if obj.ResourceVersion != l.Version {
		return failover.Lease{}, apierrors.NewConflict(coordinationv1.Resource("leases"), k.lease,
			fmt.Errorf("it has version %s, the decision was made under %s", obj.ResourceVersion, l.Version))
	}
	if err := lease.Write(obj, l, time.Now()); err != nil {
		return failover.Lease{}, err
	}
	out := &coordinationv1.Lease{}
	err = k.coordination.Put().Namespace(k.namespace).Resource("leases").Name(k.lease).Body(obj).Do(ctx).Into(out)
	if err != nil {
		return failover.Lease{}, fmt.Errorf("writing Lease %s/%s: %w", k.namespace, k.lease, err)
	}
	k.remember(out)
	return lease.Read(out)
}

func (k *kube) WatchLease(ctx context.Context, version string, changed func(failover.Lease)) error {
	opts := &metav1.ListOptions{Watch: true, ResourceVersion: version,
		FieldSelector: fields.OneTermEqualSelector("metadata.name", k.lease).String()}
	w, err := k.coordination.Get().Namespace(k.namespace).Resource("leases").VersionedParams(opts, k.codec).Watch(ctx)
	if err != nil {
		return fmt.Errorf("watching Lease %s/%s: %w", k.namespace, k.lease, err)
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		obj, ok := event.Object.(*coordinationv1.Lease)
		if !ok || event.Type == watch.Deleted {
			return fmt.Errorf("watching Lease %s/%s: got %s", k.namespace, k.lease, event.Type)
		}
		l, err := lease.Read(obj)
		if err != nil {
			return err
		}
		k.remember(obj)
		changed(l)
	}
	return nil
}

func (k *kube) Slice(ctx context.Context, name string) (*discoveryv1.EndpointSlice, error) {
	obj := &discoveryv1.EndpointSlice{}
	err := k.discovery.Get().Namespace(k.namespace).Resource("endpointslices").Name(name).Do(ctx).Into(obj)
	if err != nil {
		return nil, fmt.Errorf("reading EndpointSlice %s/%s: %w", k.namespace, name, err)
	}
	return obj, nil
}

func (k *kube) UpdateSlice(ctx context.Context, s *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	out := &discoveryv1.EndpointSlice{}
	err := k.discovery.Put().Namespace(k.namespace).Resource("endpointslices").Name(s.Name).Body(s).Do(ctx).Into(out)
	if err != nil {
		return nil, fmt.Errorf("writing EndpointSlice %s/%s: %w", k.namespace, s.Name, err)
	}
	return out, nil
}

// newer compares versions: they are numbers that grow (KEP-5504). Unknown forms count as newer.
func newer(version, than string) bool {
	a, errA := strconv.ParseUint(version, 10, 64)
	b, errB := strconv.ParseUint(than, 10, 64)
	return errA != nil || errB != nil || a > b
}
