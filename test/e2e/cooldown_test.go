//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/test/internal/kube"
)

// testCooldown: a primary that fails soon after a failover is not replaced before the cooldown is over, or a person says so.
func testCooldown(t *testing.T) {
	t.Parallel()
	namespace := space(t, "cooldown")
	policy := &v1alpha1.FailoverPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "calm"}, Spec: v1alpha1.FailoverPolicySpec{CooldownSeconds: ptr.To[int32](15)},
	}
	must(t, cluster.Create(t.Context(), policy))
	f := redis(t, namespace, func(obj *v1alpha1.ReplicatedService) {
		obj.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: policy.Name}
	}).ready(t)
	first, err := f.Service.Primary(t.Context())
	must(t, err)
	must(t, f.Injector.KillEngine(t.Context(), namespace, first.Member))
	second := f.nextEpoch(t, first.Epoch, 10*time.Second)
	f.cools(t, second.Epoch)

	killed := time.Now()
	must(t, f.Injector.KillEngine(t.Context(), namespace, second.Member))
	third := f.nextEpoch(t, second.Epoch, time.Minute)
	t.Logf("epoch %d began %s after the end of %s in epoch %d", third.Epoch, time.Since(killed).Round(100*time.Millisecond), second.Member, second.Epoch)
	if took := time.Since(killed); took < 5*time.Second {
		t.Errorf("%s was replaced after %s, in the cooldown", second.Member, took)
	}

	f.cools(t, third.Epoch) // twice as long by now
	obj, err := f.Service.Object(t.Context())
	must(t, err)
	before := client.MergeFrom(obj.DeepCopy())
	metav1.SetMetaDataAnnotation(&obj.ObjectMeta, keys.AnnotationAcknowledged, fmt.Sprint(third.Epoch))
	must(t, cluster.Patch(t.Context(), obj, before))
	must(t, f.WaitHealthy(t.Context(), time.Minute))
	must(t, f.Injector.KillEngine(t.Context(), namespace, third.Member))
	f.nextEpoch(t, third.Epoch, 10*time.Second)
}

// nextEpoch waits until another member serves a later epoch.
func (f fixture) nextEpoch(t *testing.T, after int64, within time.Duration) (p kube.Primary) {
	t.Helper()
	must(t, kube.UntilEvery(t.Context(), within, 50*time.Millisecond, fmt.Sprintf("an epoch after %d to be routed", after), func(ctx context.Context) (bool, string, error) {
		var err error
		p, err = f.Service.Primary(ctx)
		return p.Epoch > after && p.Routed == p.Epoch, fmt.Sprintf("epoch %d of %s, routed %d", p.Epoch, p.Member, p.Routed), err
	}))
	return p
}

// cools waits until the condition says that an epoch's cooldown goes on and all else is well.
func (f fixture) cools(t *testing.T, epoch int64) {
	t.Helper()
	must(t, kube.UntilEvery(t.Context(), time.Minute, 100*time.Millisecond, "the cooldown to be told", func(ctx context.Context) (bool, string, error) {
		obj, err := f.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionFailoverPossible)
		told := c != nil && c.Status == metav1.ConditionFalse && c.Reason == v1alpha1.ReasonCooldown && obj.Status.Primary != nil && obj.Status.Primary.Epoch == epoch
		return told && meta.IsStatusConditionTrue(obj.Status.Conditions, v1alpha1.ConditionRedundant), fmt.Sprintf("%+v", c), nil
	}))
}
