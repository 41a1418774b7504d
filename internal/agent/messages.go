package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/guard"
	"understudy.dev/understudy/internal/wire"
)

// drainLimit is how long the link to a dead primary may take to deliver what it had sent.
const drainLimit = 30 * time.Millisecond

// freshPosition is how old a position may be when candidates are compared.
const freshPosition = 5 * time.Millisecond

// followLease reads the Lease from the quorum, watches it, and begins anew when the watch ends.
func (a *Agent) followLease(ctx context.Context) {
	pause := 50 * time.Millisecond
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, apiTimeout)
		l, err := a.Kube.ReadLease(call)
		cancel()
		if err == nil {
			pause = 50 * time.Millisecond
			a.post(func() { a.onLease(l, true) })
			err = a.Kube.WatchLease(ctx, l.Version, func(l failover.Lease) { a.post(func() { a.onLease(l, false) }) })
		}
		if err != nil && ctx.Err() == nil {
			a.Log.Info("The Lease cannot be followed; trying again", "why", err.Error(), "in", pause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause + rand.N(pause)): //nolint:gosec // jitter
		}
		pause = min(2*pause, 2*time.Second)
	}
}

func (a *Agent) onLease(l failover.Lease, quorum bool) {
	if old := a.obs.Lease.Version; old != "" && l.Epoch == a.obs.Lease.Epoch && !newer(l.Version, old) && l.Version != old {
		return // an event that our own write overtook
	}
	held := a.obs.Tenure
	before := a.obs.Lease
	a.obs.OnLease(guard.Now(), l, quorum)
	if a.obs.Lease.Epoch != before.Epoch {
		a.Log.Info("The Lease changed", "epoch", l.Epoch, "holder", l.Holder.Member)
	}
	a.mesh.members(a.ctx, a.obs.Lease.Terms.Names())
	if held == nil && a.obs.Tenure != nil {
		a.stamp(stepGranted)
		a.route(l.Epoch) // its one write takes longer than to confirm and promote; clients arriving first get READONLY
	}
	if t := a.obs.Tenure; held != nil && t == held && t.Opened && l.Epoch > before.Epoch {
		a.setDataEpoch(l.Epoch) // it renumbered itself, however the answer came
		a.route(l.Epoch)
	}
	if a.obs.Engine.Writable && l.Terms.MinReplicasToWrite != before.Terms.MinReplicasToWrite {
		a.configure(l.Terms.MinReplicasToWrite)
	}
}

func (a *Agent) configure(minReplicas int) {
	a.orders.do(func() {
		ctx, cancel := context.WithTimeout(a.ctx, orderTimeout)
		defer cancel()
		if err := a.Engine.Configure(ctx, minReplicas); err != nil {
			a.Log.Error(err, "The engine could not be configured", "minReplicasToWrite", minReplicas)
		}
	}, func() {})
}

func (a *Agent) onLink(l *link) {
	a.links[l] = true
	if l.run.IsZero() {
		return
	}
	if l.outbound {
		a.out[l.run.Member] = l
	}
	a.obs.OnConnected(l.run)
	a.obs.VoidPromise(l.run)
	if l.outbound && a.obs.Tenure != nil {
		a.obs.Tenure.Beat = 0 // a member that comes back hears of us at once
	}
	if r := a.obs.Release; r != nil && r.Run == a.Self {
		l.send(releasedFrame(r.Release))
	}
}

func (a *Agent) onLinkEnd(l *link, err error, goodbye bool) {
	delete(a.links, l)
	if l.run.IsZero() {
		return
	}
	if a.out[l.run.Member] == l {
		delete(a.out, l.run.Member)
	}
	a.obs.OnDisconnected(l.run)
	if goodbye || !wire.EndedByPeer(err) || l.run == a.Self {
		return
	}
	run, address := l.run, l.conn.RemoteIP()
	go func() {
		proved, later := a.mesh.gone(a.ctx, run, address)
		a.post(func() {
			if proved || later.LaterThan(run) {
				a.obs.OnProof(guard.Now(), failover.Evidence{Kind: failover.ProcessGone, Run: run})
			}
		})
	}()
}

func (a *Agent) onFrame(l *link, f wire.Frame) {
	now := guard.Now()
	if l.run.IsZero() {
		a.onOperatorFrame(l, f)
		return
	}
	switch {
	case f.Heartbeat != nil && f.Heartbeat.From == l.run:
		a.onHeartbeat(l, *f.Heartbeat)
	case f.Acknowledgement != nil && f.Acknowledgement.From == l.run:
		a.obs.OnAcknowledgement(now, *f.Acknowledgement)
		a.arm()
	case f.PreVote != nil && f.PreVote.From == l.run:
		a.onPreVote(l, *f.PreVote)
	case f.PreVoteReply != nil && f.PreVoteReply.From == l.run:
		a.obs.OnPreVoteReply(*f.PreVoteReply)
	case f.PromiseRequest != nil && f.PromiseRequest.From == l.run:
		a.givePromise(*f.PromiseRequest, func(p failover.Promise) { l.send(wire.Frame{Promise: &p}) })
	case f.Promise != nil && f.Promise.From == l.run:
		a.obs.OnPromise(now, *f.Promise)
	case f.Released != nil && f.Released.Run == l.run:
		a.Log.Info("The primary released its right", "primary", l.run.Member, "epoch", f.Released.Epoch, "target", f.Released.Target)
		a.obs.OnRelease(now, *f.Released)
	case f.PositionRequest != nil:
		a.answerPosition(l, *f.PositionRequest)
	case f.Position != nil:
		a.onPosition(l.run.Member, *f.Position)
	}
}

// onHeartbeat answers at once when the promise is durable already, else after it is.
func (a *Agent) onHeartbeat(l *link, hb failover.Heartbeat) {
	now := guard.Now()
	v := a.obs.OnHeartbeat(now, hb)
	if v.Refused != "" {
		if v.Tell {
			ack, _ := a.obs.Acknowledge(now, hb)
			l.send(wire.Frame{Acknowledgement: &ack})
		}
		return
	}
	if v.Later != nil {
		a.persist(func() *failover.Durable { return a.obs.OnHeartbeat(guard.Now(), hb).Later }, func(error) {})
	}
	if v.Persist == nil {
		a.acknowledge(l, hb)
		return
	}
	a.persist(func() *failover.Durable { return a.obs.OnHeartbeat(guard.Now(), hb).Persist }, func(err error) {
		if err == nil {
			a.acknowledge(l, hb)
		}
	})
}

func (a *Agent) acknowledge(l *link, hb failover.Heartbeat) {
	if a.obs.Durable.Promise < hb.Epoch {
		return
	}
	if ack, ok := a.obs.Acknowledge(guard.Now(), hb); ok {
		l.send(wire.Frame{Acknowledgement: &ack})
	}
}

// onPreVote answers with a fresh position, so that two candidates compare the same two numbers.
func (a *Agent) onPreVote(l *link, r failover.Request) {
	answer := func() {
		reply := a.obs.OnPreVote(guard.Now(), r)
		l.send(wire.Frame{PreVoteReply: &reply})
	}
	if a.obs.Engine.State != failover.EngineRunning || guard.Now().Sub(a.proc.probedAt) < freshPosition {
		answer()
		return
	}
	go a.probeOnce(a.ctx, answer)
}

// givePromise makes the promise durable, cuts the link and verifies it, reads the position, and only then answers
// (rule PromiseForbidsFollowing).
func (a *Agent) givePromise(r failover.Request, answer func(failover.Promise)) {
	refused := ""
	a.persist(func() *failover.Durable {
		var d *failover.Durable
		d, refused = a.obs.OnPromiseRequest(guard.Now(), r)
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
		if a.obs.HolderGone(guard.Now(), r) {
			drain = drainLimit
		}
		a.detach(drain, func(cut bool) { answer(a.obs.Promised(guard.Now(), r, cut)) })
	})
}

func (a *Agent) broadcast(f wire.Frame) {
	for _, l := range a.out {
		l.send(f)
	}
}

func releasedFrame(r failover.Release) wire.Frame { return wire.Frame{Released: &r} }
