//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/operator"
	"understudy.dev/understudy/test/internal/rest"
)

// TestAlone runs what needs the cluster for itself, one after the other on one service: at rest, without an operator,
// and with a node off.
func TestAlone(t *testing.T) {
	agent := keepOperator(t)
	namespace := space(t, "alone")
	policy := shortLease(t, namespace)
	f := redis(t, namespace, func(obj *v1alpha1.ReplicatedService) {
		obj.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: policy.Name}
	}).ready(t)
	f.mark(t)
	stop := guardRoute(t, f.Service)
	t.Run("AtRest", func(t *testing.T) { atRest(t, f) })
	t.Run("OperatorOff", func(t *testing.T) { operatorOff(t, f) })
	t.Run("AgentUpgraded", func(t *testing.T) { agentUpgraded(t, f, agent) })
	t.Run("ClusterStorm", func(t *testing.T) { clusterStorm(t, f) })
	t.Run("NodeOff", func(t *testing.T) { nodeOff(t, f) })
	t.Run("NodeIsolated", func(t *testing.T) { nodeIsolated(t, f) })
	t.Run("AgentHung", func(t *testing.T) { agentHung(t, f) })
	t.Run("EngineHung", func(t *testing.T) { engineHung(t, f) })
	t.Run("CutFromAPI", func(t *testing.T) { cutFromAPI(t, f) })
	t.Run("LossReported", func(t *testing.T) { lossReported(t, f) })
	t.Run("PolicyEditedInPartition", func(t *testing.T) { policyEdited(t, f, policy) })
	stop()
}

// atRest: a healthy service asks nothing of the API server.
func atRest(t *testing.T, f fixture) {
	needHost(t)
	rule, err := operator.RestRule(t.Context(), f.Service, repository)
	must(t, err)
	must(t, f.Service.WaitEvictable(t.Context(), time.Minute)) // which is written a while after all is well
	// The last work that becoming healthy made, such as an event, may still be on its way.
	must(t, kube.UntilEvery(t.Context(), time.Minute, time.Millisecond, "a quiet second", func(ctx context.Context) (bool, string, error) {
		count, err := rule.Watch(ctx, time.Second)
		return len(count.Requests) == 0, fmt.Sprint(count.Requests), err
	}))
	count, err := rule.Watch(t.Context(), time.Minute)
	must(t, err)
	for _, request := range count.Requests {
		t.Errorf("at rest: %s", request)
	}
	processes, err := rest.Processes("manager", "understudy-agent")
	must(t, err)
	for _, p := range processes {
		t.Logf("%.1f MiB resident: %s", float64(p.ResidentKiB)/1024, p.Command)
	}
}

// operatorOff: members fail over by themselves, and the operator writes down afterwards what it missed.
func operatorOff(t *testing.T, f fixture) {
	before, err := operator.Scale(t.Context(), cluster, 0)
	must(t, err)
	back := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		_, err := operator.Scale(ctx, cluster, before)
		return err
	}
	t.Cleanup(func() {
		if err := back(); err != nil {
			t.Errorf("scaling the operator back: %v", err)
		}
	})
	off := f
	off.OperatorOff = true
	off.fault(t, faults.EngineKill)
	off.fault(t, faults.ContainerKill)
	must(t, off.WaitHealthy(t.Context(), 3*time.Minute))
	f.marked(t)
	primary, err := f.Service.Primary(t.Context())
	must(t, err)
	must(t, back())
	what := fmt.Sprintf("a Failover that records epoch %d after the operator came back", primary.Epoch)
	must(t, kube.Until(t.Context(), time.Minute, what, func(ctx context.Context) (bool, string, error) {
		var all v1alpha1.FailoverList
		err := cluster.List(ctx, &all, client.InNamespace(f.namespace))
		for i := range all.Items {
			if all.Items[i].Status.Epoch == primary.Epoch {
				return true, "", nil
			}
		}
		return false, fmt.Sprintf("%d Failovers, none of that epoch", len(all.Items)), err
	}))
}

// keepOperator names the agent's image, and sees to it that the operator's arguments are as before when the test is over. What is asked for before the test's
// namespace is made comes after that is gone: nothing is rolled once more.
func keepOperator(t *testing.T) (agent string) {
	t.Helper()
	before := map[string]string{}
	for _, name := range []string{operator.AgentImage, operator.MaxConcurrentFailovers} {
		var err error
		before[name], err = operator.Argument(t.Context(), cluster, name)
		must(t, err)
	}
	if before[operator.AgentImage] == "" {
		t.Fatalf("the operator has no argument %s", operator.AgentImage)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err := operator.SetArguments(ctx, cluster, before); err != nil {
			t.Error(err)
		} else if err := operator.Ready(ctx, cluster); err != nil {
			t.Error(err)
		}
	})
	return before[operator.AgentImage]
}

// agentUpgraded: an operator of another version brings its agent to every member, as any rolling change.
func agentUpgraded(t *testing.T, f fixture, before string) {
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	other := strings.TrimPrefix(before, "docker.io/") // another name, which leads to the same bytes
	if other == before {
		t.Skipf("the agent's image has no other name than %s", before)
	}
	pods, err := f.Service.Pods(t.Context())
	must(t, err)
	f.rollsOn(t, f.Renewed(pods), func(ctx context.Context) error {
		return operator.SetArguments(ctx, cluster, map[string]string{operator.AgentImage: other, operator.MaxConcurrentFailovers: "1"})
	})
	must(t, operator.Ready(t.Context(), cluster))
	now, err := f.Service.Pods(t.Context())
	must(t, err)
	for i := range now {
		if got := now[i].Spec.InitContainers[0].Image; got != other {
			t.Errorf("%s has the agent of image %s, want %s", now[i].Name, got, other)
		}
	}
	f.marked(t)
}

// clusterStorm: where the operator lets one service of the cluster fail over at once, those of two namespaces do so one after the other.
func clusterStorm(t *testing.T, f fixture) {
	if most, err := operator.Argument(t.Context(), cluster, operator.MaxConcurrentFailovers); err != nil || most != "1" {
		t.Skipf("the operator does not limit failovers to one at once: %q, %v", most, err)
	}
	beside := redis(t, space(t, "alone-beside"), func(obj *v1alpha1.ReplicatedService) { obj.Name = "beside" })
	oneByOne(t, []fixture{f, beside})
	for _, of := range []fixture{f, beside} {
		var lease coordinationv1.Lease
		must(t, cluster.Get(t.Context(), client.ObjectKey{Namespace: of.namespace, Name: of.Service.Name + "-primary"}, &lease))
		names(t, fmt.Sprint(lease.Annotations), operator.Namespace+"/failovers.cluster")
		must(t, cluster.Get(t.Context(), client.ObjectKey{Namespace: operator.Namespace, Name: "failovers.cluster." + of.namespace + "." + of.Service.Name}, &rbacv1.RoleBinding{}))
	}
	var counts coordinationv1.Lease
	must(t, cluster.Get(t.Context(), client.ObjectKey{Namespace: operator.Namespace, Name: "failovers.cluster"}, &counts))
	if _, written := counts.Annotations[keys.AnnotationTurns]; !written {
		t.Errorf("no service counted itself: %v", counts.Annotations)
	}
	f.marked(t)
}

// nodeOff: a node that falls silent is replaced when its lease has run out, and its member rejoins.
func nodeOff(t *testing.T, f fixture) {
	needHost(t)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	primary, err := f.Service.Primary(t.Context())
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err := injector.NodeOn(ctx, primary.Node); err != nil {
			t.Errorf("switching node %s on again: %v", primary.Node, err)
		}
		if err := f.WaitHealthy(ctx, 3*time.Minute); err != nil {
			t.Errorf("after node %s came back: %v", primary.Node, err)
		}
	})
	f.fault(t, faults.NodeOff)
}

// replaced waits until every pod has a successor.
func (f fixture) replaced(t *testing.T, before []corev1.Pod) {
	t.Helper()
	old := map[string]bool{}
	for _, pod := range before {
		old[string(pod.UID)] = true
	}
	must(t, kube.Until(t.Context(), 2*time.Minute, "all pods to be replaced", func(ctx context.Context) (bool, string, error) {
		now, err := f.Service.Pods(ctx)
		left := 0
		for _, pod := range now {
			if old[string(pod.UID)] {
				left++
			}
		}
		return left == 0 && len(now) == len(before), fmt.Sprintf("%d old pods of %d", left, len(now)), err
	}))
}
