package agent

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
)

const (
	routeRetry = 50 * time.Millisecond
	// unrouteAfter leaves the endpoint of a fenced primary to its successor, whose one write replaces it: kube-proxy may
	// wait a second between two changes, and the first would be the empty one.
	unrouteAfter = 800 * time.Millisecond
)

// families maps this pod's addresses to the slices they belong in.
func (a *Agent) families() map[string]string {
	out := map[string]string{}
	for _, ip := range a.IPs {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			continue
		}
		family := "ipv4"
		if addr.Is6() {
			family = "ipv6"
		}
		if _, ok := out[family]; !ok {
			out[family] = ip
		}
	}
	return out
}

// prefetchSlices reads the slices while votes are collected, so that routing needs one call and not two. What is read here may be
// outdated by then; the write is refused in that case and the slice read again.
func (a *Agent) prefetchSlices() {
	a.prefetched.clear()
	for family := range a.families() {
		name := names.PrimarySlice(a.Config.Service, family)
		a.World.Beside(apiTimeout, func(ctx context.Context) {
			if s, err := a.Kube.Slice(ctx, name); err == nil {
				a.prefetched.put(name, s)
			}
		}, func() {})
	}
}

// route writes this member into the slices until it succeeded or the epoch is over (rule RouteByEpoch). Two address
// families are two objects: both are emptied before one is filled, so that they never name two members.
func (a *Agent) route(epoch failover.Epoch) {
	families := a.families()
	fill := func() {
		left := len(families)
		for family, ip := range families {
			endpoints := []discoveryv1.Endpoint{a.endpoint(ip)}
			a.writeSlice(epoch, names.PrimarySlice(a.Config.Service, family), endpoints, func() {
				if left--; left == 0 {
					a.onRouted(epoch)
				}
			})
		}
	}
	if len(families) < 2 {
		fill()
		return
	}
	a.emptySlices(epoch, families, fill)
}

// emptySlices empties the slices if the Service has both families; a pod may have two addresses and its Service one.
func (a *Agent) emptySlices(epoch failover.Epoch, families map[string]string, then func()) {
	var have []string
	a.World.Beside(apiTimeout, func(ctx context.Context) {
		for family := range families {
			name := names.PrimarySlice(a.Config.Service, family)
			if _, err := a.Kube.Slice(ctx, name); !apierrors.IsNotFound(err) {
				have = append(have, name)
			}
		}
	}, func() {
		if len(have) < 2 {
			then()
			return
		}
		left := len(have)
		for _, name := range have {
			a.writeSlice(epoch, name, []discoveryv1.Endpoint{}, func() {
				if left--; left == 0 {
					then()
				}
			})
		}
	})
}

func (a *Agent) holds(epoch failover.Epoch) bool {
	return a.obs.Tenure != nil && a.obs.Tenure.Epoch == epoch
}

// writeSlice writes endpoints into one slice until it succeeded, and then calls then; it stops when the epoch is over.
func (a *Agent) writeSlice(epoch failover.Epoch, name string, endpoints []discoveryv1.Endpoint, then func()) {
	var done bool
	var err error
	a.World.Beside(apiTimeout, func(ctx context.Context) { done, err = a.tryRoute(ctx, epoch, name, endpoints) }, func() {
		if done {
			then()
			return
		}
		if err != nil && !apierrors.IsConflict(err) {
			a.Log.Info("The EndpointSlice was not written; trying again", "slice", name, "why", err.Error())
		}
		a.World.After(routeRetry, func() {
			if a.holds(epoch) {
				a.writeSlice(epoch, name, endpoints, then)
			}
		})
	})
}

func (a *Agent) tryRoute(ctx context.Context, epoch failover.Epoch, name string, endpoints []discoveryv1.Endpoint) (bool, error) {
	slice := a.prefetched.take(name)
	if slice == nil {
		var err error
		if slice, err = a.Kube.Slice(ctx, name); apierrors.IsNotFound(err) {
			return true, nil // the Service has no such address family
		} else if err != nil {
			return false, err
		}
	}
	if sliceEpoch(slice) > epoch {
		return true, nil // somebody newer is routed
	}
	slice.Endpoints = endpoints
	setSliceEpoch(slice, epoch)
	_, err := a.Kube.UpdateSlice(ctx, slice)
	return err == nil, err
}

func (a *Agent) endpoint(ip string) discoveryv1.Endpoint {
	yes, no := true, false
	return discoveryv1.Endpoint{
		Addresses:  []string{ip},
		Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
		NodeName:   &a.Node,
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: a.Config.Namespace, Name: a.Self.Member,
			UID: podUID(a.Self.PodUID)},
	}
}

// unrouteLater takes a fenced primary out of the slices if nobody replaced it there meanwhile.
func (a *Agent) unrouteLater(epoch failover.Epoch) {
	a.World.After(unrouteAfter, func() {
		for family := range a.families() {
			name := names.PrimarySlice(a.Config.Service, family)
			a.World.Beside(apiTimeout, func(ctx context.Context) {
				if s, err := a.Kube.Slice(ctx, name); err == nil && sliceEpoch(s) == epoch && len(s.Endpoints) > 0 {
					s.Endpoints = []discoveryv1.Endpoint{}
					_, _ = a.Kube.UpdateSlice(ctx, s) // the operator does the same when this fails
				}
			}, func() {})
		}
	})
}

// relayFor is how long clients of a fenced primary are led to its successor: by then every node has the new route.
const relayFor = 2 * time.Second

// beginRelay takes the engine's port while there is no engine.
func (a *Agent) beginRelay(epoch failover.Epoch, now failover.Instant) {
	if len(a.ordered) == 0 {
		return // nobody could succeed
	}
	a.relaying, a.fencedAt = epoch, now
	a.Relay.Listen()
	a.World.After(relayFor, func() {
		if a.relaying == epoch {
			a.endRelay()
		}
		if a.Pooler != nil && !a.leaving { // else it does so before it ends
			a.renewClients(func() {})
		}
	})
}

// leadClients tells the relay of the successor as soon as it says that it is open.
func (a *Agent) leadClients() {
	if h := a.obs.Heard; a.relaying != 0 && h.Open && h.Epoch > a.relaying && a.obs.Tenure == nil {
		a.Relay.Lead(h.Upstream)
	}
}

// endRelay gives the port back; the engine is about to need it.
func (a *Agent) endRelay() {
	a.relaying = 0
	a.Relay.Stop()
}

func sliceEpoch(s *discoveryv1.EndpointSlice) failover.Epoch {
	n, _ := strconv.ParseInt(s.Annotations[keys.AnnotationEpoch], 10, 64)
	return failover.Epoch(n)
}

func setSliceEpoch(s *discoveryv1.EndpointSlice, epoch failover.Epoch) {
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations[keys.AnnotationEpoch] = strconv.FormatInt(int64(epoch), 10)
}
