package replicatedservice

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

// configurationApplied says how far the members are with the engine's parameters. It is no part of Ready: whatever is wrong with
// them, the service goes on with those that it had.
func configurationApplied(s *scope) observation {
	want, ok := workload.Reloadable(s.effective)
	if !ok {
		return observation{true, v1alpha1.ReasonReadAtStart,
			"the engine reads its parameters when a member starts; a change renews the members, as Reconciling tells"}
	}
	refused, restart, behind, silent := tuningOf(s, want.Digest())
	switch {
	case len(refused) > 0:
		return observation{false, v1alpha1.ReasonConfigurationRefused, strings.Join(refused, "; ") + ". What ran goes on running as it was"}
	case len(restart) > 0:
		return observation{false, v1alpha1.ReasonRestartRequired, "in force when the members were renewed, which Reconciling tells of: " + strings.Join(restart, "; ")}
	case len(behind) > 0 && s.paused():
		return observation{false, v1alpha1.ReasonPaused, "spec.state is Paused: nothing is changed; set it to Active"}
	case len(behind) > 0:
		return observation{false, v1alpha1.ReasonApplying, "not told yet that they run with the newest parameters: " + strings.Join(behind, ", ")}
	case len(silent) > 0:
		return observation{false, v1alpha1.ReasonMembersUnreachable, "what they run with is not known: " + strings.Join(silent, ", ")}
	}
	return observation{true, v1alpha1.ReasonConfigurationInForce, "every member runs with the parameters and pg_hba lines of the spec"}
}

// tuningOf sorts the members by how far they are with a configuration. Members that refuse for the same reason are one entry.
func tuningOf(s *scope, digest string) (refused, restart, behind, silent []string) {
	var whys []string
	by := map[string][]string{}
	for _, name := range s.memberNames() {
		status := s.reports[name].Live()
		switch {
		case status == nil:
			silent = append(silent, name+" ("+absence(s.pods[name])+")")
		case status.Configured != digest:
			behind = append(behind, name)
		case status.Refused != "":
			if by[status.Refused] == nil {
				whys = append(whys, status.Refused)
			}
			by[status.Refused] = append(by[status.Refused], name)
		case status.PendingRestart:
			restart = append(restart, name+" ("+restartFor(status)+")")
		}
	}
	for _, why := range whys {
		refused = append(refused, strings.Join(by[why], ", ")+": "+why)
	}
	return refused, restart, behind, silent
}

func restartFor(status *wire.Status) string {
	if len(status.RestartFor) == 0 {
		return "not known for what"
	}
	return strings.Join(status.RestartFor, ", ")
}

// configurationTale tells the steps of a change. That members are waited for, or are there again, is none.
func configurationTale(before, after v1alpha1.ReplicatedServiceStatus) []tale {
	const kind = v1alpha1.ConditionConfigurationApplied
	was, is := meta.FindStatusCondition(before.Conditions, kind), meta.FindStatusCondition(after.Conditions, kind)
	if is == nil || (was != nil && was.Reason == is.Reason && (was.Message == is.Message || is.Status == "True")) {
		return nil
	}
	switch {
	case is.Reason == v1alpha1.ReasonConfigurationRefused:
		return []tale{{corev1.EventTypeWarning, is.Reason, "Configure", is.Message, ""}}
	case is.Reason == v1alpha1.ReasonRestartRequired && (was == nil || was.Reason != is.Reason):
		return []tale{{corev1.EventTypeNormal, is.Reason, "Configure", is.Message, ""}}
	case is.Reason == v1alpha1.ReasonConfigurationInForce && was != nil && was.Reason != v1alpha1.ReasonMembersUnreachable:
		return []tale{{corev1.EventTypeNormal, is.Reason, "Configure", fmt.Sprintf("%s (generation %d)", is.Message, is.ObservedGeneration), ""}}
	}
	return nil
}
