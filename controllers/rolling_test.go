package controllers

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

// troupe plays the StatefulSet's controller, the kubelets and the agents of one service of three: it gives pods their revision, and
// makes a pod anew that the operator deleted.
type troupe struct {
	*stage
	service string
	primary string
	to      string // who takes over when the operator asks for a switchover
	asked   chan struct{}
	pods    map[string]*corev1.Pod
	renewed []string // members whose pods were made anew, in that order
	// plays is what an agent says of itself when its pod was made anew.
	plays func(name string) func(*wire.Status)
}

// rehearse brings a service to life whose pods are of its StatefulSet's first revision.
func (s *stage) rehearse(service string, say func(*wire.Status)) *troupe {
	s.Helper()
	tr := &troupe{stage: s, service: service, primary: names.Member(service, 0), to: names.Member(service, 1),
		asked: make(chan struct{}, 4), pods: map[string]*corev1.Pod{}}
	s.answer(func(member string, request wire.Handover) (wire.HandoverReply, error) {
		if member != names.Member(service, 0) || request.Epoch != 1 || request.Target != "" {
			return wire.HandoverReply{}, fmt.Errorf("%s was asked for %+v", member, request)
		}
		tr.asked <- struct{}{}
		return wire.HandoverReply{ID: request.ID, Target: names.Member(service, 1)}, nil
	})
	tr.plays = func(string) func(*wire.Status) {
		return func(st *wire.Status) { following(1)(st); say(st) }
	}
	for _, pod := range s.serve(service) {
		tr.pods[pod.Name] = pod
	}
	tr.revise("1")
	for name, pod := range tr.pods {
		tr.label(pod, "1")
		tr.says(pod, func(st *wire.Status) {
			following(1)(st)
			if name == tr.primary {
				serving(1)(st)
			}
			say(st)
		})
	}
	s.healthy(service)
	return tr
}

func (tr *troupe) label(pod *corev1.Pod, revision string) {
	tr.Helper()
	tr.change(pod.Name, pod, func() { pod.Labels[appsv1.ControllerRevisionHashLabelKey] = revision })
}

// revise is what the StatefulSet's controller says of the newest template.
func (tr *troupe) revise(revision string) {
	tr.Helper()
	tr.retry(func() error {
		set := &appsv1.StatefulSet{}
		if err := api.Get(tr.ctx, tr.key(tr.service), set); err != nil {
			return err
		}
		set.Status.UpdateRevision, set.Status.ObservedGeneration, set.Status.Replicas = revision, set.Generation, 3
		if err := api.Status().Update(tr.ctx, set); err != nil {
			return err
		}
		template, err := json.Marshal(map[string]any{"spec": map[string]any{"template": set.Spec.Template}})
		if err != nil {
			return err
		}
		kept := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: tr.namespace, Name: revision}, Data: runtime.RawExtension{Raw: template}}
		if err := api.Create(tr.ctx, kept); !apierrors.IsAlreadyExists(err) {
			return err
		}
		return nil
	})
}

// spec changes the service, waits until the StatefulSet has the change, and gives its template a revision.
func (tr *troupe) spec(revision string, change func(*v1alpha1.ReplicatedServiceSpec)) {
	tr.Helper()
	set := &appsv1.StatefulSet{}
	tr.get(tr.service, set)
	before := set.Generation
	svc := &v1alpha1.ReplicatedService{}
	tr.change(tr.service, svc, func() { change(&svc.Spec) })
	tr.eventually(func() string {
		if tr.get(tr.service, set); set.Generation == before {
			return "the StatefulSet was not changed"
		}
		return ""
	})
	tr.condition(tr.service, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonProgressing, "newest template")
	tr.revise(revision)
}

// image changes the engine's.
func (tr *troupe) image(revision, image string) {
	tr.Helper()
	tr.spec(revision, func(s *v1alpha1.ReplicatedServiceSpec) { s.Template.Image = image })
}

// play makes pods anew that were deleted, of a revision, until done says "". It fails when two are away at once.
func (tr *troupe) play(revision string, done func() string) {
	tr.Helper()
	tr.eventually(func() string {
		select {
		case <-tr.asked:
			tr.switchOver()
		default:
		}
		var away []string
		for name := range tr.pods {
			now := &corev1.Pod{}
			if err := api.Get(tr.ctx, tr.key(name), now); apierrors.IsNotFound(err) || (err == nil && now.DeletionTimestamp != nil) {
				away = append(away, name)
			}
		}
		if len(away) > 1 {
			tr.Fatalf("%v are away at once", away)
		}
		for _, name := range away {
			tr.anew(name, revision)
		}
		return done()
	})
}

func (tr *troupe) anew(name, revision string) {
	tr.Helper()
	tr.silent(tr.pods[name])
	if name == tr.primary {
		tr.Fatalf("%s was renewed while it was the primary", name)
	}
	tr.retry(func() error { // no kubelet ends it
		pod := &corev1.Pod{}
		if err := api.Get(tr.ctx, tr.key(name), pod); apierrors.IsNotFound(err) {
			return nil
		}
		if err := api.Delete(tr.ctx, pod, forced{}); err != nil {
			return client.IgnoreNotFound(err)
		}
		return fmt.Errorf("%s is not gone yet", name)
	})
	ordinal, err := names.Ordinal(name)
	if err != nil {
		tr.Fatal(err)
	}
	pod := tr.pod(tr.service, ordinal, func(p *corev1.Pod) {
		p.Labels[appsv1.ControllerRevisionHashLabelKey] = revision
	})
	tr.pods[name], tr.renewed = pod, append(tr.renewed, name)
	tr.setRegister(tr.service, func(l *failover.Lease) { // the vote moves to the new pod, as the holder sees to
		for i, m := range l.Terms.Members {
			if m.Name == name && m.Pod != "" {
				l.Terms.Members[i].Pod = string(pod.UID)
			}
		}
	})
	tr.says(pod, tr.plays(name))
}

// switchOver plays the members' part of the switchover that the operator asked for.
func (tr *troupe) switchOver() {
	tr.Helper()
	say, from := tr.plays, tr.pods[tr.primary]
	tr.plays = func(name string) func(*wire.Status) {
		return func(st *wire.Status) { say(name)(st); st.Epoch = 2 }
	}
	for name, pod := range tr.pods {
		if name != tr.primary && name != tr.to {
			tr.says(pod, tr.plays(name))
		}
	}
	tr.primary = tr.to
	tr.handOver(tr.service, from, tr.pods[tr.to], 1, true)
}

func (tr *troupe) switchovers() []v1alpha1.Failover {
	tr.Helper()
	list := &v1alpha1.FailoverList{}
	if err := api.List(tr.ctx, list, inNamespace(tr.namespace)); err != nil {
		tr.Fatal(err)
	}
	return list.Items
}

// all is "" when the members named were made anew, in that order.
func (tr *troupe) all(want ...string) func() string {
	return func() string {
		if !slices.Equal(tr.renewed, want) {
			svc := &v1alpha1.ReplicatedService{}
			tr.get(tr.service, svc)
			return fmt.Sprintf("renewed: %v, want %v: %+v", tr.renewed, want, meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionReconciling))
		}
		return ""
	}
}

func quiet(*wire.Status) {}

// TestRollOfImage: replicas first, one at a time, then one switchover, then the old primary.
func TestRollOfImage(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	tr := s.rehearse("cache", quiet)
	tr.image("2", "redis:9")
	tr.play("2", tr.all("cache-2", "cache-1", "cache-0"))
	tr.says(tr.pods["cache-0"], following(2))
	s.healthy("cache")
	made := tr.switchovers()
	if len(made) != 1 || made[0].Spec.Type != v1alpha1.TypeSwitchover || made[0].Status.From != "cache-0" || made[0].Status.To != "cache-1" {
		t.Fatalf("%d Failovers: %+v, want one switchover from cache-0", len(made), made)
	}
	if owner := metav1.GetControllerOf(&made[0]); owner == nil || owner.Name != "cache" || !strings.HasPrefix(made[0].Name, "cache-roll-") {
		t.Errorf("Failover %s is owned by %+v: it would outlive the service", made[0].Name, owner)
	}
}

// TestRollOnFullVolumes: what a person is told of them holds nothing up.
func TestRollOnFullVolumes(t *testing.T) {
	s := newStage(t)
	svc := redis("cache")
	svc.Spec.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi")}
	s.create(svc)
	var full atomic.Bool
	tr := s.rehearse("cache", func(st *wire.Status) {
		if full.Load() {
			st.Full = []wire.Full{{Volume: "data", Least: 50 << 20, Size: 1 << 30}}
		}
	})
	full.Store(true)
	for _, name := range []string{"cache-1", "cache-2"} {
		tr.says(tr.pods[name], tr.plays(name))
	}
	s.stalled("cache", v1alpha1.ReasonVolumeFull, "data-cache-1 (", "BGREWRITEAOF")
	tr.image("2", "redis:9")
	tr.play("2", tr.all("cache-2", "cache-1", "cache-0"))
}

// TestRollIsTakenBack: a renewed member that does not come back costs nobody else, and gets back what the primary runs, until the spec asks for
// something else.
func TestRollIsTakenBack(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	tr := s.rehearse("cache", quiet)
	good := tr.plays
	tr.plays = func(string) func(*wire.Status) {
		return func(st *wire.Status) { st.State, st.Message = string(v1alpha1.MemberStarting), "no such file" }
	}
	tr.spec("2", func(spec *v1alpha1.ReplicatedServiceSpec) {
		spec.Template.Image = "redis:broken"
		spec.Engine.Redis.Parameters = map[string]v1alpha1.ParameterValue{"maxmemory-policy": "no-such"}
	})
	tr.play("2", tr.all("cache-2"))
	s.condition("cache", v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonProgressing,
		"cache-1, cache-0", "waiting for cache-2", "no such file")
	stuck := tr.pods["cache-2"]
	s.retry(func() error { // the kubelet says so for long
		if err := api.Get(s.ctx, s.key("cache-2"), stuck); err != nil {
			return err
		}
		stuck.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Now().Add(-time.Hour)),
		}}
		return api.Status().Update(s.ctx, stuck)
	})
	tr.runs("redis:8")
	set := &appsv1.StatefulSet{}
	if tr.get("cache", set); strings.Contains(fmt.Sprint(set.Spec.Template.Annotations), "no-such") {
		t.Errorf("members would begin with the parameter that broke one: %v", set.Spec.Template.Annotations)
	}
	tr.plays = good
	tr.revise("1")
	tr.play("1", tr.all("cache-2", "cache-2"))
	s.stalled("cache", v1alpha1.ReasonRollStopped, "the change of the spec was taken back", "cache-2", "no such file", "kubectl annotate statefulset cache")
	s.condition("cache", v1alpha1.ConditionRedundant, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
	s.stillAvailable("cache")
	if made := tr.switchovers(); len(made) != 0 {
		t.Errorf("%d Failovers though no other member was touched", len(made))
	}
	if r := s.register("cache"); r.Epoch != 1 {
		t.Errorf("epoch %d", r.Epoch)
	}
	// Nothing of it comes back until the spec asks for something else, which is tried.
	tr.spec("1", func(spec *v1alpha1.ReplicatedServiceSpec) { spec.Template.Image = "redis:9" })
	tr.runs("redis:9")
	s.condition("cache", v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNotStalled)
}

// runs waits until the StatefulSet asks for an image.
func (tr *troupe) runs(image string) {
	tr.Helper()
	tr.eventually(func() string {
		set := &appsv1.StatefulSet{}
		tr.get(tr.service, set)
		for _, c := range set.Spec.Template.Spec.Containers {
			if c.Name == names.EngineContainer && c.Image != image {
				return "the StatefulSet asks for " + c.Image
			}
		}
		return ""
	})
}

// TestRollOfParameters: members that need a restart for them are renewed as for a template.
func TestRollOfParameters(t *testing.T) {
	s := newStage(t)
	svc := persistent(s)
	s.create(svc)
	s.exists("db-agent", &corev1.ConfigMap{})
	digest := func() string {
		s.get("db", svc)
		want, _ := workload.Reloadable(svc)
		return want.Digest()
	}
	configured := ""
	runs := func(st *wire.Status) { st.Configured = configured }
	configured = digest()
	tr := s.rehearse("db", runs)
	s.change("db", svc, func() {
		svc.Spec.Engine.PostgreSQL.Parameters = map[string]v1alpha1.ParameterValue{"max_connections": "200"}
	})
	s.condition("db", v1alpha1.ConditionConfigurationApplied, metav1.ConditionFalse, v1alpha1.ReasonApplying)
	configured = digest()
	needs := func(as func(*wire.Status)) func(*wire.Status) {
		return func(st *wire.Status) {
			as(st)
			runs(st)
			st.PendingRestart, st.RestartFor = true, []string{"max_connections"}
		}
	}
	s.says(tr.pods["db-0"], needs(serving(1)))
	s.says(tr.pods["db-2"], needs(following(1)))
	s.condition("db", v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonProgressing, "have not reached db-1 yet")
	s.says(tr.pods["db-1"], needs(following(1)))
	// The old primary's engine starts anew when it hands over, and with that it has what needed a restart.
	tr.play("1", func() string {
		if r := s.register("db"); r.Epoch != 2 {
			return fmt.Sprintf("no switchover; renewed: %v", tr.renewed)
		}
		return ""
	})
	s.says(tr.pods["db-0"], func(st *wire.Status) { following(2)(st); runs(st) })
	s.says(tr.pods["db-1"], func(st *wire.Status) { serving(2)(st); runs(st) })
	s.condition("db", v1alpha1.ConditionConfigurationApplied, metav1.ConditionTrue, v1alpha1.ReasonConfigurationInForce)
	s.healthy("db")
	if why := tr.all("db-2", "db-1")(); why != "" || len(tr.switchovers()) != 1 {
		t.Errorf("%s, %d switchovers", why, len(tr.switchovers()))
	}
}

// TestRollOfOneMember: nobody could take over, so its pod is renewed, and people are told what that means.
func TestRollOfOneMember(t *testing.T) {
	s := newStage(t)
	svc := redis("solo")
	svc.Spec.Replicas = ptr.To[int32](1)
	s.create(svc)
	s.exists("solo", &appsv1.StatefulSet{})
	pod := s.pod("solo", 0)
	s.says(pod, func(*wire.Status) {})
	s.retry(func() error {
		if r := s.register("solo"); r.Epoch != 1 {
			return errors.New("epoch 1 is not granted")
		}
		return nil
	})
	s.route("solo", 1, pod)
	s.says(pod, serving(1))
	tr := &troupe{stage: s, service: "solo"}
	tr.revise("1")
	tr.label(pod, "1")
	s.healthy("solo")
	tr.image("2", "redis:9")
	s.retry(func() error {
		if err := api.Get(s.ctx, s.key("solo-0"), pod); err != nil || pod.DeletionTimestamp == nil {
			return fmt.Errorf("pod solo-0 was not renewed (%w)", err)
		}
		list := &eventsv1.EventList{}
		if err := api.List(s.ctx, list, inNamespace(s.namespace)); err != nil {
			return err
		}
		if !slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool {
			return e.Reason == "MemberRenewed" && strings.Contains(e.Note, "no writes until it is back")
		}) {
			return errors.New("no event says that writes stop")
		}
		return nil
	})
	if made := tr.switchovers(); len(made) != 0 {
		t.Errorf("%d Failovers of a service of one member", len(made))
	}
}
