//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"k8s.io/utils/ptr"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/rounds"
)

// testRolling: a change of the template reaches every member by itself.
func testRolling(t *testing.T) {
	t.Parallel()
	f := redis(t, space(t, "rolling"), nil).ready(t)
	f.mark(t)
	pods, err := f.Service.Pods(t.Context())
	must(t, err)
	f.rolls(t, f.Renewed(pods), func(s *v1alpha1.ReplicatedServiceSpec) {
		s.Template.Image = strings.TrimPrefix(s.Template.Image, "docker.io/library/") // another name, which leads to the same bytes
		s.Template.Resources.Requests[corev1.ResourceMemory] = resource.MustParse("50Mi")
	})
	f.marked(t)
	t.Run("ImageTakenBack", func(t *testing.T) {
		f.takenBack(t, func(s *v1alpha1.ReplicatedServiceSpec) { s.Template.Image = clients.DefaultImage })
	})
	t.Run("ParametersTakenBack", func(t *testing.T) {
		f.takenBack(t, func(s *v1alpha1.ReplicatedServiceSpec) {
			s.Engine.Redis.Parameters = map[string]v1alpha1.ParameterValue{"maxmemory-policy": "no-such"}
		})
	})
}

// takenBack: an image without the engine, or a parameter that it refuses, costs one replica for as long as the spec's deadline says; then that one runs what it ran
// before, and a person is told.
func (f fixture) takenBack(t *testing.T, bad func(*v1alpha1.ReplicatedServiceSpec)) {
	s := f.scene(t)
	var good *v1alpha1.ReplicatedServiceSpec
	begun := time.Now()
	f.patch(t, func(spec *v1alpha1.ReplicatedServiceSpec) {
		good = spec.DeepCopy()
		spec.ProgressDeadlineSeconds = ptr.To[int32](20)
		bad(spec)
	})
	names(t, f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonRollStopped), "the change of the spec was taken back", "kubectl annotate statefulset")
	f.condition(t, v1alpha1.ConditionRedundant, v1alpha1.ReasonHealthy)
	t.Logf("redundant again %s after the change", time.Since(begun).Round(100*time.Millisecond))
	now := f.scene(t)
	if now.primary.Epoch != s.primary.Epoch || now.pods[s.primary.Member].UID != s.pods[s.primary.Member].UID {
		t.Errorf("the primary was touched: epoch %d after %d", now.primary.Epoch, s.primary.Epoch)
	}
	f.patch(t, func(spec *v1alpha1.ReplicatedServiceSpec) { *spec = *good })
	must(t, f.WaitHealthy(t.Context(), time.Minute))
	f.marked(t)
}

// check is what kube.Until asks.
type check func(context.Context) (done bool, seen string, err error)

// rolls changes the spec under load and waits until every member has it: with one change of primary, and without losing a write.
func (f fixture) rolls(t *testing.T, over check, change func(*v1alpha1.ReplicatedServiceSpec)) {
	t.Helper()
	f.rollsOn(t, over, func(context.Context) error { f.patch(t, change); return nil })
}

// rollsOn does the same for a change of any kind.
func (f fixture) rollsOn(t *testing.T, over check, change func(context.Context) error) {
	t.Helper()
	before, err := f.Service.Primary(t.Context())
	must(t, err)
	c, _, err := f.Clients.NotOn(t.Context(), before.Node)
	must(t, err)
	defer c.Close()
	config, err := f.LoadConfig(t.Context())
	must(t, err)
	m, err := rounds.Measure(t.Context(), c, fmt.Sprintf("roll-%d", time.Now().UnixNano()), rounds.Target{
		Config: config, Within: 4 * time.Minute,
		Inject: change,
		Over: func(ctx context.Context) error {
			return kube.UntilEvery(ctx, 4*time.Minute, 2*time.Second, "every member to have the change", over)
		},
	})
	must(t, err)
	after, err := f.Service.Primary(t.Context())
	must(t, err)
	t.Logf("roll: %s → %s, outage %.1f ms, %d writes acknowledged, %d lost, %d unknown", before.Member, after.Member,
		float64(m.Longest().Microseconds)/1000, m.Acknowledged, m.Verification.Lost, m.Unknown)
	if after.Epoch != before.Epoch+1 || m.Verification.Lost > 0 {
		t.Errorf("the roll led from epoch %d to %d and lost %d acknowledged writes, want one change of primary and none", before.Epoch, after.Epoch,
			m.Verification.Lost)
	}
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
}

// tuned says when every member runs with the newest parameters. The old primary's engine ends with the switchover, and begins with them.
func (f fixture) tuned(ctx context.Context) (bool, string, error) {
	obj, err := f.Service.Object(ctx)
	if err != nil {
		return false, "", err
	}
	c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionConfigurationApplied)
	if c == nil || c.ObservedGeneration != obj.Generation || c.Reason == v1alpha1.ReasonApplying {
		return false, "the members have not read them", f.nudge(ctx)
	}
	failing := kube.Failing(obj)
	return c.Status == metav1.ConditionTrue && failing == "", c.Message + "; " + failing, nil
}

// nudge makes the kubelets look at pods now, and so at their ConfigMaps, instead of within a minute and a half.
func (f fixture) nudge(ctx context.Context) error {
	pods, err := f.Service.Pods(ctx)
	if err != nil {
		return err
	}
	for i := range pods {
		patch := client.MergeFrom(pods[i].DeepCopy())
		if pods[i].Annotations == nil {
			pods[i].Annotations = map[string]string{}
		}
		pods[i].Annotations["e2e.understudy.dev/nudged"] = time.Now().Format(time.RFC3339Nano)
		if err := cluster.Patch(ctx, &pods[i], patch); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}
