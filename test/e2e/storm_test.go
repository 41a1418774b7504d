//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/kube"
)

// testStorm: of three services that lose their primaries at the same time, one fails over after the other where the policy says one at once, and first the one
// that has a higher priority.
func testStorm(t *testing.T) {
	t.Parallel()
	never := corev1.PreemptNever // it is to be before others here, and not instead of them
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "e2e-storm-first"}, Value: 1000, Description: "a test's", PreemptionPolicy: &never}
	must(t, client.IgnoreAlreadyExists(cluster.Create(t.Context(), class)))
	t.Cleanup(func() {
		if !t.Failed() {
			_ = cluster.Delete(context.Background(), class)
		}
	})
	namespace := space(t, "storm")
	policy := &v1alpha1.FailoverPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "narrow"},
		Spec:       v1alpha1.FailoverPolicySpec{Budget: v1alpha1.BudgetSpec{MaxConcurrentFailovers: 1}},
	}
	must(t, cluster.Create(t.Context(), policy))
	var all []fixture
	for _, name := range []string{"one", "two", "first"} {
		all = append(all, redis(t, namespace, func(obj *v1alpha1.ReplicatedService) {
			obj.Name = name
			obj.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: policy.Name}
			if name == "first" {
				obj.Spec.Template.PriorityClassName = class.Name
			}
		}))
	}
	for _, f := range all[:2] {
		f.ready(t).agreed(t, `"behind":1`)
	}
	for range 3 {
		took := oneByOne(t, all)
		byNoticed := slices.SortedFunc(slices.Values(took), func(a, b span) int { return a.noticed.Compare(b.noticed) })
		at := slices.IndexFunc(took, func(s span) bool { return s.service == "first" })
		if late := took[at].noticed.Sub(byNoticed[0].noticed); late > 100*time.Millisecond { // the others wait for a quarter of a second
			t.Logf("first noticed its primary's end %s after another", late)
			continue
		}
		if at != 0 {
			t.Errorf("%s failed over before the one of the higher priority", took[0].service)
		}
		return
	}
	t.Skip("three times the service of the higher priority noticed the end of its primary too late to show anything")
}

// oneByOne kills the engines of all primaries at the same time, and sees one service fail over after the other.
func oneByOne(t *testing.T, all []fixture) (took []span) {
	t.Helper()
	old := make([]kube.Primary, len(all))
	for i, f := range all {
		f.ready(t)
		f.agreed(t, `"turns":1`)
		var err error
		old[i], err = f.Service.Primary(t.Context())
		must(t, err)
	}
	killed := time.Now()
	var kills sync.WaitGroup
	for i, f := range all {
		kills.Go(func() {
			if err := f.Injector.KillEngine(t.Context(), f.namespace, old[i].Member); err != nil {
				t.Error(err)
			}
		})
	}
	kills.Wait()
	for i, f := range all {
		f.nextEpoch(t, old[i].Epoch, 20*time.Second)
		took = append(took, f.failedOver(t, old[i].Epoch+1))
	}
	slices.SortFunc(took, func(a, b span) int { return a.from.Compare(b.from) })
	for i, s := range took {
		t.Logf("%s failed over between %s and %s after the ends", s.service, s.from.Sub(killed).Round(time.Millisecond), s.to.Sub(killed).Round(time.Millisecond))
		if i > 0 && s.from.Before(took[i-1].to) {
			t.Errorf("%s began before %s had ended", s.service, took[i-1].service)
		}
	}
	return took
}

// agreed waits until the Lease has a term, as members read it.
func (f fixture) agreed(t *testing.T, term string) {
	t.Helper()
	must(t, kube.Until(t.Context(), 30*time.Second, "the Lease of "+f.Service.Name+" to have "+term, func(ctx context.Context) (bool, string, error) {
		var lease coordinationv1.Lease
		err := cluster.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: f.Service.Name + "-primary"}, &lease)
		terms := fmt.Sprint(lease.Annotations)
		return strings.Contains(terms, term), terms, client.IgnoreNotFound(err)
	}))
}

// span is from when promises were complete until clients were led to the new primary, and when that noticed the end of the old one.
type span struct {
	service  string
	noticed  time.Time
	from, to time.Time
}

// failedOver reads from the record when that was.
func (f fixture) failedOver(t *testing.T, epoch int64) span {
	t.Helper()
	s := span{service: f.Service.Name}
	must(t, kube.Until(t.Context(), 30*time.Second, "the record of the failover of "+s.service, func(ctx context.Context) (bool, string, error) {
		var list v1alpha1.FailoverList
		if err := cluster.List(ctx, &list, client.InNamespace(f.namespace)); err != nil {
			return false, "", err
		}
		for _, fo := range list.Items {
			if fo.Spec.ServiceRef.Name != s.service || fo.Status.Epoch != epoch || fo.Status.StartTime == nil {
				continue
			}
			for _, step := range fo.Status.Timeline {
				at := fo.Status.StartTime.Add(time.Duration(*step.ElapsedMicroseconds) * time.Microsecond)
				switch step.Step {
				case v1alpha1.StepDetected:
					s.noticed = at
				case v1alpha1.StepPromised:
					s.from = at
				case v1alpha1.StepRouted:
					s.to = at
				}
			}
		}
		return !s.noticed.IsZero() && !s.from.IsZero() && !s.to.IsZero(), fmt.Sprintf("%d Failovers", len(list.Items)), nil
	}))
	return s
}
