package replicatedservice

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/workload"
)

// reasonRolledBack is the event's.
const reasonRolledBack = "RolledBack"

// rolledBack says, on the StatefulSet, which template was taken back, and why. The template stays as it was before for as long as the spec asks for that one.
type rolledBack struct {
	Template string `json:"template"` // digest of what the spec asks for
	Member   string `json:"member"`
	Why      string `json:"why"`
	Agent    string `json:"agent,omitempty"` // the agent's image, where the change brought another one
}

// rollDeadline is how long a renewed member may take to be well again.
func (s *scope) rollDeadline() time.Duration {
	return time.Duration(ptr.Deref(s.effective.Spec.ProgressDeadlineSeconds, 600)) * time.Second
}

func digestOf(template *corev1.PodTemplateSpec) (string, error) {
	raw, err := json.Marshal(template)
	if err != nil {
		return "", fmt.Errorf("comparing pod templates: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8]), nil
}

// takenBack is the note on a StatefulSet, if its template was taken back.
func takenBack(set *appsv1.StatefulSet) *rolledBack {
	if set == nil || set.Annotations[keys.AnnotationRolledBack] == "" {
		return nil
	}
	note := &rolledBack{}
	if json.Unmarshal([]byte(set.Annotations[keys.AnnotationRolledBack]), note) != nil {
		return nil // the spec is tried once more
	}
	return note
}

// keepTemplate lets a StatefulSet have the template that it has, when the wanted one was taken back.
func keepTemplate(want, have *appsv1.StatefulSet) error {
	note := takenBack(have)
	if note == nil {
		return nil
	}
	digest, err := digestOf(&want.Spec.Template)
	if err != nil || digest != note.Template {
		return err
	}
	want.Spec.Template = have.Spec.Template
	note.on(want)
	return nil
}

func (n *rolledBack) on(set *appsv1.StatefulSet) {
	raw, _ := json.Marshal(n) // strings cannot fail
	if set.Annotations == nil {
		set.Annotations = map[string]string{}
	}
	set.Annotations[keys.AnnotationRolledBack] = string(raw)
}

// brokenByRoll is a member that was renewed and is not well for as long as the deadline allows, while all that are still to be renewed are well, the
// primary among them: what they run is known to work, and the member gets it back.
func brokenByRoll(s *scope, due []string) (string, time.Duration) {
	serving := s.server()
	if s.paused() || !s.mayBuild() || !s.heard() || s.register == nil || rollMode(s) != failover.ModeAutomatic || changing(s) != "" ||
		serving == nil || !routed(s, s.slices, serving) || !slices.Contains(outdated(s), serving.Run.Member) {
		return "", 0
	}
	for _, name := range due {
		if !well(s, name) {
			return "", 0
		}
	}
	for _, name := range s.memberNames() {
		pod := s.pods[name]
		switch {
		case slices.Contains(due, name) || well(s, name):
		case pod == nil && !s.memory.missing.IsZero(): // something refuses the new pod
			return name, s.rollDeadline() - s.now.Sub(s.memory.missing)
		case pod == nil || pod.DeletionTimestamp != nil || otherwiseIll(s, pod):
		default:
			return name, s.rollDeadline() - s.now.Sub(unwellSince(s, pod))
		}
	}
	return "", 0
}

// otherwiseIll: what keeps a member from being well is not its template, or was so before. Refused parameters are PostgreSQL's: they are not in the template. A
// copy of the primary's data takes as long as it takes; and a node that fails fails whatever runs on it.
func otherwiseIll(s *scope, pod *corev1.Pod) bool {
	if s.memory.illBefore[pod.Name] || waitsForVolume(pod) || len(readOnly(s, pod.Name)) > 0 {
		return true
	}
	if status := s.reports[pod.Name].Live(); status != nil {
		if status.Stuck == nil {
			return status.State == string(v1alpha1.MemberCatchingUp) || len(status.Full) > 0
		}
		stuck := engine.Stuck(status.Stuck.Reason)
		return stuck == engine.ConfigurationRefused || stuck == engine.RejoinFailed
	}
	node := s.nodes[pod.Spec.NodeName]
	gone := node == nil && pod.Spec.NodeName != "" && s.nodes != nil
	return gone || (node != nil && inTrouble(node))
}

// rollBack gives the StatefulSet the template back that the primary runs, which renews the broken member, and notes which one the spec is not to bring
// again.
func (r *Reconciler) rollBack(ctx context.Context, s *scope, step rollStep) error {
	want := workload.StatefulSet(r.input(s))
	note := &rolledBack{Member: step.member, Why: noted(stateOf(s, step.member))}
	var err error
	if note.Template, err = digestOf(&want.Spec.Template); err != nil {
		return err
	}
	primary := s.pods[s.server().Run.Member]
	revision := &appsv1.ControllerRevision{}
	key := types.NamespacedName{Namespace: s.svc.Namespace, Name: primary.Labels[appsv1.ControllerRevisionHashLabelKey]}
	if err := r.Live.Get(ctx, key, revision); err != nil {
		return fmt.Errorf("reading ControllerRevision %s, which primary %s runs, to take a change back: %w", key.Name, primary.Name, err)
	}
	former, err := templateOf(revision)
	if err != nil {
		return err
	}
	if agent := agentImage(want.Spec.Template.Spec); agent != agentImage(former.Spec) {
		note.Agent = agent
	}
	want.Spec.Template = former
	note.on(want)
	if _, err := r.applier().Ensure(ctx, want); err != nil {
		return fmt.Errorf("taking the change of StatefulSet %s back: %w", want.Name, err)
	}
	s.unsettled, s.retry = true, true
	ctrl.LoggerFrom(ctx).Info("a change of the template is taken back", "member", step.member, "why", note.Why, "revision", key.Name)
	r.Recorder.Eventf(s.svc, want, corev1.EventTypeWarning, reasonRolledBack, "Roll", "%s", noted(fmt.Sprintf(
		"%s has not been well for %s since it was renewed (%s): all members get the template back that primary %s runs", step.member, s.rollDeadline(), note.Why, primary.Name)))
	return nil
}

// agentImage is the image of the init container that brings the agent.
func agentImage(pod corev1.PodSpec) string {
	for _, c := range pod.InitContainers {
		if c.Name == names.InstallContainer {
			return c.Image
		}
	}
	return ""
}

// templateOf is the pod template that a StatefulSet's controller keeps in a revision.
func templateOf(revision *appsv1.ControllerRevision) (corev1.PodTemplateSpec, error) {
	var kept struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	err := json.Unmarshal(revision.Data.Raw, &kept)
	if err == nil && len(kept.Spec.Template.Spec.Containers) == 0 {
		err = fmt.Errorf("it has no containers")
	}
	if err != nil {
		return corev1.PodTemplateSpec{}, fmt.Errorf("reading the pod template in ControllerRevision %s: %w", revision.Name, err)
	}
	return kept.Spec.Template, nil
}

// tellRolledBack tells of a change that was taken back until the spec asks for something else. It comes after all that problems hold up: what runs is what worked
// before.
func (r *Reconciler) tellRolledBack(_ context.Context, s *scope) error {
	if note := takenBack(s.set); note != nil && !s.unsettled {
		s.problems = append(s.problems, rolledBackProblem(s, note))
	}
	return nil
}

func rolledBackProblem(s *scope, note *rolledBack) Problem {
	return Problem{Reason: v1alpha1.ReasonRollStopped, Message: fmt.Sprintf(
		"the change of the spec was taken back, and all members get the pod template that they had before: %s did not become well with it (%s). Correct the spec, which is then tried; or, to try "+
			"the same once more, `kubectl annotate statefulset %s -n %s %s-`", note.Member, strings.TrimSuffix(note.Why, "."), s.svc.Name, s.svc.Namespace, keys.AnnotationRolledBack)}
}
