//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/kube"
)

// testApproval: in modes Manual and DryRun nobody takes over until a person lets it happen with the command that the condition names, and that counts once. While
// the service is paused nobody does, whatever a person said.
func testApproval(t *testing.T) {
	t.Parallel()
	namespace := space(t, "approval")
	policy := &v1alpha1.FailoverPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "asks"}, Spec: v1alpha1.FailoverPolicySpec{Mode: v1alpha1.ModeManual},
	}
	must(t, cluster.Create(t.Context(), policy))
	f := redis(t, namespace, func(obj *v1alpha1.ReplicatedService) {
		obj.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: policy.Name}
	}).ready(t)
	f.mark(t)
	first, err := f.Service.Primary(t.Context())
	must(t, err)
	must(t, f.Injector.KillEngine(t.Context(), namespace, first.Member))
	command := f.leftToAPerson(t, first.Epoch)
	if out, err := kubectl(t, "", strings.Fields(command)[1:]...); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	approved := time.Now()
	second := f.nextEpoch(t, first.Epoch, 10*time.Second)
	t.Logf("%s took over from %s %s after %s", second.Member, first.Member, time.Since(approved).Round(time.Millisecond), command)
	must(t, f.WaitHealthy(t.Context(), time.Minute))
	f.marked(t)
	must(t, f.Injector.KillEngine(t.Context(), namespace, second.Member))
	if again := f.leftToAPerson(t, second.Epoch); again == command {
		t.Errorf("%s is to be run for epoch %d too", again, second.Epoch)
	}
	before := client.MergeFrom(policy.DeepCopy())
	policy.Spec.Mode = v1alpha1.ModeDryRun
	must(t, cluster.Patch(t.Context(), policy, before))
	f.agreed(t, `"mode":"DryRun"`)
	f.nobodyTakesOver(t, second.Epoch)
	command = f.leftToAPerson(t, second.Epoch)
	f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) { s.State = v1alpha1.StatePaused })
	f.agreed(t, `"mode":"Paused"`)
	if out, err := kubectl(t, "", strings.Fields(command)[1:]...); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	f.agreed(t, fmt.Sprintf(`"approved":%d`, second.Epoch))
	f.nobodyTakesOver(t, second.Epoch)
	f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) { s.State = v1alpha1.StateActive })
	third := f.nextEpoch(t, second.Epoch, 10*time.Second)
	t.Logf("%s took over from %s when the service was paused no longer", third.Member, second.Member)
	must(t, f.WaitHealthy(t.Context(), time.Minute))
	f.marked(t)
}

// nobodyTakesOver sees a lease's length go by in which nobody does.
func (f fixture) nobodyTakesOver(t *testing.T, epoch int64) {
	t.Helper()
	pause(t, 3*time.Second)
	if now, err := f.Service.Primary(t.Context()); err != nil || now.Epoch != epoch {
		t.Fatalf("%s took over in epoch %d, want nobody to: %v", now.Member, now.Epoch, err)
	}
}

// leftToAPerson waits until nobody serves and those who could take over wait for a person, and returns the command by which that one lets them.
func (f fixture) leftToAPerson(t *testing.T, epoch int64) string {
	t.Helper()
	var command string
	must(t, kube.Until(t.Context(), time.Minute, "somebody to be able to take over, and to wait for a person", func(ctx context.Context) (bool, string, error) {
		obj, err := f.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		available := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionAvailable)
		possible := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionFailoverPossible)
		var told bool
		_, command, told = strings.Cut(possible.Message, "once, with ")
		command, _, _ = strings.Cut(command, ", or ")
		return told && available.Status == metav1.ConditionFalse && possible.Status == metav1.ConditionTrue, available.Message + "; " + possible.Message, nil
	}))
	if now, err := f.Service.Primary(t.Context()); err != nil || now.Epoch != epoch {
		t.Fatalf("%s took over in epoch %d, and nobody had let it: %v", now.Member, now.Epoch, err)
	}
	return command
}
