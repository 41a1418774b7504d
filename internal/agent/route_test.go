package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/failover"
)

// apiServer keeps slices with versions, as the API server does, and notes every state they were in.
type apiServer struct {
	Kube
	slices map[string]*discoveryv1.EndpointSlice
	seen   []string
	before func(name string) // called before a write is looked at
}

func (k *apiServer) Slice(_ context.Context, name string) (*discoveryv1.EndpointSlice, error) {
	s, ok := k.slices[name]
	if !ok {
		return nil, apierrors.NewNotFound(discoveryv1.Resource("endpointslices"), name)
	}
	return s.DeepCopy(), nil
}

func (k *apiServer) UpdateSlice(_ context.Context, s *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	if k.before != nil {
		k.before(s.Name)
	}
	if k.slices[s.Name].ResourceVersion != s.ResourceVersion {
		return nil, apierrors.NewConflict(discoveryv1.Resource("endpointslices"), s.Name, errors.New("changed"))
	}
	k.put(s.Name, s.Annotations[keys.AnnotationEpoch], s.Endpoints)
	all := ""
	for _, name := range []string{"cache-primary-ipv4", "cache-primary-ipv6"} {
		if now, ok := k.slices[name]; ok {
			all += fmt.Sprintf("%s:%d ", name[len(name)-4:], len(now.Endpoints))
		}
	}
	k.seen = append(k.seen, all)
	return s, nil
}

func (k *apiServer) put(name, epoch string, endpoints []discoveryv1.Endpoint) {
	version := "1"
	if old, ok := k.slices[name]; ok {
		version = old.ResourceVersion + "1"
	}
	k.slices[name] = &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version,
		Annotations: map[string]string{keys.AnnotationEpoch: epoch}}, Endpoints: endpoints}
}

// still is a World in which time moves only when nothing else is left to do.
type still struct {
	World
	now    failover.Instant
	timers []func()
}

func (w *still) Now() failover.Instant           { return w.now }
func (w *still) After(_ time.Duration, f func()) { w.timers = append(w.timers, f) }
func (w *still) Beside(_ time.Duration, job work, then func()) {
	job(context.Background())
	w.timers = append(w.timers, then)
}

func router(k *apiServer, ips ...string) *Agent {
	w := &still{now: 1}
	a := New(Options{Config: agentconfig.Config{Service: "cache", Namespace: "ns"}, Self: failover.Run{Member: "cache-1", PodUID: "u", BootID: "1.x"},
		IPs: ips, Node: "n", Kube: k, Log: logr.Discard(), World: w})
	a.obs = failover.NewObservation(a.Self, 1, w.now, failover.Durable{})
	a.obs.Tenure = &failover.Tenure{Epoch: 5}
	return a
}

// settle runs what was put off until the slices are written or the epoch was found to be over.
func settle(t *testing.T, a *Agent, done func() bool) {
	t.Helper()
	w := a.World.(*still)
	for range 1000 {
		if done() {
			return
		}
		if len(w.timers) == 0 {
			break
		}
		f := w.timers[0]
		w.timers = w.timers[1:]
		f()
	}
	t.Fatal("nothing is left to do and it is not done")
}

func TestRouteNamesOnlyThisMember(t *testing.T) {
	k := &apiServer{slices: map[string]*discoveryv1.EndpointSlice{}}
	k.put("cache-primary-ipv4", "4", []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.9"}}})
	a := router(k, "10.0.0.1")
	a.route(5)
	settle(t, a, func() bool { return a.routed == 5 })
	s := k.slices["cache-primary-ipv4"]
	if len(s.Endpoints) != 1 || s.Endpoints[0].Addresses[0] != "10.0.0.1" || s.Annotations[keys.AnnotationEpoch] != "5" {
		t.Errorf("slice = %+v", s)
	}
}

func TestRouteEmptiesBothFamiliesFirst(t *testing.T) {
	k := &apiServer{slices: map[string]*discoveryv1.EndpointSlice{}}
	old := []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.9"}}}
	k.put("cache-primary-ipv4", "4", old)
	k.put("cache-primary-ipv6", "4", old)
	a := router(k, "10.0.0.1", "fd00::1")
	emptied := false
	a.emptySlices(5, a.families(), func() { emptied = true })
	settle(t, a, func() bool { return emptied })
	if last := k.seen[len(k.seen)-1]; last != "ipv4:0 ipv6:0 " {
		t.Errorf("after the first pass: %s", last)
	}
}

func TestRouteLeavesANewerEpochAlone(t *testing.T) {
	k := &apiServer{slices: map[string]*discoveryv1.EndpointSlice{}}
	newer := []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.7"}}}
	k.put("cache-primary-ipv4", "4", nil)
	k.before = func(name string) { // somebody newer comes between our read and our write
		k.before = nil
		k.put(name, "6", newer)
	}
	a := router(k, "10.0.0.1")
	a.route(5)
	settle(t, a, func() bool { return a.routed == 5 })
	if s := k.slices["cache-primary-ipv4"]; s.Annotations[keys.AnnotationEpoch] != "6" || s.Endpoints[0].Addresses[0] != "10.0.0.7" {
		t.Errorf("slice = %+v; epoch 6 was overwritten by epoch 5", s)
	}
}
