package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// onOperatorFrame answers the operator.
func (a *Agent) onOperatorFrame(l *Link, f wire.Frame) {
	switch {
	case f.WatchStatus != nil:
		l.watches = true
		s := a.Status()
		l.Peer.Send(wire.Frame{Status: &s})
	case f.Policy != nil:
		terms := f.Policy.Terms
		a.policy = &terms
	case f.Proof != nil:
		for _, e := range f.Proof.Evidence {
			a.obs.OnProof(a.now(), e)
		}
		for member, uid := range f.Proof.Gone {
			a.obs.OnGone(member, uid)
		}
	case f.Handover != nil:
		a.onHandoverRequest(l, *f.Handover)
	}
}

func (a *Agent) onHandoverRequest(l *Link, h wire.Handover) {
	answer := func(r wire.HandoverReply) {
		r.ID = h.ID
		l.Peer.Send(wire.Frame{HandoverReply: &r})
	}
	switch {
	case a.obs.Tenure == nil || a.obs.Tenure.Epoch != h.Epoch:
		answer(wire.HandoverReply{Refused: true, Reason: wire.NotPrimary, Message: a.Self.Member + " does not hold that epoch"})
	case a.obs.Lease.Terms.Mode == failover.ModePaused:
		answer(wire.HandoverReply{Refused: true, Reason: "Paused", Message: "the service is paused: set spec.state to Active first"})
	default:
		a.beginHandover(h.Target, answer)
		if a.handover != nil && a.handover.epoch == h.Epoch {
			a.handover.leaves = a.handover.leaves || h.Leaves
		}
	}
}

// publishEvery is how often the operator is told at most. It looks a moment after it was told, and in the middle of a failover every
// word costs processor time that the failover needs.
const publishEvery = 200 * time.Millisecond

// publish tells the operator what changed and is worth telling. Lag and position alone are not: a healthy service under
// load says nothing.
func (a *Agent) publish() {
	var watching []*Link
	for _, l := range a.links {
		if l.watches {
			watching = append(watching, l)
		}
	}
	if len(watching) == 0 {
		return
	}
	if wait := a.publishNext.Sub(a.now()); wait > 0 {
		a.wakeIn(wait)
		return
	}
	s := a.Status()
	if sameStatus(s, a.pushed) {
		return
	}
	a.pushed, a.publishNext = s, a.now().Add(publishEvery)
	for _, l := range watching {
		l.Peer.Send(wire.Frame{Status: &s})
	}
}

// EngineAnswers says that the member is ready, in the sense of a readiness probe.
func (a *Agent) EngineAnswers() bool {
	return a.obs.Engine.Healthy && a.obs.Engine.State != failover.EngineStopped
}

func sameStatus(a, b wire.Status) bool {
	return a.Run == b.Run && a.Epoch == b.Epoch && a.Role == b.Role && a.State == b.State && a.Message == b.Message &&
		a.HasData == b.HasData && a.Running == b.Running && a.DataIdentity == b.DataIdentity && a.Promise == b.Promise && a.Forgotten == b.Forgotten &&
		same(a.Stuck, b.Stuck) && same(a.Lost, b.Lost) && a.Configured == b.Configured && a.Refused == b.Refused && slices.Equal(a.RestartFor, b.RestartFor) && slices.Equal(a.Full, b.Full) && slices.Equal(a.ReadOnly, b.ReadOnly) &&
		a.Serving == b.Serving && a.Routed == b.Routed && a.Eligible == b.Eligible && a.Reason == b.Reason &&
		slices.EqualFunc(a.Takeovers, b.Takeovers, func(x, y wire.Takeover) bool {
			return x.Epoch == y.Epoch && maps.Equal(x.Steps, y.Steps)
		})
}

func same[T comparable](a, b *T) bool { return a == b || (a != nil && b != nil && *a == *b) }

// Status is what the member knows of itself.
func (a *Agent) Status() wire.Status {
	o := a.obs
	v := failover.Verdict(a.now(), o)
	lag := int64(-1)
	if l, known := o.Lag(); known {
		lag = l
	}
	if o.Serving() {
		lag = 0
	}
	s := wire.Status{Run: a.Self, Address: a.IPs[0], Epoch: max(o.Lease.Epoch, o.Heard.Epoch), Role: string(a.role()), State: string(a.state()),
		Message: a.message(), HasData: o.Engine.Data, Running: o.Engine.State == failover.EngineRunning, DataIdentity: o.Engine.DataID, Promise: o.Durable.Promise,
		Forgotten: o.Durable.Forgotten, Fresh: o.Durable.Promise == 0 && len(o.Durable.Given) == 0, Position: o.Engine.Position, LagBytes: lag,
		Serving: o.Serving(), Routed: o.Serving() && a.routed == o.Tenure.Epoch, Eligible: v.Eligible, Reason: v.Guard, Explanation: v.Message,
		GuardLatenessMicros: a.Guard.Lateness().Microseconds(), Takeovers: a.history,
		Configured: a.tuned.Judged, Refused: limited(a.tuned.Refused), PendingRestart: len(a.tuned.RestartFor) > 0, RestartFor: a.tuned.RestartFor,
		Stuck: a.stuck(), Lost: a.lost(), Full: a.full, ReadOnly: o.ReadOnly}
	if a.served.Epoch > 0 && !s.Serving {
		served := a.served
		s.Served = &served
	}
	if o.LeaseRead != 0 {
		lease := o.Lease
		s.Lease = &lease
	}
	return s
}

func (a *Agent) role() v1alpha1.MemberRole {
	if a.obs.Tenure != nil {
		return v1alpha1.RolePrimary
	}
	return v1alpha1.RoleReplica
}

func (a *Agent) state() v1alpha1.MemberState {
	o := a.obs
	switch {
	case o.Serving():
		return v1alpha1.MemberServing
	case o.Ended == o.Lease.Epoch && o.Ended > 0:
		return v1alpha1.MemberFenced
	case o.LeaseRead == 0 || o.Engine.State != failover.EngineRunning:
		return v1alpha1.MemberStarting
	case o.Tenure == nil && o.Durable.Promise > o.Lease.Epoch:
		return v1alpha1.MemberPromised
	case o.Lease.Epoch == 0 || o.Tenure != nil:
		return v1alpha1.MemberStarting
	}
	lag, known := o.Lag()
	if len(o.ReadOnly) == 0 && o.Engine.LinkUp && o.Engine.Following == o.Lease.Holder && known && lag <= o.Lease.Terms.MaxLagBytes && o.MayVote(a.now()) {
		return v1alpha1.MemberFollowing
	}
	return v1alpha1.MemberCatchingUp
}

// messageLimit keeps an engine's error within what the service's status may hold.
const messageLimit = 1000

func (a *Agent) message() string { return limited(a.trouble()) }

func limited(m string) string { return strings.ToValidUTF8(m[:min(len(m), messageLimit)], "") }

// trouble says what is the matter with this member, if anything.
func (a *Agent) trouble() string {
	switch {
	case a.obs.LeaseRead == 0:
		return "the Lease could not be read yet"
	case len(a.obs.ReadOnly) > 0:
		return a.readOnlyVolumes()
	case a.diskTrouble != "":
		return a.diskTrouble
	case a.refused():
		return a.proc.refusal.Error()
	case a.proc.lastError != "" && a.obs.Engine.State != failover.EngineRunning:
		return a.proc.lastError
	case a.astray():
		return a.proc.rejoin.Error()
	case a.obs.Engine.Message != "":
		return a.obs.Engine.Message
	case a.tuned.Refused != "":
		return a.tuned.Refused
	default:
		return a.fullVolumes()
	}
}

// Holds is the epoch this run holds, 0 if none.
func (a *Agent) Holds() failover.Epoch {
	if a.obs.Tenure == nil {
		return 0
	}
	return a.obs.Tenure.Epoch
}

// Register is the Lease as this member read it last.
func (a *Agent) Register() failover.Lease { return a.obs.Lease }

// Has is what its engine has, and the identity of that data.
func (a *Agent) Has() (failover.Position, string) { return a.obs.Engine.Position, a.obs.Engine.DataID }

// Dump is all it knows, for a test that failed.
func (a *Agent) Dump() string {
	return fmt.Sprintf("engine %+v heard %+v durable %+v doing %v fencing %t orders busy %t queued %d links %d proc %+v", a.obs.Engine, a.obs.Heard, a.obs.Durable,
		a.doing.begun, a.fencing, a.orders.busy, len(a.orders.queue), len(a.links), a.proc)
}
