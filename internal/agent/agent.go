// Package agent is PID 1 of the engine's container. It supervises the engine, keeps up heartbeats with its peers, holds
// the promise on disk, fences itself when it loses its right, and takes over when it is the best candidate. What to do
// is decided by internal/failover; this package sees and does.
package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/guard"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/supervisor"
	"understudy.dev/understudy/internal/wire"
)

// Options are what an agent is made of.
type Options struct {
	Config   agentconfig.Config
	Self     failover.Run
	Ordinal  int
	IPs      []string // this pod's, the first one first
	Node     string
	StateDir string
	DataDir  string
	Binary   string // this program, to start guards from
	Engine   engine.Engine
	Kube     Kube
	Identity *wire.Identity
	Log      logr.Logger
}

// Agent runs one member. Fields below the comment are touched by the loop's goroutine only.
type Agent struct {
	Options
	inbox chan func()
	ctx   context.Context
	// starting is held while a process is started and while all are killed; fences counts the kills.
	starting sync.Mutex
	fences   atomic.Int64

	// What follows belongs to the loop.

	obs      *failover.Observation
	policy   failover.Policy
	promise  promiseFile
	disk     lane // the promise's disk
	orders   lane // what the engine is told
	mesh     *mesh
	super    *supervisor.Supervisor
	guard    *guard.Handle
	links    map[*link]bool
	out      map[string]*link // the connection we made to each member
	data     dataRecord
	proc     engineRun
	doing    map[failover.ActionKind]bool
	notes    string // the last ones logged
	pushed   wire.Status
	record   *wire.Takeover // the change of primary under way
	history  []wire.Takeover
	handover *handover
	waiters  map[string]chan failover.Position // position reports, by member
	fencing  bool
	release  failover.Release // what to add to the next Released
	attempts int64
	clock    clock
	leaving  bool
	waking   bool
	ended    bool
	leftAt   failover.Instant
	status   statusBox

	recordFrom failover.Instant
	oldHeard   failover.Heard // what was last heard of the primary that is being replaced
	routed     failover.Epoch
	prefetched sliceCache
}

// New makes an agent; Run runs it.
func New(o Options) *Agent {
	a := &Agent{Options: o, inbox: make(chan func(), 256), promise: promiseFile{filepath.Join(o.StateDir, "promise")},
		links: map[*link]bool{}, out: map[string]*link{}, doing: map[failover.ActionKind]bool{}, waiters: map[string]chan failover.Position{}}
	a.disk = lane{post: a.post, limit: 64}
	a.orders = lane{post: a.post, limit: 64}
	return a
}

// post runs f on the loop.
func (a *Agent) post(f func()) {
	select {
	case a.inbox <- f:
	case <-a.ctx.Done():
	}
}

// Run starts everything in the order that the safety rules ask for, and returns when the agent was asked to end and has
// handed over. Cancelling ctx is for tests; SIGTERM calls Leave.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.ctx = ctx
	if err := a.recall(); err != nil {
		return err
	}
	listener, err := reuseListener(ctx, names.AgentPort)
	if err != nil {
		return fmt.Errorf("listening for peers: %w", err)
	}
	defer func() { _ = listener.Close() }()
	hello := wire.Hello{ServiceUID: a.Config.ServiceUID, Run: a.Self, Address: a.IPs[0]}
	a.mesh = newMesh(a.Self, hello, a.Config.Service, a.Config.Namespace, a.Identity, a.post, a)
	a.super = supervisor.New(func(e supervisor.Exit) { a.post(func() { a.onExit(e) }) })
	if a.guard, err = guard.New(); err != nil {
		return err
	}
	go func() { _ = a.mesh.serve(ctx, listener) }()
	go a.followLease(ctx)
	go a.probe(ctx)
	a.serveHTTP(ctx)
	return a.run(ctx)
}

// recall reads what earlier runs made durable. That something was forgotten is made durable before anything else.
func (a *Agent) recall() error {
	durable, why := a.promise.load(a.Self.PodUID)
	if durable.Forgotten {
		if why == "" {
			why = "an earlier start had not waited long enough"
		}
		a.Log.Info("This member may have forgotten a promise and waits before it takes part", "why", why)
		if err := a.promise.save(durable); err != nil {
			return fmt.Errorf("making durable that promises may be forgotten: %w", err)
		}
	}
	a.obs = failover.NewObservation(a.Self, a.Ordinal, guard.Now(), durable)
	a.clock = newClock()
	a.loadHistory()
	return a.recallData()
}

// run is the loop: something happened, decide, do.
func (a *Agent) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !a.ended {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f := <-a.inbox:
			f()
			a.drain()
		case <-timer.C:
		}
		timer.Reset(a.step())
	}
	return nil
}

// drain takes what else has happened already, so that one decision sees it all.
func (a *Agent) drain() {
	for range 64 {
		select {
		case f := <-a.inbox:
			f()
		default:
			return
		}
	}
}

// step decides and does until nothing changes by itself any more, and says when to look again.
func (a *Agent) step() time.Duration {
	recheck := time.Second
	for range 16 {
		now := guard.Now()
		if a.clock.jumped(a.obs.Lease.Terms) && a.obs.Tenure != nil {
			a.obs.ClockJumped = true
		}
		a.judgeEngine(now)
		d := failover.Decide(now, a.obs, a.policy)
		changed := false
		for _, action := range d.Actions {
			changed = a.execute(now, action) || changed
		}
		a.say(d.Notes)
		recheck = d.Recheck
		if !changed {
			break
		}
	}
	a.endIfDone()
	a.publish()
	return recheck
}

// wakeIn makes the loop decide again after a pause that Decide does not know of.
func (a *Agent) wakeIn(d time.Duration) {
	if a.waking {
		return
	}
	a.waking = true
	time.AfterFunc(d, func() { a.post(func() { a.waking = false }) })
}

// say logs the sentences of a decision once.
func (a *Agent) say(notes []string) {
	all := fmt.Sprint(notes)
	if all == a.notes || len(notes) == 0 {
		return
	}
	a.notes = all
	for _, n := range notes {
		a.Log.Info("Decision", "epoch", a.obs.Lease.Epoch, "note", n)
	}
}

// Leave asks the agent to hand over and end (SIGTERM).
func (a *Agent) Leave() {
	a.post(func() {
		if a.leaving {
			return
		}
		a.Log.Info("Asked to end")
		a.leaving, a.obs.Leaving, a.leftAt = true, true, guard.Now()
	})
}
