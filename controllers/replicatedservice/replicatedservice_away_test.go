package replicatedservice

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

// absent is a service whose cache-2 is away, with its node as it is.
func absent(change func(*scope, *corev1.Pod, *corev1.Node)) *scope {
	return playing(3, func(s *scope) {
		silence(s, "cache-2")
		pod := s.pods["cache-2"]
		pod.Spec.NodeName = "node-3"
		pod.Status.Conditions = nil
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-3"}}
		s.nodes = map[string]*corev1.Node{"node-3": node}
		change(s, pod, node)
	})
}

func tainted(key string, ago time.Duration) corev1.Taint {
	at := metav1.NewTime(noon.Add(-ago))
	return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &at}
}

func ending(ago time.Duration) *metav1.Time {
	at := metav1.NewTime(noon.Add(-ago))
	return &at
}

func waiting(reason, message string) []corev1.ContainerStatus {
	return []corev1.ContainerStatus{{Name: names.EngineContainer, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
}

// A member that does not come back is told of with its next step, once what usually passes has not passed.
func TestAwayProblems(t *testing.T) {
	unscheduledPod := func(age time.Duration, message string) func(*scope, *corev1.Pod, *corev1.Node) {
		return func(_ *scope, pod *corev1.Pod, _ *corev1.Node) {
			pod.Spec.NodeName, pod.CreationTimestamp = "", metav1.NewTime(noon.Add(-age))
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: message}}
		}
	}
	unstartedPod := func(age time.Duration, reason, message string) func(*scope, *corev1.Pod, *corev1.Node) {
		return func(_ *scope, pod *corev1.Pod, _ *corev1.Node) {
			pod.Status.ContainerStatuses = waiting(reason, message)
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon.Add(-age))}}
		}
	}
	for name, c := range map[string]struct {
		change func(*scope, *corev1.Pod, *corev1.Node)
		reason string
		words  string
		soon   bool // it is looked at again, since it may still pass
	}{
		"its node is silent": {func(_ *scope, _ *corev1.Pod, n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{tainted(corev1.TaintNodeUnreachable, 5*time.Minute)}
		}, v1alpha1.ReasonNodeUnreachable, "kubectl taint node node-3 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute", false},
		"its node is not ready": {func(_ *scope, _ *corev1.Pod, n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{tainted(corev1.TaintNodeNotReady, 5*time.Minute)}
		}, v1alpha1.ReasonNodeUnreachable, "node-3, which has the taint node.kubernetes.io/not-ready since 2026-11-23T11:55:00Z", false},
		"silent for a while": {func(_ *scope, _ *corev1.Pod, n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{tainted(corev1.TaintNodeUnreachable, time.Minute)}
		}, "", "", true},
		"silent, and said to be off": {func(_ *scope, _ *corev1.Pod, n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{tainted(corev1.TaintNodeUnreachable, time.Hour), tainted(corev1.TaintNodeOutOfService, time.Minute)}
		}, "", "", false},
		"it does not end": {func(_ *scope, p *corev1.Pod, _ *corev1.Node) { p.DeletionTimestamp = ending(2 * time.Minute) },
			v1alpha1.ReasonMemberKeepsTerminating, "restart node node-3, or make sure that it is off", false},
		"a finalizer holds it": {func(_ *scope, p *corev1.Pod, _ *corev1.Node) {
			p.DeletionTimestamp, p.Finalizers = ending(time.Hour), []string{"example.test/wait"}
		}, v1alpha1.ReasonMemberKeepsTerminating, "(example.test/wait)", false},
		"it is ending": {func(_ *scope, p *corev1.Pod, _ *corev1.Node) { p.DeletionTimestamp = ending(time.Second) }, "", "", true},
		"it is ending, on a gone node": {func(s *scope, p *corev1.Pod, _ *corev1.Node) {
			p.DeletionTimestamp = ending(time.Hour)
			delete(s.nodes, "node-3")
		}, "", "", false},
		"no node has room":             {unscheduledPod(5*time.Minute, "0/3 nodes are available: 3 Insufficient memory."), v1alpha1.ReasonMemberUnschedulable, "3 Insufficient memory. Make room", false},
		"no node has room yet":         {unscheduledPod(time.Minute, "0/3 nodes are available: 3 Insufficient memory."), "", "", true},
		"it waits for its volume":      {unscheduledPod(time.Hour, newerConflict), "", "", false},
		"its volume cannot be mounted": {unstartedPod(5*time.Minute, "ContainerCreating", ""), v1alpha1.ReasonMemberNotStarted, "container engine of cache-2 (ContainerCreating)", false},
		"its Secret is missing":        {unstartedPod(time.Hour, "CreateContainerConfigError", `secret "x" not found`), v1alpha1.ReasonMemberNotStarted, `secret "x" not found`, false},
		"it has just come to its node": {unstartedPod(time.Second, "ContainerCreating", ""), "", "", true},
		"its container keeps ending": {func(_ *scope, p *corev1.Pod, _ *corev1.Node) {
			p.Status.ContainerStatuses = waiting("CrashLoopBackOff", "")
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(noon.Add(-endsFor))}}
		}, v1alpha1.ReasonMemberKeepsEnding, "kubectl logs cache-2 -n default -c engine --previous", false},
		"it has begun to end": {func(_ *scope, p *corev1.Pod, _ *corev1.Node) {
			p.Status.ContainerStatuses = waiting("CrashLoopBackOff", "")
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(noon)}}
		}, "", "", true},
		"its image is missing":          {unstartedPod(time.Hour, "ImagePullBackOff", ""), "", "", false}, // told elsewhere
		"its agent is about to connect": {func(*scope, *corev1.Pod, *corev1.Node) {}, "", "", false},
		"it is well": {func(s *scope, p *corev1.Pod, n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{tainted(corev1.TaintNodeUnreachable, time.Hour)}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			say(s, "cache-2", func(st *wire.Status) { st.Epoch, st.State, st.Eligible = 3, "Following", true })
		}, "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := absent(c.change)
			got := awayProblems(s)
			if c.reason == "" && len(got) > 0 || c.reason != "" && (len(got) != 1 || got[0].Reason != c.reason || !strings.Contains(got[0].Message, c.words)) {
				t.Errorf("told %+v, want %s with %q", got, c.reason, c.words)
			}
			if soon := !s.next.IsZero(); soon != c.soon {
				t.Errorf("looked at again: %t", soon)
			}
		})
	}
}

// A replica that comes closer to the primary, however slowly, is waited for; one that does not is told of.
func TestMemberBehind(t *testing.T) {
	s := playing(3)
	look := func(minute int, lag int64) int {
		s.now = noon.Add(time.Duration(minute) * time.Minute)
		say(s, "cache-2", func(st *wire.Status) { st.Epoch, st.State, st.LagBytes = 3, "CatchingUp", lag })
		return len(awayProblems(s))
	}
	for _, step := range []struct {
		minute int
		lag    int64
		told   int
	}{{0, 1 << 30, 0}, {9, 900 << 20, 0}, {18, 890 << 20, 0}, {19, 895 << 20, 1}, {20, 2 << 30, 1}, {21, 100 << 20, 0}, {30, 99 << 20, 0}, {31, 99 << 20, 1}, {32, -1, 0}} {
		if got := look(step.minute, step.lag); got != step.told {
			t.Errorf("minute %d, %d bytes behind: told %d, want %d", step.minute, step.lag, got, step.told)
		}
	}
}

// hanging is a service of which a replica's agent answers nobody.
func hanging(change ...func(*scope)) *scope {
	s := absent(func(s *scope, pod *corev1.Pod, _ *corev1.Node) {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: names.EngineContainer,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(noon.Add(-hungFor))}}}}
		report := s.reports["cache-2"]
		report.Since = noon.Add(-hungFor)
		s.reports["cache-2"] = report
	})
	for _, f := range change {
		f(s)
	}
	return s
}

// A pod is made anew whose agent hangs, and not one that may only seem so.
func TestHealOfHungAgents(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*scope)
		want   string
	}{
		"it hangs":           {func(*scope) {}, "cache-2"},
		"since a moment ago": {func(s *scope) { r := s.reports["cache-2"]; r.Since = noon; s.reports["cache-2"] = r }, ""},
		"its container has begun": {func(s *scope) {
			s.pods["cache-2"].Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(noon)
		}, ""},
		"the kubelet hears it": {func(s *scope) { s.pods["cache-2"].Status.Conditions = playing(3).pods["cache-2"].Status.Conditions }, ""},
		"its node is silent": {func(s *scope) {
			s.nodes["node-3"].Spec.Taints = []corev1.Taint{tainted(corev1.TaintNodeUnreachable, time.Second)}
		}, ""},
		"its node is gone":         {func(s *scope) { delete(s.nodes, "node-3") }, ""},
		"it is the Lease's holder": {func(s *scope) { s.register.Holder = runOf("cache-2") }, ""},
		"another is silent too":    {func(s *scope) { silence(s, "cache-1") }, ""},
		"its container ended":      {func(s *scope) { s.pods["cache-2"].Status.ContainerStatuses[0].State = corev1.ContainerState{} }, ""},
	} {
		s := hanging(c.change)
		if got, problem := nextHeal(s); got != c.want || problem != nil {
			t.Errorf("%s: %q, want %q (%v)", name, got, c.want, problem)
		}
		if soon := name == "since a moment ago" || name == "its container has begun"; soon == s.next.IsZero() {
			t.Errorf("%s: looked at again at %s", name, s.next)
		}
	}
}
