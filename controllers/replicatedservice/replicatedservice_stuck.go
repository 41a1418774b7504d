package replicatedservice

import (
	"fmt"
	"strings"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

// stuckProblems are members whose engine does not go on until a person has put something right.
func stuckProblems(s *scope) []Problem {
	var out []Problem
	for _, name := range s.memberNames() {
		if status := s.reports[name].Live(); status != nil && status.Stuck != nil && len(readOnly(s, name)) == 0 {
			out = append(out, stuckProblem(s, name, *status.Stuck))
		}
	}
	return out
}

// stuckProblem says what a person can do. Reasons are constants of the API: what a member of another version says is shown as one.
func stuckProblem(s *scope, member string, stuck wire.Stuck) Problem {
	again := fmt.Sprintf("`kubectl delete pod %s -n %s`", member, s.svc.Namespace)
	switch engine.Stuck(stuck.Reason) {
	case engine.RejoinFailed:
		return Problem{Reason: v1alpha1.ReasonRejoinFailed, Message: fmt.Sprintf(
			"%s cannot rejoin: %s. Put the cause right and delete its pod, whose successor tries as often again: %s; or have the member made anew from the "+
				"primary: %s", member, stuck.Message, again, rebuild(s, member))}
	case engine.BootstrapFailed:
		return Problem{Reason: v1alpha1.ReasonBootstrapFailed, Message: fmt.Sprintf("%s: %s; put that right", member, stuck.Message)}
	case engine.ConfigurationRefused:
		return Problem{Reason: v1alpha1.ReasonConfigurationRefused, Message: fmt.Sprintf("%s does not start: %s; it is tried again by itself", member, stuck.Message)}
	}
	return Problem{Reason: v1alpha1.ReasonEngineNotStarted, Message: fmt.Sprintf(
		"%s: its engine cannot be started: %s: put that right; it is tried again by itself", member, stuck.Message)}
}

// rebuild is how a person has a member made anew from nothing, where there is somebody to make it from.
func rebuild(s *scope, member string) string {
	if s.server() == nil {
		return "not now, since no primary serves and this member's data may be needed"
	}
	pod := fmt.Sprintf("kubectl delete pod %s -n %s", member, s.svc.Namespace)
	if s.effective.Spec.Storage == nil {
		return fmt.Sprintf("`%s`, which has no volume that stays", pod)
	}
	var claims []string
	for _, volume := range wantedSizes(s.effective.Spec.Storage) {
		claims = append(claims, names.Claim(volume.template, member))
	}
	return fmt.Sprintf("`kubectl delete pvc %s -n %s --wait=false && %s`, after which what only this member has is gone",
		strings.Join(claims, " "), s.svc.Namespace, pod)
}
