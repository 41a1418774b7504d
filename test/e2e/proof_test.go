//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/kube"
)

// longLease is so long that a person's word ends it first, even where the operator's leader went down with the node and another
// must be elected.
const longLease = 40 * time.Second

// TestProof: what nobody's silence proves, a person or Kubernetes may.
func TestProof(t *testing.T) {
	needHost(t)
	f := proven(t, "proof", longLease).ready(t)
	f.mark(t)
	stop := guardRoute(t, f.Service)
	t.Run("Forced", func(t *testing.T) { forced(t, f) })
	stop()
	t.Run("ZoneOutOfService", zoneOutOfService)
	t.Run("NodeGone", nodeGone)
}

// proven is a service under a policy that accepts what Kubernetes says of nodes.
func proven(t *testing.T, name string, lease time.Duration) fixture {
	t.Helper()
	namespace := space(t, name)
	policy := &v1alpha1.FailoverPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "nodes"},
		Spec: v1alpha1.FailoverPolicySpec{
			Detection: v1alpha1.DetectionSpec{LeaseDurationMilliseconds: int32(lease.Milliseconds())},
			AcceptedEvidence: []v1alpha1.EvidenceType{
				v1alpha1.EvidenceReleased, v1alpha1.EvidenceProcessGone, v1alpha1.EvidenceContainerTerminated,
				v1alpha1.EvidenceLeaseExpired, v1alpha1.EvidenceNodeOutOfService,
			},
		},
	}
	must(t, cluster.Create(t.Context(), policy))
	return redis(t, namespace, func(obj *v1alpha1.ReplicatedService) {
		obj.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: policy.Name}
	})
}

// off switches nodes off and, at the end, on again.
func (f fixture) off(t *testing.T, nodes ...string) (on func()) {
	t.Helper()
	on = cleanup(t, fmt.Sprintf("switching %v on again", nodes), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
		defer cancel()
		for _, node := range nodes {
			if err := injector.NodeOn(ctx, node); err != nil {
				return err
			}
		}
		return nil
	})
	for _, node := range nodes {
		must(t, injector.NodeOff(t.Context(), node))
	}
	return on
}

// takenOver waits for an epoch above and returns who has it.
func (f fixture) takenOver(t *testing.T, old kube.Primary, within time.Duration) kube.Primary {
	t.Helper()
	var now kube.Primary
	what := fmt.Sprintf("somebody to serve after epoch %d of %s", old.Epoch, old.Member)
	must(t, kube.Until(t.Context(), within, what, func(ctx context.Context) (bool, string, error) {
		var err error
		now, err = f.Service.Primary(ctx)
		return err == nil && now.Epoch > old.Epoch && now.Routed == now.Epoch && len(now.Address) == 1,
			fmt.Sprintf("%s in epoch %d, routed %d to %v", now.Member, now.Epoch, now.Routed, now.Address), err
	}))
	return now
}

// forced: a node is off, nothing proves it, and a person who knows says so.
func forced(t *testing.T, f fixture) {
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	old, err := f.Service.Primary(t.Context())
	must(t, err)
	wrong := f.force(t, "too-early", old)
	f.concluded(t, wrong, v1alpha1.ConditionStalled, "answers and serves")
	on := f.off(t, old.Node)
	// The operator hears of the silence before it believes the word: a primary that serves is never declared dead.
	must(t, kube.Until(t.Context(), time.Minute, old.Member+" to be reported as gone", func(ctx context.Context) (bool, string, error) {
		obj, err := f.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		available := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionAvailable)
		return available.Status != metav1.ConditionTrue, available.Message, nil
	}))
	begun := time.Now()
	right := f.force(t, "dead", old)
	now := f.takenOver(t, old, time.Minute)
	f.concluded(t, right, v1alpha1.ConditionReady, now.Member)
	if right.Status.Evidence != v1alpha1.EvidenceAsserted {
		t.Errorf("evidence %q: the person's word was to count before the lease had run out", right.Status.Evidence)
	}
	t.Logf("%s took over from %s %s after a person's word", now.Member, old.Member, time.Since(begun).Round(100*time.Millisecond))
	on()
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	f.marked(t)
}

func (f fixture) force(t *testing.T, name string, dead kube.Primary) *v1alpha1.Failover {
	t.Helper()
	fo := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name},
		Spec: v1alpha1.FailoverSpec{
			ServiceRef: v1alpha1.LocalReference{Name: f.Service.Name}, Type: v1alpha1.TypeForced,
			AssertDead: &v1alpha1.AssertDead{Member: dead.Member, PodUID: dead.PodUID, Epoch: dead.Epoch},
		},
	}
	must(t, cluster.Create(t.Context(), fo))
	return fo
}

// concluded waits for a Failover's end and checks what its condition says.
func (f fixture) concluded(t *testing.T, fo *v1alpha1.Failover, condition string, parts ...string) {
	t.Helper()
	var message string
	what := fmt.Sprintf("Failover %s to be %s", fo.Name, condition)
	must(t, kube.Until(t.Context(), time.Minute, what, func(ctx context.Context) (bool, string, error) {
		if err := cluster.Get(ctx, client.ObjectKeyFromObject(fo), fo); err != nil {
			return false, "", err
		}
		c := meta.FindStatusCondition(fo.Status.Conditions, condition)
		if c != nil {
			message = c.Message
		}
		return c != nil && c.Status == metav1.ConditionTrue, fmt.Sprintf("%+v", fo.Status.Conditions), nil
	}))
	names(t, message, parts...)
}

// zoneOutOfService: two of three members are off, the primary among them. Nobody has a majority, so nobody takes over, until the
// nodes are declared out of service: then the third may.
func zoneOutOfService(t *testing.T) {
	const lease = shortLeaseMilliseconds * time.Millisecond
	f := proven(t, "zone", lease).ready(t)
	f.mark(t)
	stop := guardRoute(t, f.Service)
	s := f.scene(t)
	lost := []string{s.primary.Node, s.node(s.replicas[0])}
	on := f.off(t, lost...)
	since := time.Now()
	for _, name := range lost {
		what := "node " + name + " to be told as not ready, and to be off for longer than a lease"
		must(t, kube.Until(t.Context(), 2*time.Minute, what, func(ctx context.Context) (bool, string, error) {
			var node corev1.Node
			if err := cluster.Get(ctx, client.ObjectKey{Name: name}, &node); err != nil {
				return false, "", err
			}
			off := time.Since(since)
			for _, c := range node.Status.Conditions {
				if c.Type == corev1.NodeReady {
					return c.Status != corev1.ConditionTrue && off > lease+time.Second, fmt.Sprintf("%s, off for %s", c.Status, off), nil
				}
			}
			return false, "it has no such condition", nil
		}))
	}
	if now, err := f.Service.Primary(t.Context()); err != nil || now.Epoch != s.primary.Epoch {
		t.Fatalf("%s took over in epoch %d without a majority and without proof: %v", now.Member, now.Epoch, err)
	}
	f.holdsOut(t, s)
	untaint := cleanup(t, "taking the taints off", func(ctx context.Context) error { return taint(ctx, false, lost) })
	must(t, taint(t.Context(), true, lost))
	begun := time.Now()
	now := f.takenOver(t, s.primary, 5*time.Minute)
	t.Logf("%s took over alone %s after its peers' nodes were declared out of service", now.Member, time.Since(begun).Round(100*time.Millisecond))
	if now.Member != s.replicas[1] {
		t.Errorf("%s took over: only %s was left", now.Member, s.replicas[1])
	}
	on()
	untaint()
	must(t, f.WaitHealthy(t.Context(), 5*time.Minute))
	f.marked(t)
	stop()
}

// holdsOut: while two of three members are gone, the budget lets nobody evict the third, and the conditions say that nobody serves and who is missing.
func (f fixture) holdsOut(t *testing.T, s scene) {
	t.Helper()
	left := s.replicas[1]
	pod := s.pods[left]
	err := cluster.SubResource("eviction").Create(t.Context(), &pod, &policyv1.Eviction{})
	if !apierrors.IsTooManyRequests(err) {
		t.Errorf("the eviction of %s, the last of three, was answered with %v and not with 429", left, err)
	}
	// Both of the operator's pods may have been on the nodes that are off.
	must(t, kube.Until(t.Context(), 2*time.Minute, "the conditions to say what is lost", func(ctx context.Context) (bool, string, error) {
		obj, err := f.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		available := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionAvailable)
		redundant := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionRedundant)
		possible := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionFailoverPossible)
		told := available.Status == metav1.ConditionFalse && redundant.Status == metav1.ConditionFalse && possible.Status == metav1.ConditionFalse &&
			strings.Contains(possible.Message, s.replicas[0])
		return told, fmt.Sprintf("%s; %s; %s", available.Message, redundant.Message, possible.Message), nil
	}))
}

// taint declares nodes out of service, or takes that back.
func taint(ctx context.Context, out bool, nodes []string) error {
	for _, name := range nodes {
		var node corev1.Node
		if err := cluster.Get(ctx, client.ObjectKey{Name: name}, &node); err != nil {
			return err
		}
		before := client.MergeFrom(node.DeepCopy())
		var kept []corev1.Taint
		for _, t := range node.Spec.Taints {
			if t.Key != corev1.TaintNodeOutOfService {
				kept = append(kept, t)
			}
		}
		if out {
			added := metav1.Now()
			kept = append(kept, corev1.Taint{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute, TimeAdded: &added})
		}
		node.Spec.Taints = kept
		if err := cluster.Patch(ctx, &node, before); err != nil {
			return fmt.Errorf("changing the taints of node %s: %w", name, err)
		}
	}
	return nil
}
