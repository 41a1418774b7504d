//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"understudy.dev/understudy/api/v1alpha1"
	naming "understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/rounds"
)

// testScale walks through numbers of members while a client writes: nothing that was acknowledged is lost, and writes stop for a switchover at most.
func testScale(t *testing.T) {
	t.Parallel()
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		f := redis(t, space(t, "scale"), func(obj *v1alpha1.ReplicatedService) { obj.Spec.Replicas = ptr.To[int32](1) })
		must(t, f.Clients.Ensure(t.Context()))
		f.settled(t.Context(), t, 1)
		t.Run("3", func(t *testing.T) { f.autoscaled(t, 3) })
		for _, n := range []int32{5, 2, 1} {
			t.Run(fmt.Sprint(n), func(t *testing.T) { f.scaled(t, n, f.scale) })
		}
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		var synchronous *v1alpha1.ReplicationSpec // which asks for a replica, so that the service begins and ends without
		f := postgresql(t, space(t, "scale-postgresql"), func(obj *v1alpha1.ReplicatedService) {
			obj.Spec.Storage.StorageClassName, obj.Spec.Replicas = nil, ptr.To[int32](1)
			synchronous, obj.Spec.Replication = obj.Spec.Replication, nil
		})
		must(t, f.Clients.Ensure(t.Context()))
		f.settled(t.Context(), t, 1)
		t.Run("3", func(t *testing.T) { f.scaled(t, 3, f.scale) })
		f.patch(t, func(spec *v1alpha1.ReplicatedServiceSpec) { spec.Replication = synchronous })
		for _, n := range []int32{5, 2} {
			t.Run(fmt.Sprint(n), func(t *testing.T) { f.scaled(t, n, f.scale) })
		}
		f.patch(t, func(spec *v1alpha1.ReplicatedServiceSpec) { spec.Replication = nil })
		t.Run("1", func(t *testing.T) { f.scaled(t, 1, f.scale) })
	})
}

// scale asks for a number of members through the scale subresource.
func (f fixture) scale(t *testing.T, n int32) {
	t.Helper()
	if out, err := kubectl(t, "", "scale", "rsvc/"+f.Service.Name, "-n", f.namespace, fmt.Sprintf("--replicas=%d", n)); err != nil {
		t.Fatalf("kubectl scale: %v: %s", err, out)
	}
}

// autoscaled lets a HorizontalPodAutoscaler ask for them: below its least number it needs no metrics for that.
func (f fixture) autoscaled(t *testing.T, n int32) {
	scaler := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: f.Service.Name},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ReplicatedService", Name: f.Service.Name},
			MinReplicas:    &n, MaxReplicas: n,
		},
	}
	f.scaled(t, n, func(t *testing.T, _ int32) { must(t, cluster.Create(t.Context(), scaler)) })
	must(t, cluster.Delete(t.Context(), scaler))
}

// scaled changes the number of members under load.
func (f fixture) scaled(t *testing.T, n int32, ask func(*testing.T, int32)) {
	pods, err := f.Service.Pods(t.Context())
	must(t, err)
	if last := len(pods) - 1; int(n) <= last {
		f.moved(t, naming.Member(f.Service.Name, last)) // the primary is one of those to go
	}
	before, err := f.Service.Primary(t.Context())
	must(t, err)
	c, _, err := f.Clients.NotOn(t.Context(), before.Node)
	must(t, err)
	defer c.Close()
	config, err := f.LoadConfig(t.Context())
	must(t, err)
	config.LimitSeconds = 300
	m, err := rounds.Measure(t.Context(), c, fmt.Sprintf("scale-%d", time.Now().UnixNano()), rounds.Target{
		Config: config, Within: 3 * time.Minute,
		Inject: func(context.Context) error {
			ask(t, n)
			return nil
		},
		Over: func(ctx context.Context) error { f.settled(ctx, t, n); return nil },
	})
	must(t, err)
	after, err := f.Service.Primary(t.Context())
	must(t, err)
	t.Logf("%d members: %s in epoch %d → %s in epoch %d; outage %.1f ms; %d writes acknowledged, %d lost, %d unknown", n, before.Member, before.Epoch,
		after.Member, after.Epoch, float64(m.Longest().Microseconds)/1000, m.Acknowledged, m.Verification.Lost, m.Unknown)
	if m.Verification.Lost > 0 {
		t.Errorf("%d acknowledged writes were lost: %v", m.Verification.Lost, m.Verification.LostSequence)
	}
	if moves := after.Epoch - before.Epoch; (int(n) < len(pods)) != (moves == 1) || moves > 1 {
		t.Errorf("epoch %d became %d, want one switchover when the primary is to go, and else none", before.Epoch, after.Epoch)
	}
	f.requestsEnded(t)
}

// moved makes a member the primary.
func (f fixture) moved(t *testing.T, member string) {
	t.Helper()
	must(t, f.WaitHealthy(t.Context(), time.Minute))
	_, err := f.Switchover(t.Context(), member)
	must(t, err)
	must(t, kube.Until(t.Context(), time.Minute, member+" to be the primary", func(ctx context.Context) (bool, string, error) {
		p, err := f.Service.Primary(ctx)
		return p.Member == member, p.Member, err
	}))
	must(t, f.WaitHealthy(t.Context(), time.Minute))
}

// settled waits until a service has so many members and is ready.
func (f fixture) settled(ctx context.Context, t *testing.T, n int32) {
	t.Helper()
	must(t, kube.UntilEvery(ctx, 3*time.Minute, 200*time.Millisecond, fmt.Sprintf("%d members", n), func(ctx context.Context) (bool, string, error) {
		obj, err := f.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		pods, err := f.Service.Pods(ctx)
		ready := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionReady)
		done := ready != nil && ready.Status == "True" && ready.ObservedGeneration == obj.Generation && obj.Status.ReadyReplicas == n && len(pods) == int(n) &&
			len(obj.Status.Members) == int(n)
		return done, fmt.Sprintf("%d pods, %s: %+v", len(pods), obj.Status.Readiness, ready), err
	}))
}
