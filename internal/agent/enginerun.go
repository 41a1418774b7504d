package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/guard"
	"understudy.dev/understudy/internal/supervisor"
)

const (
	// orderTimeout bounds one order to the engine; it is on the same machine.
	orderTimeout = time.Second
	// restartFirst and restartMost bound the pause before an engine is started again; it doubles with each quick end.
	restartFirst = 50 * time.Millisecond
	restartMost  = 10 * time.Second
	// afterFence is how long an engine that was fenced as primary stays down while somebody else takes over: starting it
	// would compete with that for the machine, and there is nobody to follow yet.
	afterFence = 250 * time.Millisecond
	// steadyAfter is how long an engine must have run for its next end not to count as quick.
	steadyAfter = 30 * time.Second
	// saveEvery is how often a persistent engine's offset is noted beside its data.
	saveEvery = time.Second
)

// engineRun is one life of the engine's process, and what is known of it.
type engineRun struct {
	pid       int
	gen       int // grows with each process and each fence; results of an older one are dropped
	started   failover.Instant
	notBefore failover.Instant
	pause     time.Duration
	upstream  string           // the address it was last told to follow
	toldAt    failover.Instant // when that order was done; older reports say nothing about it
	answered  failover.Instant
	probedAt  failover.Instant
	savedAt   failover.Instant
	unsure    bool // an order failed: nobody knows what it follows
	exposed   bool // it was told to follow somebody, so others can reach it
	lastError string
}

func (a *Agent) recallData() error {
	a.obs.Engine = failover.Engine{State: failover.EngineStopped, Persistent: a.Engine.Persistent(), Data: true}
	if !a.Engine.Persistent() {
		return nil
	}
	var err error
	a.data, err = loadDataRecord(a.dataPath())
	return err
}

func (a *Agent) dataPath() string { return filepath.Join(a.DataDir, ".understudy.json") }

// startEngine starts the guard, if none runs, and then the engine, which nobody outside the pod can reach yet.
func (a *Agent) startEngine(now failover.Instant) {
	if a.fencing || a.doing[failover.StartEngine] {
		return
	}
	if wait := a.proc.notBefore.Sub(now); wait > 0 {
		a.wakeIn(wait)
		return
	}
	a.doing[failover.StartEngine] = true
	a.proc.gen++
	gen, pid, fences := a.proc.gen, 0, a.fences.Load()
	var err error
	ok := a.orders.do(func() {
		a.starting.Lock() // a fence waits for us, or we for it: nothing is started behind its back
		defer a.starting.Unlock()
		if a.fences.Load() != fences {
			return
		}
		if a.guard.PID() == 0 {
			if err = a.guard.Start(a.Binary); err != nil {
				return
			}
		}
		var p engine.Process
		if p, err = a.Engine.Process(); err == nil {
			pid, err = a.super.Start(p)
		}
	}, func() {
		delete(a.doing, failover.StartEngine)
		a.onStarted(gen, pid, err)
	})
	if !ok {
		delete(a.doing, failover.StartEngine)
	}
}

func (a *Agent) onStarted(gen, pid int, err error) {
	now := guard.Now()
	if err != nil {
		a.proc.lastError = err.Error()
		a.backOff(now)
		a.Log.Error(err, "The engine could not be started; trying again", "in", a.proc.pause)
		return
	}
	if gen != a.proc.gen || pid == 0 {
		return // fenced meanwhile
	}
	a.proc.pid, a.proc.started, a.proc.answered = pid, now, now
	a.proc.upstream, a.proc.toldAt, a.proc.unsure, a.proc.exposed = "", 0, false, false
	position := failover.Position{}
	id := uuid.NewString()
	if a.Engine.Persistent() {
		position = failover.Position{DataEpoch: a.data.DataEpoch, Offset: a.data.Offset}
		id = a.data.DataID
	}
	a.obs.Engine = failover.Engine{State: failover.EngineStarting, Persistent: a.Engine.Persistent(), Data: true, DataID: id, Position: position}
	a.Log.Info("Engine started", "pid", pid)
}

func (a *Agent) backOff(now failover.Instant) {
	if now.Sub(a.proc.started) > steadyAfter {
		a.proc.pause = 0
	}
	a.proc.notBefore = now.Add(a.proc.pause)
	a.proc.pause = min(max(2*a.proc.pause, restartFirst), restartMost)
}

// onExit takes in the end of a child: the engine's first process, the guard, or an orphan.
func (a *Agent) onExit(e supervisor.Exit) {
	switch {
	case a.fencing:
		return // all of them end now
	case e.PID == a.guard.PID():
		a.guard.Ended()
		a.fence(fmt.Sprintf("its guard ended (%s)", e))
	case e.PID == a.proc.pid:
		why := fmt.Sprintf("its engine ended (%s)", e)
		if fired := a.guard.Fired(); fired > a.proc.started {
			why = "the guard killed its engine, since the right to write was over"
		}
		a.proc.lastError = e.String()
		a.Log.Info("Engine ended", "how", e.String())
		a.fence(why)
	}
}

// fence kills every process of the engine and reaps them; if this run held the Lease, it then says Released.
func (a *Agent) fence(why string) {
	if a.fencing {
		return
	}
	a.fencing = true
	a.proc.gen++
	a.proc.pid = 0
	a.orders.clear()
	serving := a.obs.Tenure != nil
	started := guard.Now()
	a.fences.Add(1)
	go func() {
		a.starting.Lock()
		defer a.starting.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := a.super.KillAll(ctx)
		a.post(func() { a.onFenced(why, serving, started, err) })
	}()
}

func (a *Agent) onFenced(why string, serving bool, started failover.Instant, err error) {
	now := guard.Now()
	a.fencing = false
	if err != nil {
		a.Log.Error(err, "The engine could not be fenced; trying again")
		a.fence(why)
		return
	}
	a.guard.Ended() // it was killed with the rest; the next engine gets a new one first
	a.guard.Disarm()
	a.orders.reset()
	for _, kind := range []failover.ActionKind{failover.StartEngine, failover.Follow, failover.Open, failover.HandOver} {
		delete(a.doing, kind)
	}
	if !a.Engine.Persistent() {
		a.data = dataRecord{}
	}
	a.backOff(now)
	if serving && len(a.out) > 0 {
		a.proc.notBefore = max(a.proc.notBefore, now.Add(afterFence))
	}
	release := a.obs.OnFenced(now)
	if serving {
		a.Log.Info("Fenced", "why", why, "took", now.Sub(started))
	}
	if release == nil {
		return
	}
	release.Target, a.release.Target = a.release.Target, ""
	if a.release.Epoch == release.Epoch {
		release.Position = a.release.Position
	}
	a.broadcast(releasedFrame(*release))
	a.obs.Release = nil
	a.obs.OnRelease(now, *release)
	a.unrouteLater(release.Epoch)
}

// probe asks the engine again and again, beside everything else: a hung engine holds up nothing but its own probe.
func (a *Agent) probe(ctx context.Context) {
	for ctx.Err() == nil {
		interval := make(chan time.Duration, 1)
		a.post(func() { interval <- a.probeInterval() })
		select {
		case <-ctx.Done():
			return
		case d := <-interval:
			select {
			case <-ctx.Done():
				return
			case <-time.After(d):
			}
		}
		a.probeOnce(ctx, nil)
	}
}

func (a *Agent) probeInterval() time.Duration {
	if a.obs.Engine.State == failover.EngineStarting {
		return 5 * time.Millisecond
	}
	if d := a.obs.Lease.Terms.HeartbeatInterval(); d > 0 {
		return d
	}
	return 100 * time.Millisecond
}

// probeOnce asks the engine once; then runs on the loop afterwards, whatever came out.
func (a *Agent) probeOnce(ctx context.Context, then func()) {
	type question struct {
		gen     int
		timeout time.Duration
	}
	asked := make(chan question, 1)
	at := guard.Now()
	a.post(func() { asked <- question{a.proc.gen, min(orderTimeout, a.engineTimeout())} })
	var q question
	select {
	case q = <-asked:
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	report, err := a.Engine.Probe(ctx)
	a.post(func() {
		if q.gen == a.proc.gen {
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
	if a.proc.pid != 0 && now.Sub(a.proc.answered) >= a.engineTimeout() {
		a.obs.Engine.Healthy = false
	}
}

func (a *Agent) onProbe(at failover.Instant, r engine.Report, err error) {
	e, now := &a.obs.Engine, guard.Now()
	if a.proc.pid == 0 {
		return
	}
	if err != nil {
		e.Message = err.Error()
		a.judgeEngine(now)
		return
	}
	a.proc.answered, a.proc.probedAt = now, at
	e.Message = ""
	if r.Loading {
		e.State, e.Healthy = failover.EngineStarting, true
		return
	}
	e.State, e.Healthy, e.Data = failover.EngineRunning, true, r.HasData
	if at < a.proc.toldAt {
		return // it may speak of what was before the last order
	}
	if e.Writable && !r.Primary {
		a.fence("its engine was made a replica behind the agent's back") // by a client with REPLICAOF, say
		return
	}
	if r.Primary && !e.Writable && a.proc.exposed && !a.doing[failover.Open] {
		a.fence("its engine was made a primary behind the agent's back")
		return
	}
	if up := a.proc.upstream; !r.Primary && up != "" && r.Upstream != up && !a.doing[failover.Follow] {
		a.Log.Info("The engine follows somebody else than it was told", "told", up, "follows", r.Upstream)
		a.forgetUpstream()
	}
	a.takePosition(now, r)
}

// takePosition learns how much the engine has, and of which epoch's data.
func (a *Agent) takePosition(now failover.Instant, r engine.Report) {
	e := &a.obs.Engine
	e.LinkUp = !r.Primary && r.LinkUp && a.proc.upstream != "" && r.Upstream == a.proc.upstream
	if e.LinkUp && e.FollowingEpoch > e.Position.DataEpoch {
		a.setDataEpoch(e.FollowingEpoch)
		a.Log.Info("Synchronised with the primary", "epoch", e.FollowingEpoch, "primary", e.Following.Member)
	}
	// The history of a persistent engine goes on at an offset that its files do not tell; what was noted is a lower bound.
	e.Position.Offset = r.Offset
	if e.Persistent && !e.Writable && !e.LinkUp {
		e.Position.Offset = max(r.Offset, a.data.Offset)
	}
	if e.Persistent && now.Sub(a.proc.savedAt) > saveEvery && e.Position.Offset != a.data.Offset {
		a.proc.savedAt = now
		a.saveData()
	}
}

// setDataEpoch notes that the data is that of an epoch's primary now.
func (a *Agent) setDataEpoch(epoch failover.Epoch) {
	a.obs.Engine.Position.DataEpoch = epoch
	if a.Engine.Persistent() {
		a.saveData()
	}
}

func (a *Agent) saveData() {
	if a.data.DataID == "" {
		a.data.DataID = uuid.NewString()
		a.obs.Engine.DataID = a.data.DataID
	}
	a.data.DataEpoch, a.data.Offset = a.obs.Engine.Position.DataEpoch, a.obs.Engine.Position.Offset
	record, path := a.data, a.dataPath()
	a.disk.do(func() {
		if err := writeDurably(path, record); err != nil {
			a.Log.Error(err, "The data's epoch could not be noted")
		}
	}, func() {})
}
