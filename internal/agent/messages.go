package agent

import (
	"maps"
	"slices"
	"strings"
	"time"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// drainLimit is how long the link to a dead primary may take to deliver what it had sent.
const drainLimit = 30 * time.Millisecond

// freshPosition is how old a position may be when candidates are compared.
const freshPosition = 5 * time.Millisecond

// OnLease takes in the Lease as read or watched; quorum is true for a read that the API server answered from its quorum.
func (a *Agent) OnLease(l failover.Lease, quorum bool) {
	if old := a.obs.Lease.Version; old != "" && l.Epoch == a.obs.Lease.Epoch && !newer(l.Version, old) && l.Version != old {
		return // an event that our own write overtook
	}
	held := a.obs.Tenure
	before := a.obs.Lease
	if l.Version != before.Version {
		a.actedAt = a.now()
	}
	a.obs.OnLease(a.now(), l, quorum)
	if a.obs.Lease.Epoch != before.Epoch {
		a.Log.Info("The Lease changed", "epoch", l.Epoch, "holder", l.Holder.Member)
	}
	a.Mesh.Members(a.obs.Lease.Terms.Names())
	if held == nil && a.obs.Tenure != nil {
		a.stamp(stepGranted)
		a.route(l.Epoch) // its one write takes longer than to confirm and promote; clients arriving first get READONLY
	}
	if t := a.obs.Tenure; held != nil && t == held && t.Opened && l.Epoch > before.Epoch && l.Epoch == t.Epoch {
		a.onRenumbered(l.Epoch)
	}
}

// OnLink takes in that a connection was made.
func (a *Agent) OnLink(l *Link) {
	a.links = append(a.links, l)
	a.actedAt = a.now()
	if l.Run.IsZero() {
		return
	}
	if l.Outbound {
		a.pods[l.Run.Member] = l.Run.PodUID
		a.out[l.Run.Member] = l
		a.order()
	}
	a.obs.OnConnected(l.Run)
	a.obs.VoidPromise(l.Run)
	if l.Outbound && a.obs.Tenure != nil {
		a.obs.Tenure.Beat = 0 // a member that comes back hears of us at once
	}
	if r := a.obs.Release; r != nil && r.Run == a.Self {
		l.Peer.Send(releasedFrame(r.Release))
	}
}

func (a *Agent) order() {
	a.ordered = slices.SortedFunc(maps.Values(a.out), func(x, y *Link) int { return strings.Compare(x.Run.Member, y.Run.Member) })
}

// OnLinkEnd takes in that a connection ended; eof says that the far side ended it, without a reset and without a time-out.
func (a *Agent) OnLinkEnd(l *Link, eof, goodbye bool) {
	a.links = slices.DeleteFunc(a.links, func(o *Link) bool { return o == l })
	a.actedAt = a.now()
	if l.Run.IsZero() {
		return
	}
	if a.out[l.Run.Member] == l {
		delete(a.out, l.Run.Member)
		a.order()
	}
	a.obs.OnDisconnected(l.Run)
	if goodbye || !eof || l.Run == a.Self {
		return
	}
	run := l.Run
	a.Mesh.Gone(run, l.Peer.RemoteIP(), func(proved bool, later failover.Run) {
		if proved || later.LaterThan(run) {
			a.obs.OnProof(a.now(), failover.Evidence{Kind: failover.ProcessGone, Run: run})
		}
	})
}

// OnFrame takes in a message.
func (a *Agent) OnFrame(l *Link, f wire.Frame) {
	now := a.now()
	if l.Run.IsZero() {
		a.onOperatorFrame(l, f)
		return
	}
	switch {
	case f.Heartbeat != nil && f.Heartbeat.From == l.Run:
		a.onHeartbeat(l, *f.Heartbeat)
	case f.Acknowledgement != nil && f.Acknowledgement.From == l.Run:
		a.obs.OnAcknowledgement(now, *f.Acknowledgement)
		a.arm()
	case f.PreVote != nil && f.PreVote.From == l.Run:
		a.onPreVote(l, *f.PreVote)
	case f.PreVoteReply != nil && f.PreVoteReply.From == l.Run:
		a.obs.OnPreVoteReply(*f.PreVoteReply)
	case f.PromiseRequest != nil && f.PromiseRequest.From == l.Run:
		a.givePromise(*f.PromiseRequest, func(p failover.Promise) {
			l.Peer.Send(wire.Frame{Promise: &p})
			a.expect(p, *f.PromiseRequest)
		})
	case f.Promise != nil && f.Promise.From == l.Run:
		a.obs.OnPromise(now, *f.Promise)
	case f.Released != nil && f.Released.Run == l.Run:
		a.Log.Info("The primary released its right", "primary", l.Run.Member, "epoch", f.Released.Epoch, "target", f.Released.Target)
		a.obs.OnRelease(now, *f.Released)
	case f.Stopping != nil && f.Stopping.Run == l.Run:
		a.obs.OnStopping(now, *f.Stopping)
	case f.PositionRequest != nil:
		a.answerPosition(l, *f.PositionRequest)
	case f.Position != nil:
		a.onPosition(l.Run.Member, *f.Position)
	}
}

// onHeartbeat answers at once when the promise is durable already, else after it is.
func (a *Agent) onHeartbeat(l *Link, hb failover.Heartbeat) {
	now := a.now()
	v := a.obs.OnHeartbeat(now, hb)
	if v.Refused != "" {
		if v.Tell {
			ack, _ := a.obs.Acknowledge(now, hb)
			l.Peer.Send(wire.Frame{Acknowledgement: &ack})
		}
		return
	}
	if v.Later != nil {
		a.persist(func() *failover.Durable { return a.obs.OnHeartbeat(a.now(), hb).Later }, func(error) {})
	}
	if v.Persist == nil {
		a.acknowledge(l, hb)
		return
	}
	a.persist(func() *failover.Durable { return a.obs.OnHeartbeat(a.now(), hb).Persist }, func(err error) {
		if err == nil {
			a.acknowledge(l, hb)
		}
	})
}

func (a *Agent) acknowledge(l *Link, hb failover.Heartbeat) {
	if a.obs.Durable.Promise < hb.Epoch {
		return
	}
	if ack, ok := a.obs.Acknowledge(a.now(), hb); ok {
		l.Peer.Send(wire.Frame{Acknowledgement: &ack})
	}
}

// onPreVote answers with a fresh position, so that two candidates compare the same two numbers.
func (a *Agent) onPreVote(l *Link, r failover.Request) {
	answer := func() {
		reply := a.obs.OnPreVote(a.now(), r)
		l.Peer.Send(wire.Frame{PreVoteReply: &reply})
	}
	if a.obs.Engine.State != failover.EngineRunning || a.now().Sub(a.proc.probedAt) < freshPosition {
		answer()
		return
	}
	a.probe(answer)
}

// givePromise makes the promise durable, cuts the link and verifies it, reads the position, and only then answers
// (rule PromiseForbidsFollowing).
func (a *Agent) givePromise(r failover.Request, answer func(failover.Promise)) {
	refused := ""
	a.persist(func() *failover.Durable {
		var d *failover.Durable
		d, refused = a.obs.OnPromiseRequest(a.now(), r)
		if d != nil && d.Promise == a.obs.Durable.Promise && len(d.Given) == len(a.obs.Durable.Given) {
			return nil // another candidate's request made it durable already
		}
		return d
	}, func(err error) {
		switch {
		case err != nil:
			refused = "its promise could not be made durable"
		case a.obs.Tenure != nil:
			refused = "this member won the epoch itself meanwhile"
		}
		if refused != "" {
			answer(failover.Promise{From: a.Self, To: r.From, ID: r.ID, Epoch: r.Epoch, Version: r.Version, Reason: refused})
			return
		}
		drain := time.Duration(0)
		if a.obs.HolderGone(a.now(), r) {
			drain = drainLimit
		}
		a.detach(drain, func(cut bool) { answer(a.obs.Promised(a.now(), r, cut)) })
	})
}

// expectPromotion lets an engine that is about to be cut prepare for being promoted.
func (a *Agent) expectPromotion() {
	e, can := a.Engine.(engine.Expecter)
	if set := a.obs.NextSet(); can && set != nil {
		quorum, _ := a.engineQuorumOf(set, set.Quorum)
		e.ExpectPromotion(quorum)
	}
}

// expect prepares for the candidate that a promise was given to, unless it is this member itself that is to win: in every failover of
// three both replicas ask, and what the better one prepares for the other is processor time that the takeover lacks.
func (a *Agent) expect(p failover.Promise, r failover.Request) {
	if a.obs.Attempt != nil && a.obs.Rank(a.now()).Better(r.Rank) {
		return
	}
	if e, can := a.Engine.(engine.Expecter); can && p.Given && p.Cut && r.Upstream != "" && a.obs.Engine.State == failover.EngineRunning {
		e.Expect(a.successor(p.Position, r))
	}
}

// successor is a candidate as an engine needs to know it. It surely has what this member has, up to its own offset, when both copied the data of the
// same primary and know how much of it, and of the same history since.
func (a *Agent) successor(own failover.Position, r failover.Request) engine.Successor {
	next, its := engine.Successor{Address: r.Upstream}, r.Rank.Position
	copied := a.proc.synced && !a.proc.strayed && own.DataEpoch > 0 && !own.Whole && !own.Inexact
	if copied && own.DataEpoch == its.DataEpoch && !its.Inexact && r.History != "" && r.History == a.obs.Engine.History {
		next.History, next.Offset = r.History, its.Offset
	}
	return next
}

func (a *Agent) broadcast(f wire.Frame) {
	for _, l := range a.ordered {
		l.Peer.Send(f)
	}
}

func releasedFrame(r failover.Release) wire.Frame { return wire.Frame{Released: &r} }
