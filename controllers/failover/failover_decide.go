package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/controllers/replicatedservice"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// settleFor is how long after the deadline a change that did begin is still waited for.
const settleFor = 30 * time.Second

// outcome is how a Failover stands.
type outcome int

const (
	goesOn outcome = iota
	succeeded
	failed
)

// step is what is to be done next about a Failover.
type step struct {
	outcome         outcome
	reason, message string
	again           time.Duration
	ask             *wire.Handover
	repeated        bool // ask was written down before, and whether it was heard is not known
	assert          *wire.Proof
	record          *wire.Takeover
	to              string
}

func fails(reason, format string, args ...any) step {
	return step{outcome: failed, reason: reason, message: fmt.Sprintf(format, args...)}
}

// decide says what to do about a Failover; it is pure.
func decide(s *scope) step {
	if s.service == nil {
		return fails(v1alpha1.ReasonServiceNotFound,
			"spec.serviceRef.name: ReplicatedService %q does not exist in namespace %s: create a Failover that names one that does", s.fo.Spec.ServiceRef.Name, s.fo.Namespace)
	}
	if s.fo.Status.Epoch > 0 {
		return follow(s)
	}
	if past, is := superseded(s); is {
		return past
	}
	if refusal, refused := refuse(s); refused {
		return refusal
	}
	left := s.deadline().Sub(s.now)
	wait := func(format string, args ...any) step {
		message := fmt.Sprintf(format, args...)
		if left <= 0 {
			return fails(v1alpha1.ReasonDeadlineExceeded, "%s, and spec.deadlineSeconds are over: nothing was changed; create another Failover", message)
		}
		return step{reason: v1alpha1.ReasonInProgress, message: message, again: left}
	}
	if first := ahead(s); first != "" {
		return wait("waits for Failover %s of the same service", first)
	}
	if s.register == nil || s.register.Epoch == 0 {
		return wait("waits for the service's first primary")
	}
	if s.fo.Spec.Type == v1alpha1.TypeForced {
		return forced(s)
	}
	if s.register.Holder.Member == s.fo.Spec.Target {
		return step{outcome: succeeded, reason: v1alpha1.ReasonCompleted, to: s.fo.Spec.Target,
			message: s.fo.Spec.Target + " is the primary already; nothing was changed"}
	}
	status := s.holder()
	if status == nil || !status.Serving {
		return wait("waits for primary %s to serve", s.register.Holder.Member)
	}
	if refusal, refused := refuseCandidate(s); refused {
		return refusal
	}
	return askHolder(s)
}

// askHolder has the holder hand over.
func askHolder(s *scope) step {
	return step{
		reason: v1alpha1.ReasonInProgress, message: fmt.Sprintf("%s is asked to hand over", s.register.Holder.Member),
		ask: &wire.Handover{ID: string(s.fo.UID), Epoch: s.register.Epoch, Target: s.fo.Spec.Target,
			Leaves: s.fo.Labels[keys.LabelReason] == replicatedservice.ReasonNodeCordoned},
	}
}

// superseded: what the operator asked for by itself was about the primary of one epoch, which handed over or failed meanwhile.
func superseded(s *scope) (step, bool) {
	asked := replicatedservice.AskedIn(s.fo)
	if asked == 0 || s.register == nil || int64(s.register.Epoch) <= asked {
		return step{}, false
	}
	return step{outcome: succeeded, reason: v1alpha1.ReasonSuperseded, to: s.register.Holder.Member, message: fmt.Sprintf(
		"the primary of epoch %d was not asked any more: %s is the primary of epoch %d", asked, s.register.Holder.Member, s.register.Epoch)}, true
}

// overtaken reports whether a refusal only says that the primary hands over already, or has. A request of the operator's, or one that is repeated, is
// then about that change: who takes over is told by the members.
func overtaken(reason string) bool {
	return reason == wire.HandoverUnderWay || reason == wire.NotPrimary
}

// forced hands the members a person's word that the holder's run cannot write any more. A majority and the compare-and-swap
// are still needed, and in a synchronous service enough replicas: the word replaces evidence and nothing else.
func forced(s *scope) step {
	dead, holder := s.fo.Spec.AssertDead, s.register.Holder
	switch {
	case dead.Member != holder.Member || dead.PodUID != holder.PodUID || dead.Epoch != int64(s.register.Epoch):
		return fails(v1alpha1.ReasonTargetRefused, "spec.assertDead names %s of pod UID %s in epoch %d, but %s of pod UID %s holds epoch %d: nothing was changed. "+
			"If that one is dead, create a Failover that names it", dead.Member, dead.PodUID, dead.Epoch, holder.Member, holder.PodUID, s.register.Epoch)
	case s.holder() != nil && s.holder().Serving:
		return fails(v1alpha1.ReasonTargetRefused, "spec.assertDead names %s, which answers and serves: nothing was changed. To change the primary, create a Failover of type Switchover",
			dead.Member)
	}
	return step{
		reason: v1alpha1.ReasonInProgress, message: fmt.Sprintf("the members are told that %s is dead", dead.Member),
		assert: &wire.Proof{Evidence: []failover.Evidence{{Kind: failover.Asserted, Run: holder, Epoch: s.register.Epoch}}},
	}
}

// refuse looks at what cannot become right by waiting.
func refuse(s *scope) (step, bool) {
	target := s.fo.Spec.Target
	if s.service.Spec.State == v1alpha1.StatePaused {
		return fails(v1alpha1.ReasonPaused, "ReplicatedService %s is paused: set its spec.state to Active and create another Failover", s.service.Name), true
	}
	if s.fo.Spec.Type == v1alpha1.TypeForced && target != "" {
		return fails(v1alpha1.ReasonFieldNotSupported, "spec.target cannot be chosen in a Failover of type Forced: the member with the most data takes over. Remove it"), true
	}
	if s.register == nil || target == "" {
		return step{}, false
	}
	if !s.register.Terms.HasMember(target) {
		return fails(v1alpha1.ReasonTargetRefused, "spec.target: %q is not a member of %s; its members are %s",
			target, s.service.Name, strings.Join(s.register.Terms.Names(), ", ")), true
	}
	return step{}, false
}

// refuseCandidate asks whether the target, or anybody, could take over.
func refuseCandidate(s *scope) (step, bool) {
	var why []string
	for _, name := range s.register.Terms.Names() {
		if name == s.register.Holder.Member || (s.fo.Spec.Target != "" && name != s.fo.Spec.Target) {
			continue
		}
		status := s.reports[name].Live()
		switch {
		case status == nil:
			why = append(why, name+" cannot be reached by the operator")
		case !status.Eligible:
			why = append(why, strings.TrimSuffix(fmt.Sprintf("%s: %s: %s", name, status.Reason, status.Explanation), ": "))
		default:
			return step{}, false
		}
	}
	return fails(v1alpha1.ReasonTargetRefused, "nobody who was asked for can take over: %s. When that is mended, create another Failover",
		strings.Join(why, "; ")), true
}

// ahead names another Failover of the service that is older and not finished.
func ahead(s *scope) string {
	open := slices.DeleteFunc(slices.Clone(s.others), func(o v1alpha1.Failover) bool {
		return o.Spec.Type == v1alpha1.TypeAutomatic || replicatedservice.Over(&o) || o.UID == s.fo.UID
	})
	for _, o := range open {
		older := o.CreationTimestamp.Before(&s.fo.CreationTimestamp)
		same := o.CreationTimestamp.Equal(&s.fo.CreationTimestamp) && o.Name < s.fo.Name
		if o.Status.Epoch > 0 || older || same {
			return o.Name
		}
	}
	return ""
}

// follow looks after a change that was asked for: the new primary tells how it went.
func follow(s *scope) step {
	epoch := s.fo.Status.Epoch
	record := s.takeover(epoch)
	if record != nil && routedAfter(record) {
		message := fmt.Sprintf("%s is the primary of epoch %d", record.To.Member, epoch)
		if t := s.fo.Spec.Target; t != "" && t != record.To.Member {
			message = fmt.Sprintf("%s was asked for, but %s was the better candidate when the primary had released its right; it is the primary of epoch %d",
				t, record.To.Member, epoch)
		}
		return step{outcome: succeeded, reason: v1alpha1.ReasonCompleted, message: message, record: record, to: record.To.Member}
	}
	if record == nil && unheard(s) {
		again := askHolder(s)
		again.repeated = true
		return again
	}
	left := s.deadline().Add(settleFor).Sub(s.now)
	if left > 0 {
		return step{reason: v1alpha1.ReasonInProgress, message: s.progress(epoch), again: left}
	}
	switch {
	case s.register != nil && int64(s.register.Epoch) >= epoch:
		return step{outcome: succeeded, reason: v1alpha1.ReasonCompleted, record: record, to: s.register.Holder.Member, message: fmt.Sprintf(
			"%s holds epoch %d; its agent's record of the change was lost", s.register.Holder.Member, s.register.Epoch)}
	default:
		return fails(v1alpha1.ReasonDeadlineExceeded, "%s was asked to hand over and the change did not end in time: see the conditions of ReplicatedService %s",
			s.fo.Status.From, s.service.Name)
	}
}

// unheard reports whether the primary that was asked serves on in its epoch: the question or its answer was lost, with a connection or with the
// operator that asked. One that hands over already takes the same question for what it is about.
func unheard(s *scope) bool {
	if s.answered || s.fo.Spec.Type != v1alpha1.TypeSwitchover || s.register == nil || int64(s.register.Epoch) != s.fo.Status.Epoch-1 ||
		s.register.Holder.Member != s.fo.Status.From || !s.now.Before(s.deadline()) {
		return false
	}
	status := s.holder()
	return status != nil && status.Serving
}

func (s *scope) progress(epoch int64) string {
	if s.register != nil && s.register.Epoch >= failover.Epoch(epoch) {
		return fmt.Sprintf("%s holds epoch %d and takes over", s.register.Holder.Member, s.register.Epoch)
	}
	return fmt.Sprintf("%s is asked to hand over", s.fo.Status.From)
}

// routedAfter reports whether a record is complete.
func routedAfter(t *wire.Takeover) bool {
	_, ok := t.Steps[string(v1alpha1.StepRouted)]
	return ok
}
