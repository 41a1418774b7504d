package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/apply"
)

// report writes the status if it changed, and then tells what happened.
func (r *Reconciler) report(ctx context.Context, s *scope) error {
	before := s.svc.DeepCopy()
	after := s.svc.DeepCopy()
	after.Status = computeStatus(s)
	if equality.Semantic.DeepEqual(before.Status, after.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, after, patch, apply.FieldOwner); err != nil {
		return s.absorb(client.IgnoreNotFound(err))
	}
	for _, e := range slices.Concat(eventsOf(before.Status, after.Status), memberTales(s.memory, before.Status, after.Status), lostTales(s, after.Status)) {
		r.Recorder.Eventf(after, e.about(s), e.kind, e.reason, e.action, "%s", noted(e.note))
	}
	ctrl.LoggerFrom(ctx).V(1).Info("status written", "readiness", after.Status.Readiness)
	return nil
}

// noteLimit is what the API server takes as an event's note; a longer one would be refused, and the event with it.
const noteLimit = 1024

func noted(note string) string {
	const rest = " …"
	if len(note) <= noteLimit {
		return note
	}
	return strings.ToValidUTF8(note[:noteLimit-len(rest)], "") + rest
}

type tale struct {
	kind, reason, action, note string
	member                     string // that it is about, if it is about one
}

// about is the pod that an event is about. Events of the same reason about different pods are different ones: else they would become one series, of which only the first note
// is kept, and which is written to once more when all is well again.
func (t tale) about(s *scope) runtime.Object {
	if t.member == "" {
		return nil
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.svc.Namespace, Name: t.member}}
	if now := s.pods[t.member]; now != nil {
		pod.UID = now.UID
	}
	return pod
}

// eventsOf tells the difference between two statuses.
func eventsOf(before, after v1alpha1.ReplicatedServiceStatus) []tale {
	var out []tale
	if p, old := after.Primary, before.Primary; p != nil && (old == nil || old.Epoch != p.Epoch) {
		note := fmt.Sprintf("%s is the primary of epoch %d", p.Name, p.Epoch)
		if old != nil && old.Name != p.Name {
			note += ", before it " + old.Name
		}
		out = append(out, tale{corev1.EventTypeNormal, "PrimaryChanged", "Observe", note, ""})
	}
	was, is := condition(before, v1alpha1.ConditionStalled), condition(after, v1alpha1.ConditionStalled)
	if is == "True" && (was != "True" || reason(before, v1alpha1.ConditionStalled) != reason(after, v1alpha1.ConditionStalled)) {
		c := meta.FindStatusCondition(after.Conditions, v1alpha1.ConditionStalled)
		out = append(out, tale{corev1.EventTypeWarning, c.Reason, "Reconcile", c.Message, ""})
	}
	if condition(after, v1alpha1.ConditionReady) == "True" && condition(before, v1alpha1.ConditionReady) != "True" {
		out = append(out, tale{corev1.EventTypeNormal, "Ready", "Reconcile", meta.FindStatusCondition(after.Conditions, v1alpha1.ConditionReady).Message, ""})
	}
	if condition(before, v1alpha1.ConditionAvailable) == "True" && condition(after, v1alpha1.ConditionAvailable) == "False" {
		c := meta.FindStatusCondition(after.Conditions, v1alpha1.ConditionAvailable)
		out = append(out, tale{corev1.EventTypeWarning, c.Reason, "Observe", c.Message, ""})
	}
	out = append(out, configurationTale(before, after)...)
	single := func(s v1alpha1.ReplicatedServiceStatus) bool {
		return reason(s, v1alpha1.ConditionFailoverPossible) == v1alpha1.ReasonSingleReplica
	}
	if single(after) && !single(before) {
		out = append(out, tale{corev1.EventTypeWarning, v1alpha1.ReasonSingleReplica, "Reconcile",
			"spec.replicas is 1: when the only member fails nobody can take over", ""})
	}
	return out
}

// memberTales tell of members that stopped doing their part, and of those among them that do it again: each step in between is their state's message.
func memberTales(memory *memory, before, after v1alpha1.ReplicatedServiceStatus) []tale {
	doesItsPart := func(m v1alpha1.MemberStatus) bool {
		return m.State == v1alpha1.MemberServing || m.State == v1alpha1.MemberFollowing
	}
	was := map[string]v1alpha1.MemberStatus{}
	for _, m := range before.Members {
		was[m.Name] = m
	}
	var out []tale
	for _, m := range after.Members {
		old, known := was[m.Name]
		switch {
		case !known || old.State == m.State:
		case doesItsPart(old) && !doesItsPart(m):
			memory.leftOff(m.Name)
			out = append(out, tale{corev1.EventTypeWarning, "MemberAway", "Observe",
				strings.TrimSuffix(fmt.Sprintf("%s, which was %s, is %s: %s", m.Name, old.State, m.State, m.Message), ": "), m.Name})
		case m.State == v1alpha1.MemberFollowing && memory.away[m.Name]:
			delete(memory.away, m.Name)
			out = append(out, tale{corev1.EventTypeNormal, "MemberFollows", "Observe", fmt.Sprintf("%s follows the primary; before that it was %s", m.Name, old.State), m.Name})
		}
	}
	return out
}

func (m *memory) leftOff(member string) {
	if m.away == nil {
		m.away = map[string]bool{}
	}
	m.away[member] = true
}

func condition(s v1alpha1.ReplicatedServiceStatus, kind string) string {
	if c := meta.FindStatusCondition(s.Conditions, kind); c != nil {
		return string(c.Status)
	}
	return ""
}

func reason(s v1alpha1.ReplicatedServiceStatus, kind string) string {
	if c := meta.FindStatusCondition(s.Conditions, kind); c != nil {
		return c.Reason
	}
	return ""
}
