//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/test/internal/kube"
)

// testHeal: a replica whose container ends again and again does not wait for the kubelet; its pod is made anew, and writes never stop.
// The planned changes of this service go to the zone where its primary is wanted.
func testHeal(t *testing.T) {
	t.Parallel()
	f := redis(t, space(t, "heal"), nil).ready(t)
	s := f.scene(t)
	member := s.replicas[0]
	for ends := range int32(2) { // the kubelet starts it at once after the first end, and holds it back after the second
		must(t, f.running(t.Context(), member, ends))
		must(t, f.Injector.KillContainer(t.Context(), f.namespace, member))
	}
	s.madeAnew(t, member, time.Minute)
	must(t, f.Service.WaitHealthy(t.Context(), time.Minute, false))
	now, err := f.Service.Primary(t.Context())
	must(t, err)
	if now.Member != s.primary.Member || now.Epoch != s.primary.Epoch {
		t.Errorf("the primary was %s of epoch %d, and is %s of epoch %d", s.primary.Member, s.primary.Epoch, now.Member, now.Epoch)
	}
	var events eventsv1.EventList
	must(t, cluster.List(t.Context(), &events, client.InNamespace(f.namespace)))
	for _, reason := range []string{"MemberAway", "MemberRecreated", "MemberFollows"} {
		if !slices.ContainsFunc(events.Items, func(e eventsv1.Event) bool { return e.Reason == reason && strings.Contains(e.Note, member) }) {
			t.Errorf("no event %s tells of %s", reason, member)
		}
	}
	t.Run("AgentHung", func(t *testing.T) { f.agentHung(t) })
	t.Run("PreferredZone", func(t *testing.T) { f.preferredZone(t) })
}

// agentHung: nothing but a new pod ends an agent that hangs.
func (f fixture) agentHung(t *testing.T) {
	s := f.scene(t)
	member := s.replicas[1]
	hung := time.Now()
	must(t, f.Injector.HangAgent(t.Context(), f.namespace, member))
	s.madeAnew(t, member, 3*time.Minute)
	t.Logf("%s was made anew %s after its agent was stopped", member, time.Since(hung).Round(100*time.Millisecond))
	must(t, f.Service.WaitHealthy(t.Context(), time.Minute, false))
	if now, err := f.Service.Primary(t.Context()); err != nil || now.Epoch != s.primary.Epoch {
		t.Errorf("the epoch was %d, and is %d (%v)", s.primary.Epoch, now.Epoch, err)
	}
}

// madeAnew waits until a member has another pod than the scene's.
func (s scene) madeAnew(t *testing.T, member string, within time.Duration) {
	t.Helper()
	must(t, kube.UntilEvery(t.Context(), within, 200*time.Millisecond, "pod "+member+" to be made anew", func(ctx context.Context) (bool, string, error) {
		var pod corev1.Pod
		err := cluster.Get(ctx, client.ObjectKey{Namespace: s.f.namespace, Name: member}, &pod)
		return pod.UID != "" && pod.UID != s.pods[member].UID, fmt.Sprintf("%s, %+v", pod.UID, pod.Status.ContainerStatuses), client.IgnoreNotFound(err)
	}))
}

// running waits until a member's container runs and was started again so many times.
func (f fixture) running(ctx context.Context, member string, restarts int32) error {
	return kube.UntilEvery(ctx, time.Minute, 200*time.Millisecond, "the container of "+member+" to run", func(ctx context.Context) (bool, string, error) {
		var pod corev1.Pod
		err := cluster.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: member}, &pod)
		for _, c := range pod.Status.ContainerStatuses {
			if c.State.Running != nil && c.RestartCount == restarts && kube.PodReady(&pod) {
				return true, "", err
			}
		}
		return false, fmt.Sprintf("%+v", pod.Status.ContainerStatuses), err
	})
}

// preferredZone prefers the zone of each of the service's replicas in turn, and asks for a switchover without a target. A zone may have two members: one
// that was made anew goes where there is room.
func (f fixture) preferredZone(t *testing.T) {
	s := f.scene(t)
	zoneOf, of := map[string]string{}, map[string][]string{}
	for _, member := range slices.Sorted(maps.Keys(s.pods)) {
		var node corev1.Node
		must(t, cluster.Get(t.Context(), client.ObjectKey{Name: s.node(member)}, &node))
		zone := node.Labels[corev1.LabelTopologyZone]
		zoneOf[member], of[zone] = zone, append(of[zone], member)
	}
	if len(of) < 2 {
		t.Skip("the members are not in several zones")
	}
	var home []string
	for _, member := range []string{s.replicas[1], s.replicas[0]} {
		zone := zoneOf[member]
		home = of[zone]
		f.patch(t, func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Placement = &v1alpha1.PlacementSpec{PreferredZone: zone}
		})
		must(t, f.Service.WaitTerms(t.Context(), fmt.Sprintf("the preferred members %v", home), func(t failover.Terms) bool { return slices.Equal(t.Preferred, home) }))
		must(t, f.WaitHealthy(t.Context(), time.Minute))
		before, err := f.Service.Primary(t.Context())
		must(t, err)
		if slices.Contains(home, before.Member) && len(home) == 1 {
			t.Fatalf("%s is the primary already", before.Member)
		}
		_, err = f.Switchover(t.Context(), "")
		must(t, err)
		if p := f.nextEpoch(t, before.Epoch, 30*time.Second); !slices.Contains(home, p.Member) {
			t.Errorf("%s became primary, and %v are in the preferred zone %s", p.Member, home, zone)
		}
	}
	away := slices.IndexFunc(slices.Sorted(maps.Keys(zoneOf)), func(member string) bool { return !slices.Contains(home, member) })
	f.failBack(t, home, slices.Sorted(maps.Keys(zoneOf))[away])
}

// failBack moves the primary out of its zone: it comes back by itself, and no sooner than everything has been well for the declared time.
func (f fixture) failBack(t *testing.T, home []string, away string) {
	const after = 10 * time.Second
	f.patch(t, func(spec *v1alpha1.ReplicatedServiceSpec) {
		spec.Placement.FailBackAfterSeconds = ptr.To(int32(after / time.Second))
	})
	must(t, f.WaitHealthy(t.Context(), time.Minute))
	before, err := f.Service.Primary(t.Context())
	must(t, err)
	_, err = f.Switchover(t.Context(), away)
	must(t, err)
	left := f.nextEpoch(t, before.Epoch, 30*time.Second)
	moved := time.Now()
	back := f.nextEpoch(t, left.Epoch, time.Minute)
	if left.Member != away || !slices.Contains(home, back.Member) || time.Since(moved) < after {
		t.Errorf("the primary went to %s and %s later to %s, want %s and no sooner than after %s one of %v", left.Member, time.Since(moved), back.Member, away, after, home)
	}
}
