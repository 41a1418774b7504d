package controllers

import (
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// TestBootstrap: epoch 1 is granted to the lowest ordinal, and only when every member said that it is empty.
func TestBootstrap(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	s.exists("cache-primary", &coordinationv1.Lease{})
	pods := []*corev1.Pod{s.pod("cache", 0), s.pod("cache", 1), s.pod("cache", 2)}
	s.says(pods[0], func(*wire.Status) {})
	s.says(pods[2], func(*wire.Status) {})
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionFalse, v1alpha1.ReasonBootstrapping, "cache-1")
	if r := s.register("cache"); r.Epoch != 0 {
		t.Fatalf("epoch %d was granted before cache-1 had answered", r.Epoch)
	}
	first := s.says(pods[0], func(*wire.Status) {})
	s.says(pods[1], func(*wire.Status) {})
	s.eventually(func() string {
		if r := s.register("cache"); r.Epoch != 1 || r.Holder != first.Run {
			return fmt.Sprintf("the Lease holds %+v", r)
		}
		return ""
	})
}

// TestStatusConverges: a look that compared with an older status than the one written last is repeated.
func TestStatusConverges(t *testing.T) {
	s := newStage(t)
	p := &v1alpha1.FailoverPolicy{ObjectMeta: metav1.ObjectMeta{Name: "mine"}}
	s.create(p)
	svc := redis("cache")
	svc.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: "mine"}
	s.create(svc)
	s.exists("cache-primary", &coordinationv1.Lease{})
	pods := []*corev1.Pod{s.pod("cache", 0), s.pod("cache", 1), s.pod("cache", 2)}
	s.says(pods[0], func(*wire.Status) {})
	s.says(pods[2], func(*wire.Status) {})
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionFalse, v1alpha1.ReasonBootstrapping, "cache-1")
	for _, ms := range []int32{1500, 2000, 2500} {
		s.change("mine", p, func() { p.Spec.Detection.LeaseDurationMilliseconds = ms })
		s.eventually(func() string {
			if s.register("cache").Terms.LeaseMillis != int64(ms) {
				return "not yet"
			}
			return ""
		})
		s.eventually(settled)
		s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionFalse, v1alpha1.ReasonBootstrapping, "cache-1")
	}
}

// TestAvailable: what people see of a healthy service.
func TestAvailable(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	s.serve("cache")
	for _, kind := range []string{v1alpha1.ConditionAvailable, v1alpha1.ConditionRedundant, v1alpha1.ConditionFailoverPossible, v1alpha1.ConditionReady} {
		reason := map[string]string{
			v1alpha1.ConditionAvailable: v1alpha1.ReasonPrimaryServing, v1alpha1.ConditionFailoverPossible: v1alpha1.ReasonCandidatesReady,
		}[kind]
		if reason == "" {
			reason = v1alpha1.ReasonHealthy
		}
		s.condition("cache", kind, metav1.ConditionTrue, reason)
	}
	svc := &v1alpha1.ReplicatedService{}
	s.get("cache", svc)
	if p := svc.Status.Primary; p == nil || p.Name != "cache-0" || p.Epoch != 1 || svc.Status.Readiness != "3/3" {
		t.Errorf("status %+v", svc.Status)
	}
	s.evictions("cache", 1)
}

// TestSingleMember: one member is warned about, and never keeps a node from being drained.
func TestSingleMember(t *testing.T) {
	s := newStage(t)
	svc := redis("solo")
	svc.Spec.Replicas = ptr.To[int32](1)
	s.create(svc)
	s.exists("solo", &appsv1.StatefulSet{})
	s.condition("solo", v1alpha1.ConditionFailoverPossible, metav1.ConditionFalse, v1alpha1.ReasonSingleReplica)
	if err := api.Get(s.ctx, s.key("solo"), &policyv1.PodDisruptionBudget{}); !apierrors.IsNotFound(err) {
		t.Errorf("a service of one member has a PodDisruptionBudget (%v)", err)
	}
}

// TestRouteMended: when the primary's agent did not route, the operator does, under the primary's epoch.
func TestRouteMended(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPrimaryServing)
	run := s.says(pods[1], serving(2)).Run
	s.silent(pods[0])
	s.setRegister("cache", func(l *failover.Lease) { l.Epoch, l.Holder = 2, run })
	s.eventually(func() string {
		slice := &discoveryv1.EndpointSlice{}
		s.get("cache-primary-ipv4", slice)
		if slice.Annotations[keys.AnnotationEpoch] != "2" || len(slice.Endpoints) != 1 || slice.Endpoints[0].TargetRef.Name != "cache-1" {
			return fmt.Sprintf("the slice has %v %+v", slice.Annotations, slice.Endpoints)
		}
		return ""
	})
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPrimaryServing, "cache-1", "epoch 2")
}

// TestDeadPrimaryLeavesRoute: an endpoint of a pod that is gone goes, the epoch stays.
func TestDeadPrimaryLeavesRoute(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	pods := s.serve("cache")
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPrimaryServing)
	s.silent(pods[0])
	if err := api.Delete(s.ctx, pods[0]); err != nil {
		t.Fatal(err)
	}
	s.retry(func() error { // no kubelet ends it
		pod := &corev1.Pod{}
		if err := api.Get(s.ctx, s.key("cache-0"), pod); apierrors.IsNotFound(err) {
			return nil
		}
		return api.Delete(s.ctx, pod, forced{})
	})
	s.eventually(func() string {
		slice := &discoveryv1.EndpointSlice{}
		s.get("cache-primary-ipv4", slice)
		if len(slice.Endpoints) != 0 || slice.Annotations[keys.AnnotationEpoch] != "1" {
			return fmt.Sprintf("the slice has %v %+v", slice.Annotations, slice.Endpoints)
		}
		return ""
	})
	s.condition("cache", v1alpha1.ConditionAvailable, metav1.ConditionFalse, v1alpha1.ReasonNoPrimary, "cache-0")
}

// TestReplicasService: NAME-replicas leads to those that follow, at the engine's port, whichever engine it is.
func TestReplicasService(t *testing.T) {
	for engine, make := range map[string]func(*stage) *v1alpha1.ReplicatedService{
		"redis 6379": func(*stage) *v1alpha1.ReplicatedService { return redis("db") }, "postgresql 5432": persistent,
	} {
		t.Run(engine, func(t *testing.T) {
			s := newStage(t)
			svc := make(s)
			svc.Spec.Services = &v1alpha1.ServicesSpec{Replicas: &v1alpha1.ServiceShape{Type: corev1.ServiceTypeClusterIP}}
			s.create(svc)
			pods := s.serve("db")
			want := func(members ...string) {
				s.Helper()
				s.eventually(func() string {
					slice := &discoveryv1.EndpointSlice{}
					if err := api.Get(s.ctx, s.key("db-replicas-ipv4"), slice); err != nil {
						return err.Error()
					}
					var found []string
					for _, e := range slice.Endpoints {
						found = append(found, e.TargetRef.Name)
					}
					if port := slice.Ports[0]; !slices.Equal(found, members) || fmt.Sprint(*port.Name, " ", *port.Port) != engine {
						return fmt.Sprintf("want %v at %s, have %+v", members, engine, slice)
					}
					return ""
				})
			}
			want("db-1", "db-2")
			s.says(pods[1], func(st *wire.Status) { st.Epoch, st.State = 1, string(v1alpha1.MemberCatchingUp) })
			want("db-2")
		})
	}
}

// TestPolicy: mode and evidence are put into the Lease at once, times only by the holder, which is told.
func TestPolicy(t *testing.T) {
	s := newStage(t)
	p := &v1alpha1.FailoverPolicy{ObjectMeta: metav1.ObjectMeta{Name: "mine"}}
	s.create(p)
	svc := redis("policed")
	svc.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: "mine"}
	s.create(svc)
	s.serve("policed")
	s.condition("policed", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
	s.change("mine", p, func() {
		p.Spec.Mode, p.Spec.Detection.LeaseDurationMilliseconds = v1alpha1.ModeManual, 1500
	})
	s.eventually(func() string {
		r := s.register("policed")
		terms, told := cast.Terms("policed-0")
		if r.Terms.Mode != failover.ModeManual || r.Terms.LeaseMillis != 3000 || !told || terms.LeaseMillis != 1500 {
			return fmt.Sprintf("the Lease holds %+v, the holder was told %+v", r.Terms, terms)
		}
		return ""
	})
	s.change("policed", svc, func() { svc.Spec.State = v1alpha1.StatePaused })
	s.condition("policed", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPaused, "spec.state")
	if r := s.register("policed"); r.Terms.Mode != failover.ModePaused {
		t.Errorf("a paused service has mode %s", r.Terms.Mode)
	}
}

// TestDeletion: the finalizers go, so that nothing is left for a person to untangle.
func TestDeletion(t *testing.T) {
	s := newStage(t)
	svc := redis("cache")
	s.create(svc)
	s.serve("cache")
	if err := api.Delete(s.ctx, svc); err != nil {
		t.Fatal(err)
	}
	s.eventually(func() string {
		if err := api.Get(s.ctx, s.key("cache"), svc); !apierrors.IsNotFound(err) {
			return fmt.Sprintf("the service is still there: %v", err)
		}
		obj := &coordinationv1.Lease{}
		if err := api.Get(s.ctx, s.key("cache-primary"), obj); err == nil && len(obj.Finalizers) > 0 {
			return fmt.Sprintf("the Lease keeps %v", obj.Finalizers)
		}
		return ""
	})
}

// TestAtRest: a healthy service under write load, and one that is looked at for nothing, cause no request.
func TestAtRest(t *testing.T) {
	s := newStage(t)
	s.create(redis("quiet"))
	pods := s.serve("quiet")
	s.condition("quiet", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
	s.evictions("quiet", 1)
	s.eventually(settled)
	before := s.requested()
	if before == 0 {
		t.Fatal("requests are not counted")
	}
	for i := range 50 {
		s.says(pods[1], func(st *wire.Status) {
			following(1)(st)
			st.LagBytes, st.Position.Offset = int64(i*1000), int64(i)
		})
	}
	deadline := time.Now().Add(3 * time.Second)
	for time.Now().Before(deadline) {
		if n := s.requested() - before; n > 0 {
			t.Fatalf("%d requests at rest, the last: %v", n, lastRequest.Load())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// settled is "" when the operator made no request for a second.
func settled() string {
	n := requests.Load()
	time.Sleep(time.Second)
	if m := requests.Load(); m != n {
		return fmt.Sprintf("%d requests in a second, the last: %v", m-n, lastRequest.Load())
	}
	return ""
}
