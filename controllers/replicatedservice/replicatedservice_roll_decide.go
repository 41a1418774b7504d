package replicatedservice

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/workload"
)

const (
	// rollCalm is how long all other members must have been well before the next one is renewed.
	rollCalm = 2 * time.Second
	// rollDeadline is how long a renewed member may take to be well again, as for the pods of a Deployment.
	rollDeadline = 10 * time.Minute
	// rollHandovers is how often the primary is asked to hand over, each time after a longer pause.
	rollHandovers = 3
	handoverPause = 30 * time.Second
	// rollKind is what requests of a roll are called.
	rollKind = "roll"
)

type rollAct int

const (
	rollRests rollAct = iota
	rollWaits
	rollRenews    // the member's pod is deleted, and made anew
	rollHandsOver // a Failover of type Switchover is made
	rollStops     // only a person can help
)

// rollStep is what comes next in a roll: the renewal of members that run something older than the spec, one at a time. why is
// for people; without it there is nothing to renew.
type rollStep struct {
	act    rollAct
	member string
	why    string
}

func waits(format string, args ...any) rollStep {
	return rollStep{act: rollWaits, why: fmt.Sprintf(format, args...)}
}

// nextRoll decides on what is known now; of what it notes in the memory only time is lost with it.
func nextRoll(s *scope) rollStep {
	due := renewals(s)
	if len(due) == 0 {
		s.memory.calmFor = ""
		return rollStep{}
	}
	step := rollOf(s, due)
	if step.why == "" {
		step.why = "renewing " + step.member
	}
	step.why = fmt.Sprintf("members that run something older than the spec: %s; %s", strings.Join(due, ", "), step.why)
	return step
}

func rollOf(s *scope, due []string) rollStep {
	member := due[0]
	sick := !well(s, member)
	switch mode := rollMode(s); {
	case s.paused():
		return waits("spec.state is Paused: nothing is changed; set it to Active")
	case !s.mayBuild():
		return waits("nothing is changed before what Stalled names is put right")
	case sick && (neverRan(s.pods[member]) || s.register == nil || s.register.Epoch == 0):
		return rollStep{act: rollRenews, member: member} // it takes part in nothing yet
	case !s.heard():
		return waits("the members are being asked how they are")
	case mode == failover.ModeDryRun:
		return waits("the policy's mode is DryRun, so %s is not renewed", member)
	case changing(s) != "":
		return waits("Failover %s is under way", changing(s))
	case len(s.problems) > 0 && !sick:
		return waits("no healthy member is touched before what Stalled names is put right")
	}
	if stopped := overdue(s, due); stopped != "" {
		return rollStep{act: rollStops, why: stopped}
	}
	return calmly(s, member, sick)
}

// calmly waits until all others have been well for a while, so that never more than one is missing, and then goes on with one.
func calmly(s *scope, member string, sick bool) rollStep {
	if others := unwell(s, member); len(others) > 0 {
		s.memory.calmFor = ""
		return waits("waiting for %s", strings.Join(others, ", "))
	}
	if s.memory.calmFor != member {
		s.memory.calmFor, s.memory.calmSince = member, s.now
	}
	if left := rollCalm - s.now.Sub(s.memory.calmSince); left > 0 {
		s.lookIn(left)
		return waits("%s is next", member)
	}
	if holds(s, member) && s.count() > 1 && !sick {
		return handsOver(s, member)
	}
	return rollStep{act: rollRenews, member: member}
}

// handsOver lets the primary go last, after a switchover to a member that was renewed.
func handsOver(s *scope, member string) rollStep {
	if rollMode(s) != failover.ModeAutomatic {
		return waits("%s is the primary and the policy's mode is %s: create a Failover of type Switchover, and it is renewed too", member, rollMode(s))
	}
	tries, last := requests(s, rollKind)
	why := "it has not been asked yet"
	if failed := failure(last); failed != "" {
		why = failed
	}
	if tries >= rollHandovers {
		return rollStep{act: rollStops, why: fmt.Sprintf("primary %s was asked %d times to hand over, and serves on with the older template: %s. "+
			"Create a Failover of type Switchover when that is mended", member, tries, why)}
	}
	if left := time.Duration(tries)*handoverPause - s.now.Sub(last.CreationTimestamp.Time); tries > 0 && left > 0 {
		s.lookIn(left)
		return waits("primary %s is asked again to hand over in a while: %s", member, why)
	}
	return rollStep{act: rollHandsOver, member: member, why: fmt.Sprintf("primary %s is asked to hand over", member)}
}

// renewals are the members that run something older than the spec: those first that are not well, whose renewal costs nothing,
// then replicas, the highest ordinal first, then the primary.
func renewals(s *scope) []string {
	due := outdated(s)
	for _, name := range restarts(s) {
		if !slices.Contains(due, name) {
			due = append(due, name)
		}
	}
	order := s.memberNames()
	rank := func(name string) int {
		switch {
		case !well(s, name):
			return -1
		case holds(s, name):
			return len(order)
		}
		return len(order) - 1 - slices.Index(order, name)
	}
	slices.SortStableFunc(due, func(a, b string) int { return rank(a) - rank(b) })
	return due
}

// outdated pods run another template than the StatefulSet's.
func outdated(s *scope) []string {
	if s.set == nil || s.set.Status.ObservedGeneration < s.set.Generation || s.set.Status.UpdateRevision == "" {
		return nil
	}
	var out []string
	for _, name := range s.memberNames() {
		pod := s.pods[name]
		if pod != nil && pod.DeletionTimestamp == nil && pod.Labels["controller-revision-hash"] != s.set.Status.UpdateRevision {
			out = append(out, name)
		}
	}
	return out
}

// restarts are the members whose engine runs with parameters that need a restart, once every member has accepted the newest ones.
func restarts(s *scope) []string {
	want, ok := workload.Reloadable(s.effective)
	if !ok {
		return nil
	}
	refused, restart, behind, silent := tuningOf(s, want.Digest())
	if len(refused) > 0 || len(restart) == 0 || len(behind) > 0 || len(silent) > 0 {
		return nil
	}
	var out []string
	for _, name := range s.memberNames() {
		if s.reports[name].Live().PendingRestart && s.pods[name] != nil && s.pods[name].DeletionTimestamp == nil {
			out = append(out, name)
		}
	}
	return out
}

// well reports whether a member does its part.
func well(s *scope, name string) bool {
	pod, status := s.pods[name], s.reports[name].Live()
	if pod == nil || pod.DeletionTimestamp != nil || !podReady(pod) || status == nil || status.Run.PodUID != string(pod.UID) {
		return false
	}
	return status.Serving || (status.State == string(v1alpha1.MemberFollowing) && status.Eligible)
}

// unwell says which of the others are not well, and that nobody serves, if so.
func unwell(s *scope, but string) []string {
	var out []string
	for _, name := range s.memberNames() {
		if name == but || well(s, name) {
			continue
		}
		state := absence(s.pods[name])
		if status := s.reports[name].Live(); status != nil {
			state = strings.TrimSuffix(status.State+": "+status.Message, ": ")
		}
		out = append(out, fmt.Sprintf("%s (%s)", name, state))
	}
	if serving := s.server(); len(out) == 0 && s.count() > 1 && (serving == nil || !routed(s, s.slices, serving)) {
		out = append(out, "a primary that serves and is routed")
	}
	return out
}

// holds reports whether a member is the primary, by its own word or by the Lease's.
func holds(s *scope, name string) bool {
	status := s.reports[name].Live()
	return (status != nil && status.Serving) || (s.register != nil && s.register.Holder.Member == name)
}

// changing is a change of primary that somebody asked for and that is not over.
func changing(s *scope) string {
	for _, fo := range s.failovers {
		over := meta.IsStatusConditionTrue(fo.Status.Conditions, v1alpha1.ConditionReady) || meta.IsStatusConditionTrue(fo.Status.Conditions, v1alpha1.ConditionStalled)
		if fo.Spec.Type != v1alpha1.TypeAutomatic && !over {
			return fo.Name
		}
	}
	return ""
}

// overdue says that a member that was renewed is not well for too long. Nobody else is touched then.
func overdue(s *scope, due []string) string {
	for _, name := range s.memberNames() {
		pod := s.pods[name]
		if slices.Contains(due, name) || pod == nil || well(s, name) {
			continue
		}
		left := rollDeadline - s.now.Sub(pod.CreationTimestamp.Time)
		if left > 0 {
			s.lookIn(left)
			continue
		}
		state := absence(pod)
		if status := s.reports[name].Live(); status != nil {
			state = strings.TrimSuffix(status.State+": "+status.Message, ": ")
		}
		return fmt.Sprintf("%s has not come back within %s after it was renewed (%s), so %s stay as they are: see `kubectl logs %s -c %s`, and correct the spec "+
			"or set it back; %s is then renewed first", name, rollDeadline, state, strings.Join(due, ", "), name, names.EngineContainer, name)
	}
	return ""
}

// rollMode is the policy's mode that is in force.
func rollMode(s *scope) failover.Mode {
	if s.register == nil {
		return failover.ModeAutomatic
	}
	return s.register.Terms.Mode
}
