package replicatedservice

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/workload"
)

const (
	// rollCalm is how long all other members must have been well before the next one is renewed.
	rollCalm = 2 * time.Second
	// rollHandovers is how often the primary is asked to hand over, each time after a longer pause.
	rollHandovers = 3
	handoverPause = 30 * time.Second
)

type rollAct int

const (
	rollRests rollAct = iota
	rollWaits
	rollRenews    // the member's pod is deleted, and made anew
	rollHandsOver // a Failover of type Switchover is made
	rollStops     // only a person can help
	rollsBack     // the template is set back to what the primary runs
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
	if !settled(s) {
		s.memory.calmFor = ""
		return waits("the StatefulSet's controller has not seen the newest template yet")
	}
	due := renewals(s)
	if len(due) == 0 {
		s.memory.calmFor, s.memory.unwell = "", nil
		return rollStep{}
	}
	step := rollOf(s, due)
	if step.why == "" {
		step.why = "renewing " + step.member
	}
	step.why = fmt.Sprintf("members that run something older than the spec: %s; %s", strings.Join(due, ", "), step.why)
	return step
}

// settled reports whether the StatefulSet in the cache is of the newest spec, and its revisions are of its newest template.
func settled(s *scope) bool {
	unseen := s.set != nil && s.set.Status.UpdateRevision != "" && s.set.Status.ObservedGeneration < s.set.Generation
	return !s.unsettled && !unseen
}

func rollOf(s *scope, due []string) rollStep {
	if broken, left := brokenByRoll(s, due); broken != "" && left <= 0 {
		return rollStep{act: rollsBack, member: broken, why: fmt.Sprintf("%s does not become well (%s), so the change is taken back", broken, stateOf(s, broken))}
	} else if broken != "" {
		s.lookIn(left)
	}
	member := due[0]
	if why := forbids(s, member); why != "" {
		s.memory.calmFor, s.memory.unwell = "", nil
		return rollStep{act: rollWaits, why: why}
	}
	if idle(s, member) {
		return rollStep{act: rollRenews, member: member}
	}
	if stopped := overdue(s, due); stopped != "" {
		return rollStep{act: rollStops, why: stopped}
	}
	return calmly(s, member, due)
}

// forbids says why nothing is done about a member now, whoever else is well.
func forbids(s *scope, member string) string {
	switch {
	case s.paused():
		return "spec.state is Paused: nothing is changed; set it to Active"
	case !s.mayBuild():
		return "nothing is changed before what Stalled names is put right"
	case idle(s, member):
		return ""
	case !s.heard():
		return "the members are being asked how they are"
	case s.register == nil || s.register.Epoch == 0:
		return "the Lease is lost, and what the members know of it is needed" // highestEpoch is not 0, or the member were idle
	case rollMode(s) == failover.ModeDryRun:
		return fmt.Sprintf("the policy's mode is DryRun, so %s is not renewed", member)
	case changing(s) != "":
		return fmt.Sprintf("Failover %s is under way", changing(s))
	case len(s.problems) > 0 && well(s, member):
		return "no healthy member is touched before what Stalled names is put right"
	}
	return ""
}

// idle: the member takes part in nothing, since its engine never ran, its container ends again and again, or nobody was ever named
// primary. Then nobody is waited for: all members may need the new spec before anybody serves. The end of the Lease's holder is
// evidence, which goes with its pod, so its container is let alone.
func idle(s *scope, member string) bool {
	pod := s.pods[member]
	return !well(s, member) && (neverRan(pod) || (crashes(pod) && !holds(s, member)) || s.highestEpoch() == 0)
}

func crashes(pod *corev1.Pod) bool {
	return pod != nil && slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.Name == names.EngineContainer && c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
	})
}

// calmly waits until all others have been well for a while, so that never more than one is missing, and then goes on with one.
func calmly(s *scope, member string, due []string) rollStep {
	if why := needed(s, member, due); why != "" {
		s.memory.calmFor = ""
		return rollStep{act: rollWaits, why: why}
	}
	if s.memory.calmFor != member {
		s.memory.calmFor, s.memory.calmSince = member, s.now
	}
	if left := rollCalm - s.now.Sub(s.memory.calmSince); left > 0 {
		s.lookIn(left)
		return waits("%s is next", member)
	}
	if holds(s, member) && s.count() > 1 {
		return handsOver(s, member)
	}
	return rollStep{act: rollRenews, member: member}
}

// needed says why the service cannot do without a member now. Of several that are not well and older than the spec none waits for
// another: each may need the new spec to become well. Those that do not even answer go first, so that the agents of all others answer
// when one that does is renewed, and a majority stays.
func needed(s *scope, member string, due []string) string {
	sick := !well(s, member)
	var others []string
	for _, name := range s.memberNames() {
		mends := sick && slices.Contains(due, name)
		if name != member && !well(s, name) && !mends {
			others = append(others, fmt.Sprintf("%s (%s)", name, stateOf(s, name)))
		}
	}
	serving := s.server()
	switch several := s.count() > 1; {
	case len(others) > 0:
		return "waiting for " + strings.Join(others, ", ")
	case several && (serving == nil || !routed(s, s.slices, serving)):
		return "waiting for a primary that serves and is routed"
	case several && holds(s, member) && serving.Run.Member != member:
		return fmt.Sprintf("waiting for the Lease to name %s, which serves", serving.Run.Member)
	case !slices.Contains(outdated(s), member) && len(unread(s)) > 0:
		return fmt.Sprintf("the newest parameters have not reached %s yet", strings.Join(unread(s), ", "))
	}
	return ""
}

// handsOver lets the primary go last, after a switchover to a member that was renewed.
func handsOver(s *scope, member string) rollStep {
	if rollMode(s) != failover.ModeAutomatic {
		return waits("%s is the primary and the policy's mode is %s: create a Failover of type Switchover, and it is renewed too", member, rollMode(s))
	}
	tries, last := requests(s, rollKind(s))
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

// rollKind is what requests of a roll are called. What it rolls to is part of it: a later roll in the same epoch must not be stopped by
// what an earlier one tried in vain.
func rollKind(s *scope) string {
	target := fnv.New32a()
	_, _ = target.Write([]byte(s.set.Status.UpdateRevision)) // it cannot fail
	if parameters, ok := workload.Reloadable(s.effective); ok {
		_, _ = target.Write([]byte(parameters.Digest()))
	}
	return fmt.Sprintf("roll-%08x", target.Sum32())
}

// renewals are the members that run something older than the spec: those first that are not well, whose renewal costs nothing, and
// of them those that take part in nothing or do not even answer; then replicas, the highest ordinal first; then the primary, well or not.
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
		case idle(s, name):
			return -3
		case holds(s, name):
			return len(order)
		case s.reports[name].Live() == nil:
			return -2
		case !well(s, name):
			return -1
		}
		return len(order) - 1 - slices.Index(order, name)
	}
	slices.SortStableFunc(due, func(a, b string) int { return rank(a) - rank(b) })
	return due
}

// outdated pods run another template than the StatefulSet's.
func outdated(s *scope) []string {
	if s.set == nil || s.set.Status.UpdateRevision == "" {
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

// restarts are the members whose engine runs with parameters that need a restart, unless a member refuses the newest ones: what
// one refuses the next start of another may fail on. A new template is rolled out all the same, since it may be the remedy (an
// image that has the library), and what was refused harms nobody: a new pod starts with what its volume remembers.
func restarts(s *scope) []string {
	want, ok := workload.Reloadable(s.effective)
	if !ok {
		return nil
	}
	if refused, _, _, _ := tuningOf(s, want.Digest()); len(refused) > 0 {
		return nil
	}
	var out []string
	for _, name := range s.memberNames() {
		status, pod := s.reports[name].Live(), s.pods[name]
		if status != nil && status.PendingRestart && status.Configured == want.Digest() && pod != nil && pod.DeletionTimestamp == nil {
			out = append(out, name)
		}
	}
	return out
}

// unread are the members of which it is not known that they have judged the newest parameters.
func unread(s *scope) []string {
	want, _ := workload.Reloadable(s.effective)
	var out []string
	for _, name := range s.memberNames() {
		if status := s.reports[name].Live(); status == nil || status.Configured != want.Digest() {
			out = append(out, name)
		}
	}
	return out
}

// well reports whether a member does its part.
func well(s *scope, name string) bool {
	pod, status := s.pods[name], s.reports[name].Live()
	if pod == nil || pod.DeletionTimestamp != nil || !podReady(pod) || status == nil || status.Run.PodUID != string(pod.UID) || !votes(s, pod) {
		return false
	}
	return status.Serving || (status.State == string(v1alpha1.MemberFollowing) && status.Eligible)
}

// votes reports whether a member's vote is its pod's already: before the Lease says so, losing another member costs the majority.
func votes(s *scope, pod *corev1.Pod) bool {
	if s.register == nil {
		return true
	}
	named := s.register.PodOf(pod.Name)
	return named == "" || named == string(pod.UID)
}

// stateOf is what is known of a member that is not well, for people.
func stateOf(s *scope, name string) string {
	if status := s.reports[name].Live(); status != nil {
		return strings.TrimSuffix(status.State+": "+status.Message, ": ")
	}
	return absence(s.pods[name])
}

// holds reports whether a member is the primary, by its own word or by the Lease's.
func holds(s *scope, name string) bool {
	status := s.reports[name].Live()
	return (status != nil && status.Serving) || (s.register != nil && s.register.Holder.Member == name)
}

// changing is a change of primary that somebody asked for and that is not over.
func changing(s *scope) string {
	for _, fo := range s.failovers {
		if fo.Spec.Type != v1alpha1.TypeAutomatic && !Over(&fo) {
			return fo.Name
		}
	}
	return ""
}

// overdue says that a member that needs no renewal, since it was renewed, is not well for too long. Nobody else is touched then.
func overdue(s *scope, due []string) string {
	for _, name := range s.memberNames() {
		pod := s.pods[name]
		if slices.Contains(due, name) || pod == nil || well(s, name) {
			delete(s.memory.unwell, name)
			continue
		}
		left := s.rollDeadline() - s.now.Sub(unwellSince(s, pod))
		if left > 0 {
			s.lookIn(left)
			continue
		}
		return fmt.Sprintf("%s runs what the spec says and has not been well for %s (%s), so %s stay as they are: see `kubectl logs %s -c %s`, and correct "+
			"the spec or set it back; %s is then renewed first", name, s.rollDeadline(), stateOf(s, name), strings.Join(due, ", "), name, names.EngineContainer, name)
	}
	return ""
}

// unwellSince is when a member stopped doing its part: since its pod is not ready, which outlives the operator, or since the
// operator first saw it.
func unwellSince(s *scope, pod *corev1.Pod) time.Time {
	if !podReady(pod) {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && !c.LastTransitionTime.IsZero() {
				return c.LastTransitionTime.Time
			}
		}
		return pod.CreationTimestamp.Time
	}
	return firstSeen(&s.memory.unwell, pod.Name, s.now)
}

// rollMode is the policy's mode that is in force.
func rollMode(s *scope) failover.Mode {
	if s.register == nil {
		return failover.ModeAutomatic
	}
	return s.register.Terms.Mode
}
