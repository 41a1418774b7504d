package replicatedservice

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"understudy.dev/understudy/internal/names"
)

// A container's end is proof only for the very run that named itself in it, and never where the kubelet guesses.
func TestTerminated(t *testing.T) {
	run := runOf("cache-0")
	ended := func(message, reason string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: message, Reason: reason}}
	}
	for name, c := range map[string]struct {
		state, last corev1.ContainerState
		uid         string
		want        bool
	}{
		"its own end":            {state: ended(run.String(), "Error"), want: true},
		"its end, started again": {last: ended(run.String(), "OOMKilled"), want: true},
		"another run's end":      {state: ended("cache-0_"+run.PodUID+"_2.y", "Error")},
		"a guess":                {state: ended(run.String(), "ContainerStatusUnknown")},
		"without a name":         {state: ended("", "Completed")},
		"another pod":            {state: ended(run.String(), "Error"), uid: "other"},
		"it runs":                {state: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
	} {
		if c.uid == "" {
			c.uid = run.PodUID
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: run.Member, UID: types.UID(c.uid)}}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: names.EngineContainer, State: c.state, LastTerminationState: c.last}}
		if got := terminated(pod, run); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// The out-of-service taint counts when it is newer than the epoch and the node has not been Ready for longer than the lease.
func TestDeclaredDead(t *testing.T) {
	began, wait := noon, 3*time.Second
	at := func(d time.Duration) *metav1.Time { when := metav1.NewTime(noon.Add(d)); return &when }
	taint := func(effect corev1.TaintEffect, added *metav1.Time) []corev1.Taint {
		return []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: effect, TimeAdded: added}}
	}
	const evicts, repels = corev1.TaintEffectNoExecute, corev1.TaintEffectNoSchedule
	for name, c := range map[string]struct {
		taints  []corev1.Taint
		ready   corev1.ConditionStatus
		since   time.Duration
		deleted *metav1.Time
		want    bool
	}{
		"declared and silent":            {taint(evicts, at(time.Minute)), corev1.ConditionUnknown, 30 * time.Second, nil, true},
		"declared before the epoch":      {taint(evicts, at(-time.Minute)), corev1.ConditionUnknown, 30 * time.Second, nil, false},
		"by kubectl, not evicted yet":    {taint(evicts, nil), corev1.ConditionUnknown, 30 * time.Second, nil, false},
		"by kubectl, evicted since":      {taint(evicts, nil), corev1.ConditionUnknown, 30 * time.Second, at(time.Minute), true},
		"by kubectl, evicted before":     {taint(evicts, nil), corev1.ConditionUnknown, 30 * time.Second, at(10 * time.Second), false},
		"by kubectl, evicts nobody":      {taint(repels, nil), corev1.ConditionUnknown, 30 * time.Second, nil, false},
		"it is ready":                    {taint(evicts, at(time.Minute)), corev1.ConditionTrue, 30 * time.Second, nil, false},
		"not ready for a moment":         {taint(evicts, at(time.Minute)), corev1.ConditionFalse, 2*time.Minute - time.Second, nil, false},
		"not ready when the epoch began": {taint(evicts, at(time.Minute)), corev1.ConditionUnknown, -time.Second, nil, false},
		"not declared":                   {nil, corev1.ConditionUnknown, 30 * time.Second, nil, false},
	} {
		node := &corev1.Node{Spec: corev1.NodeSpec{Taints: c.taints}}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: c.ready, LastTransitionTime: *at(c.since)}}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: c.deleted, DeletionGracePeriodSeconds: ptr.To[int64](30)}}
		if got := declaredDead(node, pod, began, noon.Add(2*time.Minute), wait); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}
