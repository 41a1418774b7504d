//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
)

// TestServices runs what needs no more than a service of its own, side by side.
func TestServices(t *testing.T) {
	// The longest first: what is left at the end runs alone.
	t.Run("Heal", testHeal)
	t.Run("Scale", testScale)
	t.Run("ReadOnly", testReadOnly)
	t.Run("Rolling", testRolling)
	t.Run("Claims", testClaims)
	t.Run("Faults", testFaults)
	t.Run("Persistent", testPersistent)
	t.Run("BadInput", testBadInput)
	t.Run("Storm", testStorm)
	t.Run("Cooldown", testCooldown)
	t.Run("Import", testImport)
	t.Run("Approval", testApproval)
	t.Run("Lease", testLease)
	t.Run("BadStart", testBadStart)
}

// longest is what an outage may take on a busy machine; the benchmark says what it takes on a quiet one.
const longest = 10 * time.Second

// fault runs one round and checks what holds on any machine.
func (f fixture) fault(t *testing.T, kind faults.Kind) {
	t.Helper()
	record, err := f.Run(t.Context(), kind, fmt.Sprintf("e2e-%s-%d", kind, time.Now().UnixNano()))
	must(t, err)
	outage := time.Duration(record.Longest().Microseconds) * time.Microsecond
	t.Logf("%s: %s → %s in epoch %d, %s, outage %s, %d writes acknowledged, %d lost, %d unknown", kind, record.From, record.To,
		record.Epoch, record.Evidence, outage.Round(100*time.Microsecond), record.Acknowledged, record.Verification.Lost, record.Unknown)
	if outage > longest {
		t.Errorf("%s: no write was acknowledged for %s", kind, outage)
	}
	planned := kind == faults.PodDelete || kind == faults.Switchover
	if record.Verification.Lost > 0 && planned {
		t.Errorf("%s: %d acknowledged writes were lost: %v", kind, record.Verification.Lost, record.Verification.LostSequence)
	}
	if planned && record.From == record.To {
		t.Errorf("%s: %s took over from itself", kind, record.To)
	}
}

func testFaults(t *testing.T) {
	t.Parallel()
	f := redis(t, space(t, "faults"), nil).ready(t)
	f.mark(t)
	stop := guardRoute(t, f.Service)
	for _, kind := range []faults.Kind{faults.EngineKill, faults.ContainerKill, faults.PodDelete, faults.Switchover} {
		t.Run(string(kind), func(t *testing.T) {
			f.fault(t, kind)
			must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
			f.marked(t)
		})
	}
	if seen := stop(); seen < 5 {
		t.Errorf("the watch of the EndpointSlice saw %d changes: each of the four faults makes at least one", seen)
	}
	t.Run("Story", func(t *testing.T) { story(t, f) })
}

// story: kubectl alone tells what happened.
func story(t *testing.T, f fixture) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"get", "rsvc"}, []string{"PRIMARY", "EPOCH", "READY", "LAG", "AVAILABLE", "cache", "3/3", "True"}},
		{[]string{"get", "fo"}, []string{"SERVICE", "EVIDENCE", "Automatic", "Switchover", "Released", "Completed"}},
		{[]string{"wait", "rsvc/cache", "--for=condition=Available", "--timeout=30s"}, []string{"condition met"}},
		{[]string{"wait", "rsvc/cache", "--for=condition=Ready", "--timeout=60s"}, []string{"condition met"}},
		{[]string{"describe", "rsvc", "cache"}, []string{"Events:", "Last Failover", "Failover Possible"}},
	} {
		out, err := kubectl(t, "", append(c.args, "-n", f.namespace)...)
		if err != nil {
			t.Errorf("kubectl %v: %v\n%s", c.args, err, out)
		}
		for _, want := range c.want {
			if !strings.Contains(strings.ReplaceAll(out, " ", ""), strings.ReplaceAll(want, " ", "")) {
				t.Errorf("kubectl %v does not show %q:\n%s", c.args, want, out)
			}
		}
	}
}

// testPersistent: with volumes the data outlives every pod at once.
func testPersistent(t *testing.T) {
	t.Parallel()
	namespace := space(t, "persistent")
	policy := shortLease(t, namespace)
	f := redis(t, namespace, func(obj *v1alpha1.ReplicatedService) {
		obj.Spec.Engine.Redis.Parameters = map[string]v1alpha1.ParameterValue{"appendonly": "yes", "appendfsync": "always"}
		obj.Spec.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("64Mi")}
		obj.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: policy.Name}
	}).ready(t)
	f.mark(t)
	stop := guardRoute(t, f.Service)
	before, err := f.Service.Primary(t.Context())
	must(t, err)
	pods, err := f.Service.Pods(t.Context())
	must(t, err)
	for i := range pods {
		if err := cluster.Delete(t.Context(), &pods[i], client.GracePeriodSeconds(10)); err != nil {
			t.Fatalf("deleting pod %s: %v", pods[i].Name, err)
		}
	}
	f.replaced(t, pods)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	f.marked(t)
	after, err := f.Service.Primary(t.Context())
	must(t, err)
	if after.Epoch <= before.Epoch {
		t.Errorf("epoch %d after all pods were replaced, %d before: a new run needs a new epoch", after.Epoch, before.Epoch)
	}
	stop()
	f.volumesStay(t)
}

// volumesStay: who deletes a service and did not ask for more keeps its data.
func (f fixture) volumesStay(t *testing.T) {
	t.Helper()
	obj, err := f.Service.Object(t.Context())
	must(t, err)
	must(t, cluster.Delete(t.Context(), obj))
	must(t, kube.Until(t.Context(), time.Minute, "the service and its pods to be gone", func(ctx context.Context) (bool, string, error) {
		pods, err := f.Service.Pods(ctx)
		if err != nil || len(pods) > 0 {
			return false, fmt.Sprintf("%d pods", len(pods)), err
		}
		_, err = f.Service.Object(ctx)
		return apierrors.IsNotFound(err), "the service is there", client.IgnoreNotFound(err)
	}))
	var claims corev1.PersistentVolumeClaimList
	must(t, cluster.List(t.Context(), &claims, client.InNamespace(f.namespace)))
	kept := 0
	for _, c := range claims.Items {
		if c.DeletionTimestamp == nil && c.Status.Phase == corev1.ClaimBound {
			kept++
		}
	}
	if kept != 3 {
		t.Errorf("%d of 3 volumes are left after the service was deleted", kept)
	}
}

// podsUnchanged fails when a member was replaced or does not run.
func (f fixture) podsUnchanged(t *testing.T, before []corev1.Pod) {
	t.Helper()
	now, err := f.Service.Pods(t.Context())
	must(t, err)
	uid := map[string]string{}
	for _, pod := range before {
		uid[pod.Name] = string(pod.UID)
	}
	for i := range now {
		if uid[now[i].Name] != string(now[i].UID) {
			t.Errorf("pod %s was replaced", now[i].Name)
		}
		for _, c := range now[i].Status.ContainerStatuses {
			if !c.Ready {
				t.Errorf("pod %s stopped running: %+v", now[i].Name, c.State)
			}
		}
	}
	if len(now) != len(before) {
		t.Errorf("%d pods, %d before", len(now), len(before))
	}
}
