// Package agent is PID 1 of the engine's container. It supervises the engine, keeps up heartbeats with its peers, holds
// the promise on disk, fences itself when it loses its right, and takes over when it is the best candidate. What to do
// is decided by internal/failover; this package sees and does. Agent is one loop without goroutines or clocks of its
// own; Host gives it a real machine, and the simulator a virtual one.
package agent

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// Options are what an agent is made of.
type Options struct {
	Config  agentconfig.Config
	Self    failover.Run
	Ordinal int
	IPs     []string // this pod's, the first one first
	Node    string
	Binary  string // this program, to start guards from
	Engine  engine.Engine
	// LoadConfig reads the configuration anew, for what of it may change while the agent runs; nil: nothing may.
	LoadConfig func() (agentconfig.Config, error)
	// Rooms asks each volume that outlives the pod how much it has left, which may take as long as it likes; nil: there is none.
	Rooms func() []Room
	// Pooler holds clients back during a handover; nil: there is none.
	Pooler  Pooler
	Kube    Kube
	Log     logr.Logger
	NewID   func() string // of data, never the same twice
	Without failover.Rule // rules switched off, for tests

	World     World
	Guard     Guard
	Processes Processes
	Store     Store
	Mesh      Mesh
	Relay     Relay
}

// Agent runs one member. Its methods are called by one goroutine, the loop.
type Agent struct {
	Options
	// starting is held while a process is started and while all are killed; fences counts the kills.
	starting sync.Mutex
	fences   atomic.Int64

	obs          *failover.Observation
	policy       failover.Policy
	disk         lane // the promise's disk
	orders       lane // what the engine is told
	links        []*Link
	pods         map[string]string // the UID of each member's newest pod that was heard of
	out          map[string]*Link  // the connection we made to each member
	ordered      []*Link           // the same, by member: what is sent to all is sent in one order
	data         DataRecord
	proc         engineRun
	doing        doing
	notes        string // the last ones logged
	pushed       wire.Status
	publishNext  failover.Instant
	record       *wire.Takeover // the change of primary under way
	history      []wire.Takeover
	served       wire.Served        // the last epoch this member served
	kept         *wire.Lost         // what the last data that was replaced had more
	grudges      map[string]*grudge // volumes that refused what was written
	handing      handingAway        // what it has tried as the primary since then
	turn         turnAsked          // where the last turn to fail over was asked for
	full         []wire.Full        // volumes with hardly any room left
	replacing    *engine.Had        // what the data had that is to be replaced, until the engine knows; nil: none is
	handover     *handover
	fencing      bool
	release      failover.Release // what to add to the next Released
	attempts     int64
	clock        clock
	leaving      bool
	holding      bool // clients are held back by poolers that this agent told so
	letting      bool // and are being let go on
	letAgain     bool // and are to be once more
	waking       bool
	ended        bool
	leftAt       failover.Instant
	due          failover.Instant // when the loop wanted to run again
	renewing     bool             // poolers are making the connections anew that lead here
	renewed      bool             // they did
	relaying     failover.Epoch   // whose clients are led to the successor; 0: none are
	parting      bool             // it hands over since its pod is about to be ended
	fencedAt     failover.Instant
	actedAt      failover.Instant // when anything but heartbeats happened last
	renumberedAt failover.Instant
	diskLogged   failover.Instant
	troubled     string               // the kind of durable write that failed
	diskTrouble  string               // and why
	unclaimed    failover.Epoch       // of a renumbering whose note is not on disk yet
	tuned        engine.Configuration // how far the engine is with its configuration
	tuneTrouble  string               // why that could not be found out, logged last
	// heldUntil is until when the engine surely holds writes back in a handover.
	heldUntil failover.Instant

	recordFrom failover.Instant
	oldHeard   failover.Heard // what was last heard of the primary that is being replaced
	routed     failover.Epoch
	prefetched sliceCache
}

// New makes an agent; Begin is to be called before anything else.
func New(o Options) *Agent {
	a := &Agent{Options: o, out: map[string]*Link{}, pods: map[string]string{}}
	a.disk = lane{world: o.World, limit: 64}
	a.orders = lane{world: o.World, limit: 64}
	return a
}

// Begin reads what earlier runs made durable. That something was forgotten is made durable before anything else.
func (a *Agent) Begin() error {
	durable, why := a.Store.LoadPromise(a.Self.PodUID)
	if durable.Forgotten {
		if why == "" {
			why = "an earlier start had not waited long enough"
		}
		a.Log.Info("This member may have forgotten a promise and waits before it takes part", "why", why)
		if err := a.Store.SavePromise(durable); err != nil {
			return fmt.Errorf("making durable that promises may be forgotten: %w", err)
		}
	}
	a.obs = failover.NewObservation(a.Self, a.Ordinal, a.now(), durable)
	a.obs.Without = a.Without
	a.clock = newClock(a.World.WallOffset)
	a.history = a.Store.LoadHistory()
	if err := a.recallData(); err != nil {
		return err
	}
	a.settleImport()
	a.probeAgain()
	a.watchConfig()
	a.watchRoom()
	return nil
}

func (a *Agent) now() failover.Instant { return a.World.Now() }

// Ended reports whether the agent was asked to end and has done all it had to do before.
func (a *Agent) Ended() bool { return a.ended }

// Step decides and does until nothing changes by itself any more, and says when to look again. It is to be called after
// every event.
func (a *Agent) Step() time.Duration {
	recheck := time.Second
	a.noticeStall()
	for range 16 {
		now := a.now()
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
	a.reconfigure()
	a.leadClients()
	a.endIfDone()
	a.publish()
	a.due = a.now().Add(recheck)
	return recheck
}

// noticeStall tells the rules when this agent itself did not run: it must not take its own silence for that of others.
func (a *Agent) noticeStall() {
	late := a.now().Sub(a.due)
	if a.due != 0 && late > a.obs.Lease.Terms.HeartbeatInterval() && a.obs.Lease.Epoch > 0 {
		a.obs.OnStall(late)
	}
}

// wakeIn makes the loop decide again after a pause that Decide does not know of.
func (a *Agent) wakeIn(d time.Duration) {
	if a.waking {
		return
	}
	a.waking = true
	a.World.After(d, func() { a.waking = false })
}

// say logs the sentences of a decision once.
func (a *Agent) say(notes []string) {
	if len(notes) == 0 {
		return
	}
	all := fmt.Sprint(notes)
	if all == a.notes {
		return
	}
	a.notes = all
	for _, n := range notes {
		a.Log.Info("Decision", "epoch", a.obs.Lease.Epoch, "note", n)
	}
}

// Leave asks the agent to hand over and end (SIGTERM).
func (a *Agent) Leave() {
	if a.leaving {
		return
	}
	a.Log.Info("Asked to end")
	a.leaving, a.obs.Leaving, a.leftAt = true, true, a.now()
}
