package agent

import (
	"context"
	"math"
	"time"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

const (
	// calmAfter is how long nothing but heartbeats must have happened for the engine to be asked each calmBeats heartbeats only,
	// if that is calmProbes times within its time limit.
	calmAfter  = 5 * time.Second
	calmBeats  = 2
	calmProbes = 5
	// saveEvery is how often a persistent engine's offset is noted beside its data, saveExactEvery the same for one whose files tell it.
	saveEvery      = time.Second
	saveExactEvery = 10 * time.Second
)

// probeAgain asks the engine again and again, beside everything else: a hung engine holds up nothing but its own probe.
func (a *Agent) probeAgain() {
	a.World.After(a.probeInterval(), func() { a.probe(a.probeAgain) })
}

// probeInterval is short while the engine starts, a heartbeat's while anything goes on, and longer when all has been calm: a probe takes
// the engine's processor too, and who votes, promises or hands over asks for a fresh one itself.
func (a *Agent) probeInterval() time.Duration {
	if a.obs.Engine.State == failover.EngineStarting {
		return 5 * time.Millisecond
	}
	beat := a.obs.Lease.Terms.HeartbeatInterval()
	if beat <= 0 {
		return 100 * time.Millisecond
	}
	if a.calm() {
		return max(beat, min(calmBeats*beat, a.engineTimeout()/calmProbes))
	}
	return beat
}

// calm: nothing but heartbeats happened for a while.
func (a *Agent) calm() bool { return a.now().Sub(a.actedAt) > calmAfter }

// probe asks the engine once; then runs afterwards, whatever came out.
func (a *Agent) probe(then func()) {
	at, gen := a.now(), a.proc.gen
	if a.proc.asked == 0 {
		a.proc.asked = at
	}
	var report engine.Report
	var err error
	a.World.Beside(min(orderTimeout, a.engineTimeout()), func(ctx context.Context) { report, err = a.Engine.Probe(ctx) }, func() {
		if gen == a.proc.gen {
			a.onProbe(at, report, err)
		}
		if then != nil {
			then()
		}
	})
}

func (a *Agent) engineTimeout() time.Duration {
	if d := a.obs.Lease.Terms.EngineTimeout(); d > 0 {
		return d
	}
	return time.Second
}

// judgeEngine ends the engine's good health when it left its probes unanswered for too long.
func (a *Agent) judgeEngine(now failover.Instant) {
	if a.proc.pid != 0 && a.proc.asked != 0 && now.Sub(a.proc.asked) >= a.engineTimeout() {
		a.obs.Engine.Healthy = false
	}
}

func (a *Agent) onProbe(at failover.Instant, r engine.Report, err error) {
	e, now := &a.obs.Engine, a.now()
	if a.proc.pid == 0 {
		return
	}
	if err != nil {
		e.Message = err.Error()
		a.judgeEngine(now)
		return
	}
	a.proc.probedAt = at
	e.Message = r.Failing
	if r.Failing == "" {
		a.proc.asked, e.Healthy = 0, true
	}
	a.judgeEngine(now)
	e.Redirectable, e.FollowsEarly = r.Redirectable, r.FollowsEarly
	if r.Loading {
		e.State = failover.EngineStarting
		return
	}
	e.State, e.Data = failover.EngineRunning, r.HasData
	if at < a.proc.toldAt {
		return // it may speak of what was before the last order
	}
	if a.doing.is(failover.Open) {
		return // in the middle of the promotion, half of this may be of before it: the end of that order says what it has, and in which history
	}
	if e.Writable && !r.Primary {
		a.fence("its engine was made a replica behind the agent's back") // by a client with REPLICAOF, say
		return
	}
	if r.Primary && !e.Writable && a.proc.exposed {
		a.fence("its engine was made a primary behind the agent's back")
		return
	}
	if up := a.proc.upstream; !r.Primary && up != "" && r.Upstream != up && !a.doing.is(failover.Follow) {
		a.Log.Info("The engine follows somebody else than it was told", "told", up, "follows", r.Upstream)
		a.forgetUpstream()
	}
	if r.MustReplace {
		a.replaceData()
		return
	}
	a.takePosition(now, at, r)
}

// takePosition learns how much the engine has, and of which epoch's data.
func (a *Agent) takePosition(now, at failover.Instant, r engine.Report) {
	e := &a.obs.Engine
	e.LinkUp = !r.Primary && r.LinkUp && a.proc.upstream != "" && r.Upstream == a.proc.upstream
	a.judgeHistory(r)
	// The history of a persistent engine goes on at an offset that its files do not tell; what was noted is a lower bound.
	e.Position.Inexact = e.Position.DataEpoch > 0 && ((e.Persistent && !a.proc.synced && !r.Exact) || a.proc.strayed)
	e.Position.Offset, e.At = r.Offset, at
	if e.Writable && a.obs.Tenure != nil {
		a.served = wire.Served{Epoch: a.obs.Tenure.Epoch, Offset: r.Offset}
	}
	if e.Writable && e.HistoryFrom == math.MaxInt64 && at > a.renumberedAt {
		e.HistoryFrom = r.Offset
	}
	if e.Position.Inexact && r.HasData { // one without any may have begun to copy the primary's, and has not even what was noted
		e.Position.Offset = max(r.Offset, a.data.Offset)
	}
	if e.Persistent && now.Sub(a.proc.savedAt) > saveInterval(r) && e.Position.Offset != a.data.Offset {
		a.proc.savedAt = now
		a.saveData()
	}
}

// judgeHistory finds out whose data the engine has. It reconnects by itself to the address it was told, and behind that
// there may be another primary by now, of whom this agent has not heard: data of a history that nobody has named counts as
// of unknown extent.
func (a *Agent) judgeHistory(r engine.Report) {
	e := &a.obs.Engine
	named, from := "", int64(0)
	if h := a.obs.Heard; h.Run == e.Following && h.Epoch == e.FollowingEpoch {
		named, from = h.History, h.HistoryFrom
	}
	// Redis takes the new history's name as soon as a partial copy begins, and its data after that.
	synchronised := !r.Primary && !e.Writable && !e.Following.IsZero() && named != "" && r.History == named && r.Offset >= from
	if r.History == "" || (named == "" && !e.Following.IsZero()) { // an engine without such names, or a primary that told none
		synchronised = e.LinkUp && r.History == ""
	}
	switch {
	case synchronised:
		if e.FollowingEpoch > e.Position.DataEpoch || a.proc.strayed {
			a.noteNothingLost()
			a.setDataEpoch(max(e.FollowingEpoch, e.Position.DataEpoch), false)
			a.Log.Info("Synchronised with the primary", "epoch", e.FollowingEpoch, "primary", e.Following.Member)
		}
		a.proc.synced, a.proc.strayed, a.proc.history = true, false, r.History
	case e.Writable:
		a.proc.history = r.History
	case a.proc.synced && r.History != a.proc.history && r.History != named:
		a.proc.strayed = true
	}
	e.History = r.History
}

// saveInterval is long for an engine that knows by itself how much it has once it runs: each note is two flushes of the disk to which it writes.
func saveInterval(r engine.Report) time.Duration {
	if r.Exact {
		return saveExactEvery
	}
	return saveEvery
}
