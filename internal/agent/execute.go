package agent

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// execute does one action and reports whether it changed what is known at once, so that another decision is due.
func (a *Agent) execute(now failover.Instant, action failover.Action) bool {
	if action.Kind != failover.SendHeartbeats {
		a.actedAt = now
	}
	switch action.Kind {
	case failover.StartEngine:
		a.startEngine(now)
	case failover.Fence:
		a.fence(action.Note)
	case failover.Follow:
		a.follow(action)
	case failover.Remember:
		a.remember(action)
	case failover.SendHeartbeats:
		a.sendHeartbeats(now)
		return !a.fencing && a.unclaimed == 0
	case failover.Open:
		a.open(action)
	case failover.Begin:
		return a.begin(now, action)
	case failover.AskTurn:
		a.askTurn(action)
	case failover.EndTurn:
		a.endTurn(action.Epoch)
	case failover.AskPromises:
		a.askPromises(now)
		return true
	case failover.Grant:
		a.grant(now, action)
	case failover.GiveUp:
		a.Log.Info("Gives the attempt up", "epoch", action.Epoch, "why", action.Note)
		a.obs.GiveUp(now, action.Pause)
		return true
	case failover.Renumber:
		if a.fencing {
			return false // who ends wants no epoch: its successor's promises are what it was told of
		}
		l := a.obs.Lease
		l.Epoch, l.Holder, l.Terms = action.Epoch, a.Self, *action.Terms
		a.swap(action.Kind, l)
	case failover.WriteTerms, failover.Renew:
		if a.fencing {
			return false // another version of the Lease would cost its successor the promises
		}
		if a.overstates(*action.Terms) {
			return false // an order of the same decision had the engine wait for fewer
		}
		l := a.obs.Lease
		l.Terms = *action.Terms
		a.swap(action.Kind, l)
	case failover.Configure:
		a.configure(action.Quorum)
	case failover.Detach:
		a.leaveService()
	case failover.HandOver:
		if wait := leaveSettle - now.Sub(a.leftAt); wait > 0 {
			a.wakeIn(wait)
			return false
		}
		a.beginHandover("", nil)
	}
	return false
}

// remember makes a promise durable.
func (a *Agent) remember(action failover.Action) {
	if a.doing.is(failover.Remember) {
		return
	}
	done := a.doing.begin(failover.Remember)
	d := *action.Durable
	a.persist(func() *failover.Durable {
		d.Given = a.obs.MergeGiven(d.Given) // what was noted since the decision stays
		return &d
	}, func(error) { done() })
}

// persist puts on disk what compute asks for when the disk's turn comes; nil: nothing.
func (a *Agent) persist(compute func() *failover.Durable, then func(error)) {
	ok := a.disk.decide(0, func() (work, func()) {
		d := compute()
		if d == nil {
			return nil, func() { then(nil) }
		}
		d.Promise = max(d.Promise, a.obs.Durable.Promise) // a promise never falls, whatever order things came in
		var err error
		return func(context.Context) { err = a.Store.SavePromise(*d) }, func() {
			if a.noteDisk(err, "The promise could not be made durable"); err == nil {
				a.obs.Durable = *d
				a.obs.OnDurableTenure(a.now())
			}
			then(err)
		}
	})
	if !ok {
		if now := a.now(); now.Sub(a.diskLogged) > time.Second {
			a.diskLogged = now
			a.Log.Info("The promise's disk does not answer; requests that need it are dropped")
		}
		then(errBusy)
	}
}

// follow points the engine at the new primary, unless it follows that address already.
func (a *Agent) follow(action failover.Action) {
	if a.doing.is(failover.Follow) || a.fencing {
		return
	}
	e := &a.obs.Engine
	if a.proc.upstream == action.Address && e.Following == action.Run {
		e.FollowingEpoch = action.Epoch // the same run renumbered itself; the link never broke
		return
	}
	done := a.doing.begin(failover.Follow)
	var err error
	ok := a.orders.decide(orderTimeout, func() (work, func()) {
		if a.obs.Tenure != nil || a.obs.Durable.Promise > action.Epoch {
			return nil, done // won or promised since
		}
		a.endRelay()
		return func(ctx context.Context) { err = a.Engine.Follow(ctx, action.Address) }, func() { a.onFollowing(action, err, done) }
	})
	if !ok {
		done()
	}
}

func (a *Agent) onFollowing(action failover.Action, err error, done func()) {
	if err != nil {
		a.forgetUpstream()
		a.World.After(a.followAgain(action.Run, err), done)
		if !errors.Is(err, engine.ErrLoading) {
			a.Log.Error(err, "The engine could not be told to follow", "primary", action.Run.Member, "again in", a.proc.followPause)
		}
		return
	}
	done()
	a.noteRejoin(nil)
	if a.obs.Durable.Promise > action.Epoch {
		a.detach(0, func(bool) {}) // a promise came between
		return
	}
	e := &a.obs.Engine
	e.Following, e.FollowingEpoch, e.LinkUp = action.Run, action.Epoch, false
	a.proc.upstream, a.proc.toldAt, a.proc.unsure, a.proc.exposed = action.Address, a.now(), false, true
	a.Log.Info("Follows", "primary", action.Run.Member, "epoch", action.Epoch, "address", action.Address)
	a.probe(nil)
}

// followAgain is the pause before the engine is told again whom to follow: short at first, since a primary may just be opening,
// and a commit may wait for this member.
func (a *Agent) followAgain(whom failover.Run, err error) time.Duration {
	if a.proc.refused != whom || a.proc.refusedAt == 0 {
		a.proc.refused, a.proc.refusedAt = whom, a.now()
	}
	a.proc.followPause = min(max(a.now().Sub(a.proc.refusedAt)/4, followFirst), followMost)
	if !errors.Is(err, engine.ErrLoading) {
		a.noteRejoin(err)
	}
	return a.proc.followPause
}

// noteRejoin keeps what keeps this member from following, for people.
func (a *Agent) noteRejoin(err error) {
	a.proc.rejoin = err
	if err == nil {
		a.proc.refusedAt = 0
	}
}

// detach cuts the link to the primary and verifies it; an engine that does not run has none.
func (a *Agent) detach(drain time.Duration, then func(cut bool)) {
	if a.obs.Engine.State != failover.EngineRunning {
		if a.obs.Engine.State == failover.EngineStarting && a.proc.upstream == "" {
			then(true) // it was never told to follow anybody
			return
		}
		if a.obs.Engine.State == failover.EngineStarting && a.obs.Tenure == nil {
			a.fence("an engine that loads its copy cannot be cut from its primary") // it is no candidate as it is
		}
		then(a.obs.Engine.State == failover.EngineStopped && !a.fencing)
		return
	}
	var err error
	var report engine.Report
	ok := a.orders.decide(orderTimeout, func() (work, func()) {
		// This run may have won the epoch since the order was given: then its own engine must not be cut off.
		if a.obs.Tenure != nil {
			return nil, func() { then(false) }
		}
		if a.proc.upstream == "" && !a.proc.unsure {
			return nil, func() { then(true) } // another candidate's request cut it already
		}
		at := a.now()
		a.expectPromotion()
		return func(ctx context.Context) { report, err = a.Engine.Detach(ctx, drain) }, func() { a.onDetached(at, report, err, then) }
	})
	if !ok {
		then(false)
	}
}

// forgetUpstream says that nobody knows what the engine follows: the next heartbeat makes it follow anew.
func (a *Agent) forgetUpstream() {
	e := &a.obs.Engine
	e.Following, e.FollowingEpoch, e.LinkUp = failover.Run{}, 0, false
	a.proc.upstream, a.proc.unsure = "", true
}

func (a *Agent) onDetached(at failover.Instant, report engine.Report, err error, then func(cut bool)) {
	if err != nil {
		a.Log.Error(err, "The link to the primary could not be cut")
		a.forgetUpstream() // the order may be carried out later still, so nobody may assume what it follows
		then(false)
		return
	}
	e := &a.obs.Engine
	a.proc.upstream, a.proc.toldAt, a.proc.unsure, a.proc.exposed = "", at, false, true
	a.onProbe(at, report, nil) // the position as it is after the cut, and whose history it is
	e.Following, e.FollowingEpoch, e.LinkUp = failover.Run{}, 0, false
	then(true)
}

// sendHeartbeats sends one to every member that we have a connection to, and arms the guard anew.
func (a *Agent) sendHeartbeats(now failover.Instant) {
	if a.fencing || a.unclaimed != 0 {
		return // a primary that is being killed is not heard of any more, one that was renumbered not yet
	}
	for _, l := range a.ordered {
		hb := a.obs.Heartbeat(now, l.Run, a.upstreamAddress())
		l.Peer.Send(wire.Frame{Heartbeat: &hb})
	}
	a.obs.OnBeat(now)
	a.arm()
}

func (a *Agent) upstreamAddress() string {
	return net.JoinHostPort(a.IPs[0], strconv.Itoa(a.Engine.Port()))
}

// arm moves the guard's instant forward while the engine is open or being opened.
func (a *Agent) arm() {
	t := a.obs.Tenure
	if t == nil || a.fencing || (!t.Opened && !a.doing.is(failover.Open)) {
		return
	}
	if until := a.obs.ServeUntil(); until > 0 {
		a.Guard.Arm(until)
	}
}

// open promotes the engine under the guard, routes clients to it and tells the replicas.
func (a *Agent) open(action failover.Action) {
	if a.doing.is(failover.Open) || a.fencing || a.Guard.PID() == 0 {
		return
	}
	done := a.doing.begin(failover.Open)
	a.endRelay()
	a.stamp(stepConfirmed)
	a.arm()
	quorum := a.quorumInForce()
	wanted, counts := a.engineQuorum(quorum)
	a.obs.Engine.Quorum, a.obs.Engine.Counts = quorum, counts
	var err error
	var report engine.Report
	promote := func() {
		ok := a.orders.do(orderTimeout, func(ctx context.Context) { report, err = a.Engine.Promote(ctx, wanted) }, func() {
			done()
			a.proc.quorum, a.obs.Engine.QuorumAt = wanted, a.now()
			a.obs.Engine.History, a.obs.Engine.HistoryFrom = report.History, report.Offset
			a.onOpened(action.Epoch, err)
		})
		if !ok {
			done()
			a.onOpened(action.Epoch, errBusy)
		}
	}
	a.claimData(action.Epoch, func(err error) {
		if err == nil {
			promote()
			return
		}
		done()
		if !errors.Is(err, errOvertaken) {
			a.fence("the epoch of its data could not be made durable: " + err.Error())
		}
	})
}

func (a *Agent) onOpened(epoch failover.Epoch, err error) {
	t := a.obs.Tenure
	if t == nil || t.Epoch != epoch {
		a.fence("the epoch changed while it was being promoted")
		return
	}
	if err != nil {
		a.Log.Error(err, "The engine could not be promoted", "epoch", epoch)
		a.fence("its engine could not be promoted: " + err.Error())
		return
	}
	e := &a.obs.Engine
	e.Writable, e.Following, e.LinkUp, e.At = true, failover.Run{}, false, 0
	a.proc.synced, a.proc.strayed, a.proc.history = true, false, e.History
	a.proc.upstream, a.proc.toldAt = "", a.now()
	t.Opened, t.OpenedAt, t.Beat = true, a.now(), 0
	a.stamp(stepPromoted)
	a.setDataEpoch(epoch, true)
	a.Log.Info("Serves as primary", "epoch", epoch)
	a.closeRecord()
	a.letClients()
}

// begin starts an attempt once the engine's position is known as it is after the old primary's last byte.
func (a *Agent) begin(now failover.Instant, action failover.Action) bool {
	if a.doing.is(failover.Begin) {
		return false
	}
	released := a.obs.HolderReleased(now) // then promises are asked for at once, and each comes with a fresh position
	if !released && a.proc.probedAt < action.Detected && now.Sub(action.Detected) < 20*time.Millisecond {
		a.probe(a.doing.begin(failover.Begin))
		return false
	}
	a.attempts++
	a.obs.Begin(now, a.attempts, action.Detected)
	a.startRecord(now, action.Detected)
	a.prefetchSlices()
	if released {
		return true
	}
	for _, l := range a.ordered {
		r := a.obs.Request(now, l.Run)
		l.Peer.Send(wire.Frame{PreVote: &r})
	}
	return true
}

// askPromises asks every member, and this one by the same rules.
func (a *Agent) askPromises(now failover.Instant) {
	a.obs.NextPhase(now, failover.PhasePromise)
	for _, l := range a.ordered {
		r := a.obs.Request(now, l.Run)
		r.Upstream = a.upstreamAddress()
		l.Peer.Send(wire.Frame{PromiseRequest: &r})
	}
	a.givePromise(a.obs.Request(now, a.Self), func(p failover.Promise) { a.obs.OnPromise(a.now(), p) })
}

// grant swaps the Lease under the very version that promises and evidence were collected under (rule SameVersion).
func (a *Agent) grant(now failover.Instant, action failover.Action) {
	if a.doing.is(failover.Grant) {
		a.wakeIn(10 * time.Millisecond) // the last swap's pause is not over; the attempt stays where it is
		return
	}
	at := a.obs.Attempt
	at.Evidence, at.Promised = failover.EvidenceKind(action.Note), now
	a.obs.NextPhase(now, failover.PhaseGranting)
	a.oldHeard = a.obs.Heard
	a.stamp(stepPromised)
	l := a.obs.Lease
	l.Version, l.Epoch, l.Holder, l.Terms = at.Version, at.Epoch, a.Self, *action.Terms
	a.swap(failover.Grant, l)
}

// swap writes the Lease by compare-and-swap. A lost answer is read back, never assumed.
func (a *Agent) swap(kind failover.ActionKind, l failover.Lease) {
	if a.doing.is(kind) {
		return
	}
	done := a.doing.begin(kind)
	var written, read failover.Lease
	var err, readErr error
	sent := a.now()
	if kind == failover.WriteTerms {
		a.obs.OnWriting(l.Terms)
		a.arm()
	}
	swap := func(ctx context.Context) { written, err = a.Kube.SwapLease(ctx, l) }
	readBack := func(ctx context.Context) { read, readErr = a.Kube.ReadLease(ctx) }
	a.World.Beside(apiTimeout, swap, func() {
		if err == nil {
			a.onSwapped(kind, written, nil, done)
			if kind == failover.Renew || kind == failover.Renumber {
				a.obs.OnRenewed(a.now(), sent)
				a.arm()
			}
			return
		}
		a.World.Beside(apiTimeout, readBack, func() {
			if readErr == nil {
				a.OnLease(read, true)
			}
			a.onSwapped(kind, failover.Lease{}, err, done)
		})
	})
}

func (a *Agent) onSwapped(kind failover.ActionKind, written failover.Lease, err error, done func()) {
	now := a.now()
	if err != nil {
		a.Log.Info("The Lease was not written", "action", kind, "why", err.Error())
		if at := a.obs.Attempt; kind == failover.Grant && at != nil && at.Phase == failover.PhaseGranting {
			a.obs.GiveUp(now, 0)
		}
		a.World.After(100*time.Millisecond, done) // a slow or absent API server is not hammered
		return
	}
	done()
	a.OnLease(written, true)
}

// leaveService cuts the engine off: the Lease does not list this member any more.
func (a *Agent) leaveService() {
	if a.doing.is(failover.Detach) || a.fencing {
		return
	}
	done := a.doing.begin(failover.Detach)
	a.detach(0, func(bool) { done() })
}
