package replicatedservice

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

const (
	// routePatience is how long a wrong route may stand before the operator mends it: whoever promotes also routes,
	// and the operator must not race with it.
	routePatience = time.Second
	// replicasPatience after a change of primary the replicas' slices are left alone: kube-proxy writes its rules at
	// most once a second, and the primary's slice must not wait for theirs.
	replicasPatience = time.Second
)

type routeDo int

const (
	routeKeep  routeDo = iota
	routeServe         // let the slices name the member that serves
	routeEmpty         // take out what cannot be served any more
)

// server is the member that reports to serve, with the highest epoch, if it is not below the Lease's.
func (s *scope) server() *wire.Status {
	var best *wire.Status
	for _, report := range s.reports {
		status := report.Live()
		if status == nil || !status.Serving || (s.register != nil && status.Epoch < s.register.Epoch) {
			continue
		}
		if best == nil || status.Epoch > best.Epoch {
			best = status
		}
	}
	return best
}

// decideRoute compares the slices with who serves. It does not heed how long they have differed.
func decideRoute(s *scope, slices []discoveryv1.EndpointSlice) routeDo {
	serving := s.server()
	if serving != nil && s.register != nil && serving.Run == s.register.Holder && serving.Epoch == s.register.Epoch {
		if !routed(s, slices, serving) {
			return routeServe
		}
		return routeKeep
	}
	if serving != nil {
		return routeKeep // the Lease in the cache is older than what the member says
	}
	for i := range slices {
		for _, e := range slices[i].Endpoints {
			if s.ended(e) {
				return routeEmpty
			}
		}
	}
	return routeKeep
}

// routed reports whether each slice names the serving member under its epoch, and nobody else.
func routed(s *scope, slices []discoveryv1.EndpointSlice, serving *wire.Status) bool {
	pod := s.pods[serving.Run.Member]
	if pod == nil || len(slices) == 0 {
		return false
	}
	for i := range slices {
		want, ok := workload.Endpoint(pod, corev1.IPFamily(slices[i].AddressType))
		have := slices[i].Endpoints
		if !ok {
			if len(have) > 0 {
				return false
			}
			continue
		}
		if sliceEpoch(&slices[i]) != serving.Epoch || len(have) != 1 || len(have[0].Addresses) != 1 || have[0].Addresses[0] != want.Addresses[0] {
			return false
		}
	}
	return true
}

// ended reports whether an endpoint leads to a pod that is known not to serve. A pod of which nothing is known stays:
// the operator alone may be cut off.
func (s *scope) ended(e discoveryv1.Endpoint) bool {
	if e.TargetRef == nil {
		return false
	}
	pod := s.pods[e.TargetRef.Name]
	if pod == nil || (e.TargetRef.UID != "" && pod.UID != e.TargetRef.UID) || finished(pod) {
		return true
	}
	if report := s.reports[pod.Name]; report.Connected {
		return report.Live() != nil && !report.Live().Serving
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.Name == names.EngineContainer {
			return c.State.Running == nil
		}
	}
	return false
}

// ensureRoute mends the primary's slices when nobody else did for a second.
func (r *Reconciler) ensureRoute(ctx context.Context, s *scope) error {
	if decideRoute(s, s.slices) == routeKeep || s.paused() {
		s.memory.routeWrong = time.Time{}
		return nil
	}
	if s.memory.routeWrong.IsZero() {
		s.memory.routeWrong = s.now
	}
	if since := s.now.Sub(s.memory.routeWrong); since < routePatience {
		s.lookIn(routePatience - since)
		return nil
	}
	obj, err := r.liveLease(ctx, s.svc)
	if err != nil || obj == nil {
		return err
	}
	current, err := r.liveSlices(ctx, s)
	if err != nil {
		return err
	}
	s.register = readable(ctx, obj)
	switch decideRoute(s, current) {
	case routeServe:
		return r.routeTo(ctx, s, current, s.server())
	case routeEmpty:
		return r.emptyRoute(ctx, s, current)
	}
	return nil
}

// routeTo takes the old endpoints out of every slice before it puts the new ones in.
func (r *Reconciler) routeTo(ctx context.Context, s *scope, slices []discoveryv1.EndpointSlice, serving *wire.Status) error {
	pod := s.pods[serving.Run.Member]
	if pod == nil {
		return nil
	}
	for i := range slices {
		if sliceEpoch(&slices[i]) > serving.Epoch {
			return nil // somebody knows a newer primary
		}
	}
	if len(slices) > 1 {
		if err := r.emptyAt(ctx, slices, serving.Epoch); err != nil {
			return err
		}
		var err error
		if slices, err = r.liveSlices(ctx, s); err != nil {
			return err
		}
	}
	for i := range slices {
		endpoints := []discoveryv1.Endpoint{}
		if e, ok := workload.Endpoint(pod, corev1.IPFamily(slices[i].AddressType)); ok {
			endpoints = append(endpoints, e)
		}
		if err := r.setEndpoints(ctx, &slices[i], serving.Epoch, endpoints); err != nil {
			return err
		}
	}
	ctrl.LoggerFrom(ctx).Info("the operator mended the route", "member", serving.Run.Member, "epoch", serving.Epoch)
	return nil
}

func (r *Reconciler) emptyRoute(ctx context.Context, s *scope, slices []discoveryv1.EndpointSlice) error {
	ctrl.LoggerFrom(ctx).Info("the operator takes a dead primary out of the route", "slices", len(slices))
	return r.emptyAt(ctx, slices, 0)
}

func (r *Reconciler) emptyAt(ctx context.Context, slices []discoveryv1.EndpointSlice, epoch failover.Epoch) error {
	var all error
	for i := range slices {
		if len(slices[i].Endpoints) > 0 {
			all = errors.Join(all, r.setEndpoints(ctx, &slices[i], epoch, []discoveryv1.Endpoint{}))
		}
	}
	return all
}

// ensureReplicasRoute lets NAME-replicas lead to the members that follow within the limit.
func (r *Reconciler) ensureReplicasRoute(ctx context.Context, s *scope) error {
	if s.register != nil && s.register.Epoch != s.memory.epoch {
		s.memory.epoch, s.memory.epochChanged = s.register.Epoch, s.now
	}
	if s.replicas == nil || !s.mayBuild() || !s.heard() {
		return nil
	}
	if since := s.now.Sub(s.memory.epochChanged); since < replicasPatience {
		s.lookIn(replicasPatience - since)
		return nil
	}
	var all error
	for _, family := range families(s.replicas) {
		endpoints := []discoveryv1.Endpoint{}
		for _, name := range s.memberNames() {
			status, pod := s.reports[name].Live(), s.pods[name]
			if status == nil || pod == nil || status.State != string(v1alpha1.MemberFollowing) {
				continue
			}
			if e, ok := workload.Endpoint(pod, family); ok {
				endpoints = append(endpoints, e)
			}
		}
		_, err := r.applier().Ensure(ctx, workload.ReplicasSlice(s.effective, family, endpoints))
		all = errors.Join(all, err)
	}
	return all
}
