package replicatedservice

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/workload"
)

func agentAddress(ip string) string { return net.JoinHostPort(ip, strconv.Itoa(names.AgentPort)) }

func ownedBy(obj client.Object, svc *v1alpha1.ReplicatedService) bool {
	owner := metav1.GetControllerOf(obj)
	return owner != nil && owner.UID == svc.UID
}

func isPrimarySlice(svc *v1alpha1.ReplicatedService, name string) bool {
	for _, family := range workload.Families {
		if name == names.PrimarySlice(svc.Name, family) {
			return true
		}
	}
	return false
}

func (r *Reconciler) applier() apply.Applier { return apply.Applier{Client: r.Client, Live: r.Live} }

// ensureObjects brings everything but Secrets, Lease and slices to its declared state.
func (r *Reconciler) ensureObjects(ctx context.Context, s *scope) error {
	if !s.mayBuild() {
		return nil
	}
	in := r.input(s)
	wanted := []client.Object{
		workload.ServiceAccount(in), workload.Role(in), workload.RoleBinding(in),
		workload.MembersService(in), workload.PrimaryService(in),
	}
	if config := workload.ConfigMap(in); config != nil {
		wanted = append(wanted, config)
	}
	if svc := workload.ReplicasService(in); svc != nil {
		wanted = append(wanted, svc)
	}
	if budget := workload.Budget(in); budget != nil {
		wanted = append(wanted, budget)
	}
	var all error
	for _, obj := range wanted {
		_, err := r.applier().Ensure(ctx, obj)
		all = errors.Join(all, s.absorb(err))
	}
	// The pods come last: without the others they would only wait and fill the events.
	if all == nil && !s.hasProblem(v1alpha1.ReasonNameTaken) {
		var wrote bool
		set := workload.StatefulSet(in)
		if all = keepTemplate(set, s.set); all == nil {
			wrote, all = r.applier().Ensure(ctx, set)
		}
		s.unsettled = wrote && s.set != nil // the one in the cache is of the spec before
	}
	s.unsettled = s.unsettled || all != nil
	return errors.Join(all, r.removeUnwanted(ctx, s, in))
}

func (s *scope) hasProblem(reason string) bool {
	return slices.ContainsFunc(s.problems, func(p Problem) bool { return p.Reason == reason })
}

func (r *Reconciler) removeUnwanted(ctx context.Context, s *scope, in workload.Input) error {
	var all error
	if workload.ReplicasService(in) == nil && s.replicas != nil {
		gone := &corev1.Service{ObjectMeta: workload.Meta(s.svc, s.replicas.Name, workload.ComponentReplicas)}
		all = errors.Join(all, r.applier().Remove(ctx, gone))
	}
	if workload.Budget(in) == nil {
		gone := &policyv1.PodDisruptionBudget{ObjectMeta: workload.Meta(s.svc, s.svc.Name, workload.ComponentMember)}
		all = errors.Join(all, r.applier().Remove(ctx, gone))
	}
	return all
}

// neverRan reports whether a kubelet says that the pod's engine was never started.
func neverRan(pod *corev1.Pod) bool {
	if pod == nil {
		return false
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.Name == names.EngineContainer {
			return c.State.Waiting != nil && c.LastTerminationState.Terminated == nil && c.RestartCount == 0 && c.ContainerID == ""
		}
	}
	return false
}

// families of a Service, IPv4 first.
func families(service *corev1.Service) []corev1.IPFamily {
	if service == nil {
		return nil
	}
	out := slices.Clone(service.Spec.IPFamilies)
	slices.Sort(out)
	return out
}

// ensureSlices makes the primary's slices before any agent needs them, empty. A slice that was deleted comes back under
// the highest epoch known, since the epoch of a route never falls.
func (r *Reconciler) ensureSlices(ctx context.Context, s *scope) error {
	if !s.mayBuild() || s.primary == nil {
		return nil
	}
	for _, family := range families(s.primary) {
		want := workload.PrimarySlice(s.effective, family)
		if slices.ContainsFunc(s.slices, func(have discoveryv1.EndpointSlice) bool { return have.Name == want.Name }) {
			continue
		}
		want.Annotations[keys.AnnotationEpoch] = strconv.FormatInt(int64(s.highestEpoch()), 10)
		if err := r.create(ctx, want); err != nil {
			return err
		}
	}
	return nil
}

// create makes an object that nobody may have made before.
func (r *Reconciler) create(ctx context.Context, want client.Object) error {
	key := client.ObjectKeyFromObject(want)
	err := r.Client.Create(ctx, want, apply.FieldOwner)
	if err == nil {
		return nil
	}
	have := &metav1.PartialObjectMetadata{}
	gvk, gvkErr := r.Client.GroupVersionKindFor(want)
	if gvkErr != nil {
		return errors.Join(err, gvkErr)
	}
	have.SetGroupVersionKind(gvk)
	if getErr := r.Live.Get(ctx, key, have); getErr != nil {
		return fmt.Errorf("creating %s %s: %w", gvk.Kind, key, err)
	}
	switch is := metav1.GetControllerOf(have); {
	case is != nil && is.UID == metav1.GetControllerOf(want).UID:
		return err // made a moment ago, the cache does not show it yet
	case is != nil && is.Kind == "ReplicatedService" && is.Name == metav1.GetControllerOf(want).Name:
		return &apply.LeavingError{Kind: gvk.Kind, Name: key.Name}
	default:
		return &apply.TakenError{Kind: gvk.Kind, Name: key.Name}
	}
}

// highestEpoch known from the Lease, the slices and the status.
func (s *scope) highestEpoch() failover.Epoch {
	highest := s.routedEpoch()
	if s.register != nil {
		highest = max(highest, s.register.Epoch)
	}
	if p := s.svc.Status.Primary; p != nil {
		highest = max(highest, failover.Epoch(p.Epoch))
	}
	return highest
}

func (s *scope) routedEpoch() failover.Epoch {
	var highest failover.Epoch
	for i := range s.slices {
		highest = max(highest, sliceEpoch(&s.slices[i]))
	}
	return highest
}

func sliceEpoch(slice *discoveryv1.EndpointSlice) failover.Epoch {
	n, err := strconv.ParseInt(slice.Annotations[keys.AnnotationEpoch], 10, 64)
	if err != nil {
		return 0
	}
	return failover.Epoch(n)
}

// setEndpoints writes endpoints into a slice under the resourceVersion it was read with.
func (r *Reconciler) setEndpoints(ctx context.Context, slice *discoveryv1.EndpointSlice, epoch failover.Epoch, endpoints []discoveryv1.Endpoint) error {
	slice = slice.DeepCopy()
	slice.Annotations = maps.Clone(slice.Annotations)
	if slice.Annotations == nil {
		slice.Annotations = map[string]string{}
	}
	slice.Annotations[keys.AnnotationEpoch] = strconv.FormatInt(int64(max(epoch, sliceEpoch(slice))), 10)
	slice.Endpoints = endpoints
	return r.Client.Update(ctx, slice, apply.FieldOwner)
}

func (r *Reconciler) liveSlices(ctx context.Context, s *scope) ([]discoveryv1.EndpointSlice, error) {
	var out []discoveryv1.EndpointSlice
	for _, family := range []string{"ipv4", "ipv6"} {
		slice := discoveryv1.EndpointSlice{}
		key := types.NamespacedName{Namespace: s.svc.Namespace, Name: names.PrimarySlice(s.svc.Name, family)}
		err := r.Live.Get(ctx, key, &slice)
		if client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		if err == nil && ownedBy(&slice, s.svc) {
			out = append(out, slice)
		}
	}
	return out, nil
}
