package replicatedservice

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/lease"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

const revisionLabel = "controller-revision-hash"

// rolling is a healthy service whose members named run an older template; all have been well for long.
func rolling(old []string, change ...func(*scope)) *scope {
	s := playing(1, func(s *scope) {
		s.set = &appsv1.StatefulSet{Status: appsv1.StatefulSetStatus{UpdateRevision: "new"}}
		for _, pod := range s.pods {
			pod.Labels = map[string]string{revisionLabel: "new"}
			pod.CreationTimestamp = metav1.NewTime(noon.Add(-time.Minute))
		}
		for _, name := range old {
			s.pods[name].Labels[revisionLabel] = "old"
		}
	})
	for _, f := range change {
		f(s)
	}
	s.memory.calmFor, s.memory.calmSince = "", noon.Add(-time.Hour)
	if due := renewals(s); len(due) > 0 {
		s.memory.calmFor = due[0]
	}
	return s
}

func asked(name string, ago time.Duration, condition string) func(*scope) {
	return func(s *scope) {
		fo := v1alpha1.Failover{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(noon.Add(-ago))},
			Spec: v1alpha1.FailoverSpec{Type: v1alpha1.TypeSwitchover}}
		if condition != "" {
			fo.Status.Conditions = []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue, Message: "nobody could take over"}}
		}
		s.failovers = append(s.failovers, fo)
	}
}

// tried is an attempt of this roll to have the primary hand over, which failed.
func tried(number string, ago time.Duration) func(*scope) {
	return func(s *scope) { asked(requestName(s, rollKind(s))+number, ago, v1alpha1.ConditionStalled)(s) }
}

// notReady: the kubelet says so of a pod, since then.
func notReady(s *scope, name string, ago time.Duration) {
	s.pods[name].Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(noon.Add(-ago)),
	}}
	s.pods[name].CreationTimestamp = metav1.NewTime(noon.Add(-24 * time.Hour))
}

// crash: a member's container ends again and again.
func crash(s *scope, name string) {
	mute(s, name)
	s.pods[name].Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "engine", RestartCount: 5, ContainerID: "containerd://1", State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"},
	}}}
}

// alone: cache-0 is the only member.
func alone(s *scope) {
	s.svc.Spec.Replicas = ptr.To[int32](1)
	for _, name := range []string{"cache-1", "cache-2"} {
		delete(s.pods, name)
		delete(s.reports, name)
	}
}

// mute: the operator asked a member and got no answer.
func mute(s *scope, name string) {
	silence(s, name)
	s.pods[name].Status.Conditions = nil
}

func mode(m failover.Mode) func(*scope) { return func(s *scope) { s.register.Terms.Mode = m } }

func TestNextRoll(t *testing.T) {
	all, last := []string{"cache-0", "cache-1", "cache-2"}, []string{"cache-0"}
	starting := func(name string) func(*scope) {
		return func(s *scope) {
			say(s, name, func(st *wire.Status) { st.State, st.Message = "Starting", "no such file" })
		}
	}
	neverStarted := func(name string) func(*scope) {
		return func(s *scope) {
			starting(name)(s)
			s.pods[name].Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "engine", State: corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull"},
			}}}
		}
	}
	for name, c := range map[string]struct {
		s      *scope
		act    rollAct
		member string
		why    string
	}{
		"nothing is older":              {rolling(nil), rollRests, "", ""},
		"the template is not seen yet":  {rolling(all, func(s *scope) { s.set.Generation = 2 }), rollWaits, "", "has not seen the newest template"},
		"the template was just written": {rolling(all, func(s *scope) { s.unsettled = true }), rollWaits, "", "has not seen the newest template"},
		"the highest replica is first":  {rolling(all), rollRenews, "cache-2", "cache-2, cache-1, cache-0"},
		"then the other replica":        {rolling([]string{"cache-0", "cache-1"}), rollRenews, "cache-1", ""},
		"the primary hands over":        {rolling(last), rollHandsOver, "cache-0", "asked to hand over"},
		"as a replica it is renewed": {rolling(last, func(s *scope) {
			say(s, "cache-0", func(st *wire.Status) { st.Epoch, st.State, st.Eligible = 2, "Following", true })
			say(s, "cache-1", func(st *wire.Status) { st.Epoch, st.Serving, st.State = 2, true, "Serving" })
			s.register.Epoch, s.register.Holder = 2, runOf("cache-1")
			lead(s, 2, "cache-1")
		}), rollRenews, "cache-0", ""},
		"paused":                     {rolling(all, func(s *scope) { s.svc.Spec.State = v1alpha1.StatePaused }), rollWaits, "", "Paused"},
		"a blocking problem":         {rolling(all, func(s *scope) { s.problems = []Problem{{Blocking: true}} }), rollWaits, "", "Stalled"},
		"any problem":                {rolling(all, func(s *scope) { s.problems = []Problem{{Reason: "SecretNotFound"}} }), rollWaits, "", "Stalled"},
		"DryRun":                     {rolling(all, mode(failover.ModeDryRun)), rollWaits, "", "DryRun"},
		"Manual, a replica":          {rolling(all, mode(failover.ModeManual)), rollRenews, "cache-2", ""},
		"Manual, the primary":        {rolling(last, mode(failover.ModeManual)), rollWaits, "", "create a Failover of type Switchover"},
		"somebody changes it":        {rolling(all, asked("by-hand", time.Second, "")), rollWaits, "", "by-hand"},
		"somebody changed it":        {rolling(all, asked("by-hand", time.Hour, v1alpha1.ConditionReady)), rollRenews, "cache-2", ""},
		"another replica is behind":  {rolling(all, starting("cache-1")), rollRenews, "cache-1", ""}, // it is older itself
		"a renewed one is behind":    {rolling([]string{"cache-0", "cache-1"}, starting("cache-2")), rollWaits, "", "cache-2 (Starting: no such file)"},
		"a renewed one is not fit":   {rolling([]string{"cache-0", "cache-1"}, func(s *scope) { s.reports["cache-2"].Status.Eligible = false }), rollWaits, "", "cache-2"},
		"a renewed one is not ready": {rolling([]string{"cache-0", "cache-1"}, func(s *scope) { s.pods["cache-2"].Status.Conditions = nil }), rollWaits, "", "cache-2"},
		"a renewed one is ending":    {rolling([]string{"cache-0"}, func(s *scope) { s.pods["cache-2"].DeletionTimestamp = &metav1.Time{Time: noon} }), rollWaits, "", "cache-2"},
		"nobody serves":              {rolling(all, func(s *scope) { s.slices[0].Endpoints = nil }), rollWaits, "", "a primary that serves and is routed"},
		"not well for long":          {rolling(all, func(s *scope) { s.memory.calmSince = noon }), rollRenews, "cache-2", ""}, // set again below
		"not all were heard":         {rolling(all, func(s *scope) { delete(s.reports, "cache-1") }), rollWaits, "", "being asked"},
		"an image that does not exist": {rolling([]string{"cache-2"}, neverStarted("cache-2"), func(s *scope) {
			s.problems = []Problem{{Reason: v1alpha1.ReasonImageNotFound}}
		}), rollRenews, "cache-2", ""},
		"asked a moment ago": {rolling(last, tried("1", time.Second)), rollWaits, "", "nobody could take over"},
		"asked a while ago":  {rolling(last, tried("1", time.Minute)), rollHandsOver, "cache-0", ""},
		"asked for twice":    {rolling(last, tried("1", 2*time.Minute), tried("2", 50*time.Second)), rollWaits, "", "nobody could take over"}, // each pause is longer
		"asked in an epoch before": {rolling(last, tried("1", time.Second), func(s *scope) {
			s.register.Epoch = 2
			say(s, "cache-0", func(st *wire.Status) { st.Epoch, st.Serving, st.State = 2, true, "Serving" })
			lead(s, 2, "cache-0")
		}), rollHandsOver, "cache-0", ""},
		"asked often enough": {rolling(last, tried("1", time.Hour), tried("2", time.Hour), tried("3", time.Hour)), rollStops, "", "3 times"},
		"asked often by another roll": {rolling(last, tried("1", time.Hour), tried("2", time.Hour), tried("3", time.Hour), func(s *scope) {
			s.set.Status.UpdateRevision = "newer"
			for _, name := range []string{"cache-1", "cache-2"} {
				s.pods[name].Labels[revisionLabel] = "newer"
			}
		}), rollHandsOver, "cache-0", ""},
		"a renewed one does not come back": {rolling([]string{"cache-0", "cache-1"}, starting("cache-2"), func(s *scope) {
			notReady(s, "cache-2", 10*time.Minute)
		}), rollsBack, "cache-2", "cache-2 does not become well (Starting: no such file), so the change is taken back"},
		"nor within the spec's own time": {rolling([]string{"cache-0", "cache-1"}, starting("cache-2"), func(s *scope) {
			s.effective.Spec.ProgressDeadlineSeconds = ptr.To[int32](30)
			notReady(s, "cache-2", 30*time.Second)
		}), rollsBack, "cache-2", ""},
		"nor is its image found": {rolling([]string{"cache-0", "cache-1"}, func(s *scope) {
			mute(s, "cache-2")
			notReady(s, "cache-2", 10*time.Minute)
			s.problems = []Problem{{Reason: v1alpha1.ReasonImageNotFound}}
		}), rollsBack, "cache-2", ""},
		"nor does it, and the mode is Manual": {rolling([]string{"cache-0", "cache-1"}, starting("cache-2"), func(s *scope) {
			notReady(s, "cache-2", 10*time.Minute)
			s.register.Terms.Mode = failover.ModeManual
		}), rollStops, "", "cache-2 runs what the spec says and has not been well for 10m0s (Starting: no such file), so cache-1, cache-0 stay as they are"},
		"nor does it, for it copies": {rolling([]string{"cache-0", "cache-1"}, func(s *scope) {
			say(s, "cache-2", func(st *wire.Status) { st.Epoch, st.State = 1, "CatchingUp" })
			notReady(s, "cache-2", time.Hour)
		}), rollStops, "", ""},
		"nor does it, for its parameters": {rolling([]string{"cache-0", "cache-1"}, func(s *scope) {
			say(s, "cache-2", func(st *wire.Status) {
				st.Epoch, st.State, st.Stuck = 1, "Starting", &wire.Stuck{Reason: "ConfigurationRefused"}
			})
			notReady(s, "cache-2", time.Hour)
		}), rollStops, "", ""},
		"nor does it, for its node": {rolling([]string{"cache-0", "cache-1"}, func(s *scope) {
			mute(s, "cache-2")
			notReady(s, "cache-2", time.Hour)
			s.nodes = map[string]*corev1.Node{"node": {Spec: corev1.NodeSpec{Taints: []corev1.Taint{tainted(corev1.TaintNodeUnreachable, time.Hour)}}}}
		}), rollStops, "", ""},
		"nor does it, and its node is gone": {rolling([]string{"cache-0", "cache-1"}, func(s *scope) {
			mute(s, "cache-2")
			notReady(s, "cache-2", time.Hour)
			s.nodes = map[string]*corev1.Node{}
		}), rollStops, "", ""},
		"nor does it, for its volume's node": {rolling([]string{"cache-0", "cache-1"}, func(s *scope) {
			mute(s, "cache-2")
			s.pods["cache-2"].Spec.NodeName = ""
			s.pods["cache-2"].Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: newerConflict}}
			s.pods["cache-2"].CreationTimestamp = metav1.NewTime(noon.Add(-time.Hour))
		}), rollStops, "", ""},
		"nor did it before": {rolling([]string{"cache-0", "cache-1"}, starting("cache-2"), func(s *scope) {
			notReady(s, "cache-2", time.Hour)
			s.memory.illBefore = map[string]bool{"cache-2": true}
		}), rollStops, "", ""},
		"its pod is refused": {rolling([]string{"cache-0", "cache-1"}, func(s *scope) {
			mute(s, "cache-2")
			delete(s.pods, "cache-2")
			s.memory.missing = noon.Add(-10 * time.Minute)
		}), rollsBack, "cache-2", ""},
		"its pod is about to be made": {rolling([]string{"cache-0", "cache-1"}, func(s *scope) {
			mute(s, "cache-2")
			delete(s.pods, "cache-2")
			s.memory.missing = noon.Add(-time.Minute)
		}), rollWaits, "", ""},
		"nor does another": {rolling([]string{"cache-0", "cache-1"}, starting("cache-2"), starting("cache-1"), func(s *scope) {
			notReady(s, "cache-2", time.Hour)
		}), rollStops, "", ""},
		"nor does it, and nobody serves": {rolling([]string{"cache-0", "cache-1"}, starting("cache-2"), func(s *scope) {
			notReady(s, "cache-2", time.Hour)
			say(s, "cache-0", func(*wire.Status) {})
		}), rollStops, "", ""},
		"a renewed one may come back": {rolling([]string{"cache-0", "cache-1"}, starting("cache-2"), func(s *scope) {
			notReady(s, "cache-2", 10*time.Minute-time.Second)
		}), rollWaits, "", "waiting for cache-2 (Starting: no such file)"},
		"an old one is unwell for a moment": {rolling([]string{"cache-0", "cache-1"}, starting("cache-2"), func(s *scope) {
			s.pods["cache-2"].CreationTimestamp = metav1.NewTime(noon.Add(-24 * time.Hour))
		}), rollWaits, "", "waiting for cache-2"},
		"ready for long and yet unwell": {rolling([]string{"cache-0", "cache-1"}, starting("cache-2"), func(s *scope) {
			s.memory.unwell = map[string]time.Time{"cache-2": noon.Add(-10 * time.Minute)}
		}), rollsBack, "cache-2", ""},
		"broken since it was renewed, set back":  {rolling([]string{"cache-2"}, starting("cache-2"), func(s *scope) { notReady(s, "cache-2", time.Hour) }), rollRenews, "cache-2", ""},
		"two broken ones, older":                 {rolling([]string{"cache-1", "cache-2"}, starting("cache-1"), starting("cache-2")), rollRenews, "cache-1", ""},
		"of two broken ones first who is silent": {rolling([]string{"cache-1", "cache-2"}, starting("cache-1"), func(s *scope) { mute(s, "cache-2") }), rollRenews, "cache-2", ""},
		"another broken one is on its way": {rolling([]string{"cache-1"}, starting("cache-1"), func(s *scope) {
			s.pods["cache-2"].Labels[revisionLabel] = "old"
			s.pods["cache-2"].DeletionTimestamp = &metav1.Time{Time: noon}
			mute(s, "cache-2")
		}), rollWaits, "", "waiting for cache-2"},
		"a blocking problem, and one is sick": {rolling(all, starting("cache-1"), func(s *scope) {
			s.problems = []Problem{{Blocking: true}}
		}), rollWaits, "", "Stalled"},
		"its engine never ran, others are away":        {rolling([]string{"cache-2"}, neverStarted("cache-2"), starting("cache-1")), rollRenews, "cache-2", ""},
		"its engine never ran, an older one is silent": {rolling([]string{"cache-1", "cache-2"}, neverStarted("cache-2"), func(s *scope) { mute(s, "cache-1") }), rollRenews, "cache-2", ""},
		"all crash": {rolling(all, func(s *scope) {
			for _, name := range all {
				crash(s, name)
			}
		}), rollRenews, "cache-1", ""},
		"the holder crashes":             {rolling(last, func(s *scope) { crash(s, "cache-0") }), rollWaits, "", "a primary that serves"},
		"one member":                     {rolling(all, alone), rollRenews, "cache-0", ""},
		"a report of the pod before":     {rolling([]string{"cache-1"}, func(s *scope) { s.pods["cache-2"].UID = "new" }), rollWaits, "", "waiting for cache-2"},
		"the primary's pod is not ready": {rolling(all, func(s *scope) { notReady(s, "cache-0", time.Second) }), rollWaits, "", "waiting for cache-0"},
		"the primary alone, not ready":   {rolling(last, func(s *scope) { notReady(s, "cache-0", time.Second) }), rollHandsOver, "cache-0", ""},
		"the Lease in the cache is older": {rolling(last, func(s *scope) {
			say(s, "cache-0", func(st *wire.Status) { st.Epoch, st.State, st.Eligible = 2, "Following", true })
			say(s, "cache-1", func(st *wire.Status) { st.Epoch, st.Serving, st.State = 2, true, "Serving" })
			lead(s, 2, "cache-1")
		}), rollWaits, "", "waiting for the Lease to name cache-1"},
		"the Lease is lost": {rolling(all, starting("cache-1"), func(s *scope) {
			s.svc.Status.Primary, s.register = &v1alpha1.PrimaryStatus{Name: "cache-0", Epoch: 1}, nil
		}), rollWaits, "", "the Lease is lost"},
		"nobody was ever primary": {rolling(all, starting("cache-1"), func(s *scope) {
			s.register.Epoch, s.register.Holder = 0, failover.Run{}
			s.slices[0].Annotations, s.slices[0].Endpoints = nil, nil
			silence(s, "cache-2")
			say(s, "cache-0", func(*wire.Status) {})
		}), rollRenews, "", ""},
		"set back, the broken one is first": {rolling([]string{"cache-2"}, starting("cache-2"), func(s *scope) {
			s.problems = []Problem{{Reason: v1alpha1.ReasonImageNotFound}}
		}), rollRenews, "cache-2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "not well for long" {
				c.s.memory.calmSince, c.act, c.member, c.why = noon, rollWaits, "", "cache-2 is next"
			}
			got := nextRoll(c.s)
			if got.act != c.act || (c.act != rollStops && got.member != c.member && c.member != "") || !strings.Contains(got.why, c.why) {
				t.Errorf("%+v, want act %d of %q because of %q", got, c.act, c.member, c.why)
			}
			if (got.act == rollRests) != (got.why == "") {
				t.Errorf("people read %q", got.why)
			}
		})
	}
}

// Members whose parameters need a restart are renewed once all have accepted them.
func TestNextRollOfParameters(t *testing.T) {
	digest := func(s *scope) string {
		want, _ := workload.Reloadable(s.effective)
		return want.Digest()
	}
	tuned := func(change ...func(*scope)) *scope {
		return rolling(nil, append([]func(*scope){func(s *scope) {
			s.svc.Spec.Engine = v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{Port: 5432}}
			for _, r := range s.reports {
				r.Status.Configured, r.Status.PendingRestart, r.Status.RestartFor = digest(s), true, []string{"max_connections"}
			}
		}}, change...)...)
	}
	for name, c := range map[string]struct {
		s      *scope
		act    rollAct
		member string
	}{
		"all accepted them": {tuned(), rollRenews, "cache-2"},
		"one refuses them":  {tuned(func(s *scope) { s.reports["cache-1"].Status.Refused = "too large" }), rollRests, ""},
		"one refuses them, and has an older template": {tuned(func(s *scope) {
			s.reports["cache-1"].Status.Refused = "no such library"
			s.pods["cache-1"].Labels[revisionLabel] = "old"
		}), rollRenews, "cache-1"},
		"one has not read them": {tuned(func(s *scope) { s.reports["cache-1"].Status.Configured = "older" }), rollWaits, ""},
		"a restart for older ones": {tuned(func(s *scope) {
			for name, r := range s.reports {
				r.Status.PendingRestart = name == "cache-1"
			}
			s.reports["cache-1"].Status.Configured = "older"
		}), rollRests, ""},
		"one is silent": {tuned(func(s *scope) { silence(s, "cache-1") }), rollWaits, ""},
		"one does not come back": {tuned(func(s *scope) {
			silence(s, "cache-2")
			notReady(s, "cache-2", 10*time.Minute)
		}), rollStops, ""},
		"one was renewed": {tuned(func(s *scope) { s.reports["cache-2"].Status.PendingRestart = false }), rollRenews, "cache-1"},
		"the primary is left": {tuned(func(s *scope) {
			s.reports["cache-1"].Status.PendingRestart, s.reports["cache-2"].Status.PendingRestart = false, false
		}), rollHandsOver, "cache-0"},
	} {
		if got := nextRoll(c.s); got.act != c.act || got.member != c.member {
			t.Errorf("%s: %+v, want act %d of %q", name, got, c.act, c.member)
		}
	}
}

// Each member is the next one only after the others were well for a while since the one before it.
func TestNextRollIsCalm(t *testing.T) {
	s := rolling([]string{"cache-0", "cache-1"})
	s.memory.calmFor = "cache-2"
	if got := nextRoll(s); got.act != rollWaits || s.next.Sub(noon) != rollCalm {
		t.Errorf("%+v at once after the one before, and another look at %s", got, s.next)
	}
	s.now = noon.Add(rollCalm)
	if got := nextRoll(s); got.act != rollRenews || got.member != "cache-1" {
		t.Errorf("%+v after %s", got, rollCalm)
	}
	silence(s, "cache-2")
	s.pods["cache-2"].Status.Conditions = nil
	nextRoll(s)
	say(s, "cache-2", func(st *wire.Status) { st.Epoch, st.State, st.Eligible = 1, "Following", true })
	s.pods["cache-2"].Status.Conditions = s.pods["cache-1"].Status.Conditions
	if got := nextRoll(s); got.act != rollWaits {
		t.Errorf("%+v at once after another member was away", got)
	}
}

// What the cache shows may be older than what the API server says: then nothing is deleted.
func TestRenewalLooksAgain(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *scope, register *failover.Lease, pods map[string]*corev1.Pod)
		same   bool
	}{
		"as in the cache":          {func(*scope, *failover.Lease, map[string]*corev1.Pod) {}, true},
		"it became the primary":    {func(_ *scope, l *failover.Lease, _ map[string]*corev1.Pod) { l.Holder, l.Epoch = runOf("cache-2"), 2 }, false},
		"the other one is gone":    {func(_ *scope, _ *failover.Lease, pods map[string]*corev1.Pod) { delete(pods, "cache-1") }, false},
		"the other one is another": {func(_ *scope, _ *failover.Lease, pods map[string]*corev1.Pod) { pods["cache-1"].UID = "new" }, false},
		"the other one ends": {func(_ *scope, _ *failover.Lease, pods map[string]*corev1.Pod) {
			pods["cache-1"].DeletionTimestamp, pods["cache-1"].Finalizers = &metav1.Time{Time: noon}, []string{"test/kept"}
		}, false},
		"the other one is gone, and was not well": {func(s *scope, _ *failover.Lease, pods map[string]*corev1.Pod) {
			silence(s, "cache-1")
			delete(pods, "cache-1")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := rolling([]string{"cache-0", "cache-1", "cache-2"})
			register, pods := *s.register, map[string]*corev1.Pod{}
			for name, pod := range s.pods {
				pods[name] = pod.DeepCopy()
				pods[name].Namespace, pods[name].Labels = "default", workload.Selector("cache")
			}
			c.change(s, &register, pods)
			obj := workload.Lease(s.svc)
			if err := lease.Write(obj, register, noon); err != nil {
				t.Fatal(err)
			}
			objects := []client.Object{obj}
			for _, pod := range pods {
				objects = append(objects, pod)
			}
			r := &Reconciler{Live: fake.NewClientBuilder().WithObjects(objects...).Build()}
			if same, err := r.asSeen(t.Context(), s, "cache-2"); err != nil || same != c.same {
				t.Errorf("%t %v, want %t", same, err, c.same)
			}
		})
	}
}
