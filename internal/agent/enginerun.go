package agent

import (
	"context"
	"fmt"
	"time"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/supervisor"
	"understudy.dev/understudy/internal/wire"
)

const (
	// orderTimeout bounds one order to the engine; it is on the same machine.
	orderTimeout = time.Second
	// restartFirst and restartMost bound the pause before an engine is started again; it doubles with each quick end.
	restartFirst = 50 * time.Millisecond
	restartMost  = 10 * time.Second
	// followFirst and followMost bound the pause before an engine that refused to follow is told again, which is a quarter of the
	// time for which it has refused.
	followFirst = 20 * time.Millisecond
	followMost  = 5 * time.Second
	// afterFence is how long an engine that was fenced as primary stays down while somebody else takes over: starting it
	// would compete with that for the machine, and there is nobody to follow yet.
	afterFence = 250 * time.Millisecond
	// steadyAfter is how long an engine must have run for its next end not to count as quick.
	steadyAfter = 5 * time.Second
	// fenceTimeout bounds one try to kill and reap; a process in an uninterruptible sleep ends when its disk answers.
	fenceTimeout = time.Minute
	// fenceAgain is the pause before another try.
	fenceAgain = 100 * time.Millisecond
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
	asked     failover.Instant // since when a probe has been waiting for a good answer; 0: none is
	probedAt  failover.Instant
	savedAt   failover.Instant
	unsure    bool   // an order failed: nobody knows what it follows
	history   string // in which its position was known last
	strayed   bool   // it has another one now, that nobody named
	synced    bool   // its offset is that of a history it took part in; one that starts on files does not know it
	exposed   bool   // it was told to follow somebody, so others can reach it
	lastError string
	given     int // the process that was given up before the kernel told of its end
	// refusal is why its process could not be made, for as long as it serves nobody; refusals counts them.
	refusal  error
	refusals int
	// rejoin is why it could not be told to follow whom, followPause how long it waited last before it was told again.
	rejoin      error
	refused     failover.Run
	refusedAt   failover.Instant
	followPause time.Duration
	// quorum is what it was last told that a write needs.
	quorum engine.Quorum
	// step: the process that runs prepares something and ends by itself. meant: it ended, or is to end, as it should.
	step, meant bool
	// early are children that ended while a start was not reported yet: the engine may be among them.
	early []supervisor.Exit
}

func (a *Agent) recallData() error {
	a.obs.Engine = failover.Engine{State: failover.EngineStopped, Persistent: a.Engine.Persistent(), Data: true}
	if !a.Engine.Persistent() {
		return nil
	}
	var err error
	if a.data, err = a.Store.LoadData(); err != nil || a.data.DataID != "" {
		if a.data.Whole { // an earlier run was the primary of that epoch
			a.served = wire.Served{Epoch: a.data.DataEpoch, Offset: a.data.Offset}
		}
		return err
	}
	a.data.DataID = a.NewID() // an identity is durable before anybody hears of it
	return a.Store.SaveData(a.data)
}

// startEngine starts the guard, if none runs, and then the engine, which nobody outside the pod can reach yet.
func (a *Agent) startEngine(now failover.Instant) {
	if a.fencing || a.doing.is(failover.StartEngine) {
		return
	}
	if wait := a.proc.notBefore.Sub(now); wait > 0 {
		a.wakeIn(wait)
		return
	}
	if !a.settleImport() {
		a.wakeIn(100 * time.Millisecond)
		return
	}
	if a.Engine.Listens() {
		a.endRelay()
	}
	done := a.doing.begin(failover.StartEngine)
	a.proc.early = nil
	a.proc.gen++
	gen, pid, fences, step := a.proc.gen, 0, a.fences.Load(), false
	var gone <-chan struct{}
	var err error
	var kept *wire.Lost
	ok := a.orders.do(0, func(context.Context) {
		a.starting.Lock() // a fence waits for us, or we for it: nothing is started behind its back
		defer a.starting.Unlock()
		if a.fences.Load() != fences {
			return
		}
		if a.Guard.PID() == 0 {
			if err = a.Guard.Start(a.Binary); err != nil {
				return
			}
		}
		var p engine.Process
		if p, err = a.Engine.Process(); err == nil {
			step, gone = p.Step, p.Gone
			pid, err = a.Processes.Start(p)
		}
		kept = a.lookKept()
	}, func() {
		done()
		a.proc.step, a.proc.meant = step, false
		a.noteRefusal(pid, step, err)
		a.noteKept(kept)
		a.onStarted(gen, pid, err)
		a.lookOut(gen, gone)
	})
	if !ok {
		done()
	}
}

func (a *Agent) onStarted(gen, pid int, err error) {
	now := a.now()
	if err != nil {
		a.proc.lastError = err.Error()
		a.backOff(now)
		a.Log.Error(err, "The engine could not be started; trying again", "in", a.proc.pause)
		return
	}
	if gen != a.proc.gen || pid == 0 {
		return // fenced meanwhile
	}
	a.proc.pid, a.proc.started, a.proc.asked, a.proc.given = pid, now, 0, 0
	a.proc.upstream, a.proc.toldAt, a.proc.unsure, a.proc.exposed = "", 0, false, false
	a.proc.synced, a.proc.strayed, a.proc.history = false, false, ""
	position := failover.Position{}
	id := a.data.DataID
	if a.Engine.Persistent() {
		position = failover.Position{DataEpoch: a.data.DataEpoch, Offset: a.data.Offset, Whole: a.data.Whole, Inexact: a.data.DataEpoch > 0}
	} else {
		id = a.NewID()
	}
	a.obs.Engine = failover.Engine{State: failover.EngineStarting, Persistent: a.Engine.Persistent(), Data: true, DataID: id, Position: position}
	a.Log.Info("Engine started", "pid", pid)
	early := a.proc.early
	a.proc.early = nil
	for _, e := range early {
		if e.PID == pid {
			a.OnExit(e) // it ended before we knew its number
		}
	}
}

// backOff makes the next start wait, longer with each quick end and with each start that fails. What ended as it should makes nobody wait.
func (a *Agent) backOff(now failover.Instant) {
	if a.proc.meant {
		a.proc.meant, a.proc.notBefore = false, now
		return
	}
	if a.proc.started != 0 && now.Sub(a.proc.started) > steadyAfter {
		a.proc.pause = 0
	}
	a.proc.started = 0 // that it ran for long counts once
	a.proc.notBefore = now.Add(a.proc.pause)
	a.proc.pause = min(max(2*a.proc.pause, restartFirst), restartMost)
}

// lookOut ends the engine when it is known to be gone, should the kernel not have said so yet.
func (a *Agent) lookOut(gen int, gone <-chan struct{}) {
	if gone == nil || gen != a.proc.gen || a.proc.pid == 0 {
		return
	}
	a.World.Beside(0, func(ctx context.Context) {
		select {
		case <-gone:
		case <-ctx.Done():
		}
	}, func() {
		if gen != a.proc.gen || a.proc.pid == 0 {
			return
		}
		a.onEngineEnded(fmt.Sprintf("process %d is gone: its sessions ended and its socket refuses", a.proc.pid))
	})
}

// OnExit takes in the end of a child: the engine's first process, the guard, or an orphan.
func (a *Agent) OnExit(e supervisor.Exit) {
	switch {
	case a.fencing && e.PID == a.proc.given:
		a.proc.lastError = e.String()
	case a.fencing: // all of them end now
	case e.PID == a.Guard.PID():
		a.Guard.Ended()
		a.fence(fmt.Sprintf("its guard ended (%s)", e))
	case e.PID == a.proc.pid:
		a.proc.meant = a.proc.meant || (a.proc.step && e.Status.Exited() && e.Status.ExitStatus() == 0)
		a.onEngineEnded(e.String())
	case a.doing.is(failover.StartEngine) && len(a.proc.early) < 64:
		a.proc.early = append(a.proc.early, e)
	}
}

// onEngineEnded fences what is left of the engine. how is for people.
func (a *Agent) onEngineEnded(how string) {
	why := fmt.Sprintf("its engine ended (%s)", how)
	if fired := a.Guard.Fired(); fired > a.proc.started {
		why = "the guard killed its engine, since the right to write was over"
	}
	a.proc.lastError = how
	a.Log.Info("Engine ended", "how", how)
	given := a.proc.pid
	a.fence(why)
	a.proc.given = given
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
	started := a.now()
	a.fences.Add(1)
	if serving {
		a.announceStop()
	}
	var err error
	a.World.Beside(fenceTimeout, func(ctx context.Context) {
		a.starting.Lock()
		defer a.starting.Unlock()
		err = a.Processes.KillAll(ctx)
	}, func() { a.onFenced(why, serving, started, err) })
}

// announceStop lets the others begin while the engine's processes end, which took 20 ms idle and 80 ms under load. They are killed
// first, so that a successor that needs no more than a cut quorum does not open beside sessions that still answer. A handover's target begins when
// everything is ready for it.
func (a *Agent) announceStop() {
	if a.release.Target != "" {
		return
	}
	if err := a.Processes.Kill(); err != nil {
		return // KillAll tries again, and says what is wrong
	}
	a.broadcast(wire.Frame{Stopping: &failover.Stopping{Run: a.Self, Epoch: a.obs.Tenure.Epoch}})
}

func (a *Agent) onFenced(why string, serving bool, started failover.Instant, err error) {
	now := a.now()
	if err != nil { // nothing is begun meanwhile
		a.Log.Error(err, "The engine could not be fenced; trying again", "in", fenceAgain)
		a.World.After(fenceAgain, func() {
			a.fencing = false
			a.fence(why)
		})
		return
	}
	a.fencing = false
	a.Guard.Ended() // it was killed with the rest; the next engine gets a new one first
	a.Guard.Disarm()
	a.orders.reset()
	a.doing.end(failover.StartEngine, failover.Follow, failover.Open, failover.HandOver, failover.Configure, failover.Detach)
	if !a.Engine.Persistent() {
		a.data = DataRecord{}
	}
	a.backOff(now)
	if serving && len(a.out) > 0 {
		wait := afterFence
		if a.parting {
			wait = relayFor // clients are led to the successor meanwhile, and perhaps until the pod ends
		}
		a.proc.notBefore = max(a.proc.notBefore, now.Add(wait))
	}
	a.parting = false
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
		release.Final = a.release.Final && now < a.heldUntil // the engine lets writes go on by itself after that
	}
	a.broadcast(releasedFrame(*release))
	a.obs.Release = nil
	a.obs.OnRelease(now, *release)
	a.unrouteLater(release.Epoch)
	a.beginRelay(release.Epoch, now)
}

// setDataEpoch notes that the data is that of an epoch's primary now; whole: it is the primary itself.
func (a *Agent) setDataEpoch(epoch failover.Epoch, whole bool) {
	a.obs.Engine.Position.DataEpoch, a.obs.Engine.Position.Whole, a.obs.Engine.Position.Inexact = epoch, whole, false
	if a.Engine.Persistent() {
		a.saveData()
	}
}

func (a *Agent) saveData() {
	p := a.obs.Engine.Position
	a.data.DataEpoch, a.data.Offset, a.data.Whole = p.DataEpoch, p.Offset, p.Whole
	record := a.data
	var err error
	a.disk.do(0, func(context.Context) { err = a.Store.SaveData(record) }, func() {
		a.noteDisk(err, "The data's epoch could not be noted")
	})
}
