package failover

import (
	"slices"
	"time"
)

// EngineState is how far the engine's process is.
type EngineState string

// The engine's states.
const (
	EngineStopped  EngineState = "Stopped"
	EngineStarting EngineState = "Starting" // started, not answering yet, or loading its data
	EngineRunning  EngineState = "Running"
)

// Engine is what a member knows of its engine.
type Engine struct {
	State EngineState
	// Healthy: it answered a probe less than the engine's time-out ago.
	Healthy bool
	// Redirectable: while it starts, or gave its primary up, it can be told whom to follow.
	Redirectable bool
	// FollowsEarly: it can be told to follow a holder that has not opened yet.
	FollowsEarly bool
	// Writable: it was promoted by this run and not fenced since.
	Writable bool
	Position Position
	At       Instant // when Position was read
	History  string  // that the offset counts in
	// HistoryFrom is the offset at which a primary's history began: a replica has it only from there on.
	HistoryFrom int64
	// Following is the run it was told to follow and FollowingEpoch the epoch; zero: nobody.
	Following      Run
	FollowingEpoch Epoch
	LinkUp         bool
	// Data is false only when the engine answered that it has none.
	Data bool
	// DataID changes when the member lost its data.
	DataID string
	// Persistent engines keep their data over a restart.
	Persistent bool
	// Quorum is how many replicas each acknowledgement of this engine waits for (W), and Counts are the pods, by member, whose word it may take for one of them: as it
	// confirmed at QuorumAt. Of an order that it has not confirmed the lower W counts already, and the pods of before and after.
	Quorum   int
	Counts   map[string][]string
	QuorumAt Instant
	Message  string
}

// Durable is what is on disk before it is said to anybody (rule PromiseDurable).
type Durable struct {
	PodUID    string     `json:"podUID"`
	Promise   Epoch      `json:"promise"`
	Forgotten bool       `json:"forgotten"`
	Given     []EpochRun `json:"given,omitempty"` // the newest runs whose heartbeats were acknowledged
}

// EpochRun names who held an epoch.
type EpochRun struct {
	Epoch Epoch `json:"epoch"`
	Run   Run   `json:"run"`
}

// keepGiven bounds Durable.Given: each of them is waited out, so only those that may still count matter.
const keepGiven = 8

// Given is an acknowledgement that may still count for the run that got it.
type Given struct {
	Run       Run
	Epoch     Epoch
	Until     Instant
	Partition PartitionChoice
}

// Heard is the newest heartbeat of the highest epoch heard of.
type Heard struct {
	Run      Run
	Epoch    Epoch
	At       Instant // when one arrived that echoed an own acknowledgement in time (rule Suspect)
	Since    Instant // when the first one of this epoch arrived
	Sent     Instant // by its own clock, when the newest one was sent
	Position Position
	Known    bool // Position is known
	Open     bool
	Upstream string
	History  string
	// HistoryFrom is the offset at which it began.
	HistoryFrom int64
	Pace        Pace
}

// Proof is evidence with the instant since which it is held.
type Proof struct {
	Evidence
	Since Instant
}

// HeldStopping is a Stopping with the instant at which it arrived.
type HeldStopping struct {
	Stopping
	At Instant
}

// HeldRelease is a Release with the instant at which it arrived.
type HeldRelease struct {
	Release
	At Instant
}

// Link is what a member knows of its connections to another member.
type Link struct {
	Run  Run
	Open int // connections to that run that have not ended
}

// Observation is all a member knows. Its methods take in what happened; Decide reads it.
type Observation struct {
	Self    Run
	Ordinal int
	Started Instant

	Lease Lease
	// LeaseSince is when this epoch and holder were first seen; LeaseRead when a quorum read made after the start
	// succeeded, 0 if none did.
	LeaseSince Instant
	LeaseRead  Instant
	// RenewedSince is when the holder's newest renewal at the API server, or its grant, was first seen.
	RenewedSince Instant

	Durable Durable
	Engine  Engine
	Heard   Heard
	Given   []Given
	Proofs  []Proof
	Release *HeldRelease
	// Stopping is the word of the Lease's holder that it fences itself; nil: it did not give it.
	Stopping *HeldStopping
	Links    map[string]Link
	open     map[Run]int // connections by run
	// Gone are pods that can never start again, by member: the operator's proof (rule JointVoters).
	Gone map[string]string

	Tenure  *Tenure
	Ended   Epoch // the highest epoch that this run held and gave up
	Attempt *Attempt
	// Turn is the last answer to the question for a turn (Terms.Turns).
	Turn Turn
	// NotBefore is the earliest instant of the next attempt.
	NotBefore Instant
	Failures  int // attempts in a row that came to nothing
	// Leaving: the agent was asked to end.
	Leaving bool
	// ReadOnly are this member's volumes that refuse what is written; empty: none does.
	ReadOnly []string
	// ImportedBy is the member on whose volume data is that the service is to begin with; empty: it begins with none.
	ImportedBy string
	// ClockJumped: the wall clock jumped against CLOCK_BOOTTIME by more than the margin during this tenure (rule Clock).
	ClockJumped bool
	// Stalled is for how long this member itself did not run since it last heard the holder: that is no silence of others.
	Stalled time.Duration
	// Without switches rules off; for tests.
	Without Rule
}

// NewObservation is what a member knows when its agent starts. Acknowledgements that its earlier runs gave may still
// count, and nobody remembers when they were given, so they are taken as given now (rule PromiseDurable).
func NewObservation(self Run, ordinal int, now Instant, durable Durable) *Observation {
	return &Observation{Self: self, Ordinal: ordinal, Started: now, Durable: durable, Links: map[string]Link{},
		open: map[Run]int{}, Gone: map[string]string{}}
}

// OnLease takes in the Lease as read. quorum is true for a read that the API server answered from its quorum.
func (o *Observation) OnLease(now Instant, l Lease, quorum bool) {
	if l.Epoch < o.Lease.Epoch {
		return // a stale watch; a Lease set back by hand changes nobody's mind (rule LeaseGuarded)
	}
	changed := o.LeaseSince == 0 || l.Epoch != o.Lease.Epoch || l.Holder != o.Lease.Holder
	if changed {
		o.LeaseSince = now
		o.Failures = 0
	}
	if changed || l.Terms.Renewed != o.Lease.Terms.Renewed {
		o.RenewedSince = now
	}
	first := o.LeaseRead == 0
	if o.Tenure != nil && l.Version != o.Lease.Version {
		// A write in doubt is in this version, or can never be.
		o.Tenure.dropping, o.Tenure.moved, o.Tenure.writing = false, map[string]string{}, 0
	}
	o.Lease = l
	if quorum {
		o.LeaseRead = now
	}
	if quorum && first {
		o.assumeGiven()
	}
	o.checkAttempt(l)
	if o.Release != nil && (o.Release.Epoch != l.Epoch || o.Release.Run != l.Holder) {
		o.Release = nil
	}
	if o.Stopping != nil && !o.stops(l.Holder, l.Epoch) {
		o.Stopping = nil
	}
	if l.Epoch > 0 && l.Terms.Released == l.Epoch { // the holder wrote it for those who did not hear it
		o.OnProof(now, Evidence{Kind: Released, Run: l.Holder, Epoch: l.Epoch})
	}
	o.beginTenure(now)
}

// checkAttempt drops an attempt whose version is over (rule SameVersion): what it collected is collected again.
func (o *Observation) checkAttempt(l Lease) {
	a := o.Attempt
	if a == nil || a.Version == l.Version || (l.Holder == o.Self && a.Epoch == l.Epoch) {
		return
	}
	if !o.keeps(SameVersion) && l.Epoch < a.Epoch {
		a.Version = l.Version
		return
	}
	o.Attempt = nil
}

// assumeGiven dates what earlier runs of this pod acknowledged to the start of this one. A promise whose run is not on
// record may have been followed by acknowledgements: to the Lease's holder if that is the epoch, else to a run that
// nobody remembers. That one stays unnamed, and no evidence about a named one shortens the wait for it.
func (o *Observation) assumeGiven() {
	if !o.keeps(StartIsLastAck) {
		return
	}
	given := o.Durable.Given
	if p := o.Durable.Promise; p > 0 && !slices.ContainsFunc(given, func(g EpochRun) bool { return g.Epoch == p }) {
		to := EpochRun{Epoch: p}
		if p == o.Lease.Epoch {
			to.Run = o.Lease.Holder
		}
		given = append(slices.Clone(given), to)
	}
	for _, g := range given {
		o.Given = append(o.Given, Given{Run: g.Run, Epoch: g.Epoch,
			Until: o.Started.Add(o.Lease.Terms.WaitDuration()), Partition: o.Lease.Terms.Partition})
	}
}

// beginTenure starts a tenure when the Lease names this very run for an epoch it has not given up (rule RunBound).
func (o *Observation) beginTenure(now Instant) {
	l := o.Lease
	if !o.named(l.Holder) || (l.Epoch <= o.Ended && o.keeps(ReleasedFinal)) {
		return
	}
	won := o.Attempt
	switch {
	case o.Tenure == nil:
		o.Tenure, o.ClockJumped = newTenure(now, l.Epoch), false
	case o.Tenure.Epoch < l.Epoch:
		o.Tenure.renumber(now, l.Epoch)
	}
	o.Tenure.OnTerms(now, l.Terms)
	o.OnDurableTenure(now)
	if won != nil {
		o.Tenure.Won = won
		for _, e := range won.handedOver {
			o.Tenure.handedOver[e] = true
		}
		if won.Phase == PhaseGranting { // the grant is the API server's first acknowledgement
			o.OnRenewed(now, won.Began)
		}
		o.Attempt = nil
	}
}

// named reports whether a holder is this run.
func (o *Observation) named(holder Run) bool {
	if !o.keeps(RunBound) {
		return holder.Member == o.Self.Member && !holder.IsZero()
	}
	return holder == o.Self
}

// OnRenewed takes in that a compare-and-swap of the Lease by this holder, sent at an instant, succeeded.
func (o *Observation) OnRenewed(now, sent Instant) {
	if t := o.Tenure; t != nil {
		c := t.Acks[APIServer]
		t.Acks[APIServer] = Counted{Sent: max(c.Sent, sent), Arrived: now}
	}
}

// keepProofs bounds Proofs: a proven fact about a run stays true, but only the newest runs still matter to anybody.
const keepProofs = 32

// OnProof takes in evidence about a run.
func (o *Observation) OnProof(now Instant, e Evidence) {
	for i, p := range o.Proofs {
		if p.Kind == e.Kind && p.Run == e.Run {
			if e.Epoch > p.Epoch { // a run may hold and release several epochs
				o.Proofs[i] = Proof{Evidence: e, Since: now}
			}
			return
		}
	}
	o.Proofs = append(o.Proofs, Proof{Evidence: e, Since: now})
	if len(o.Proofs) > keepProofs {
		o.Proofs = o.Proofs[len(o.Proofs)-keepProofs:]
	}
}

// OnRelease takes in the word of a run that it fenced itself. It is irrevocable and counts for that epoch only.
func (o *Observation) OnRelease(now Instant, r Release) {
	if r.Run == o.Lease.Holder && r.Epoch == o.Lease.Epoch && o.Release == nil {
		o.Release = &HeldRelease{Release: r, At: now}
	}
	if r.Epoch >= o.Lease.Epoch {
		o.OnProof(now, Evidence{Kind: Released, Run: r.Run, Epoch: r.Epoch})
	}
}

// OnStopping takes in the word of a run that it is fencing itself.
func (o *Observation) OnStopping(now Instant, s Stopping) {
	if s.Run == o.Lease.Holder && s.Epoch == o.Lease.Epoch && o.Stopping == nil {
		o.Stopping = &HeldStopping{Stopping: s, At: now}
	}
}

// stops reports whether a run said that it fences itself in an epoch.
func (o *Observation) stops(run Run, epoch Epoch) bool {
	s := o.Stopping
	return s != nil && s.Run == run && s.Epoch == epoch
}

// OnGone takes in the operator's proof that a pod can never start again.
func (o *Observation) OnGone(member, podUID string) {
	if podUID != "" {
		o.Gone[member] = podUID
	}
}

// goneFor reports whether a voter that cannot answer counts as having promised: its pod can never start again, no later
// pod of that member is known, and the holder's run is proven dead, not merely silent (rule JointVoters).
func (o *Observation) goneFor(now Instant, member string, a *Attempt) bool {
	uid, ok := o.Gone[member]
	if !ok || member == o.Self.Member {
		return false
	}
	if run := o.Links[member].Run; !run.IsZero() && run.PodUID != uid {
		return false
	}
	_, proven := o.noWait(now, a.Holder, a.Epoch-1)
	return proven
}

// OnFenced takes in that this run's engine was killed and every process reaped. What it held, it holds no more.
func (o *Observation) OnFenced(now Instant) *Release {
	e := o.Engine
	o.Engine = Engine{State: EngineStopped, Position: e.Position, Persistent: e.Persistent, Data: e.Data, DataID: e.DataID}
	if !e.Persistent {
		o.Engine.Position, o.Engine.DataID = Position{}, "" // it went with the process
	}
	if o.Tenure == nil {
		return nil
	}
	r := Release{Run: o.Self, Epoch: o.Tenure.Epoch, Position: e.Position}
	o.Ended, o.Tenure, o.ClockJumped = max(o.Ended, o.Tenure.Epoch), nil, false
	o.OnRelease(now, r)
	return &r
}

// OnConnected takes in that a connection to a run was made.
func (o *Observation) OnConnected(run Run) {
	o.open[run]++
	o.Contradicted(run) // whoever thought it gone, this member itself perhaps, was wrong
	if l := o.Links[run.Member]; l.Run == run || !l.Run.LaterThan(run) || l.Open == 0 {
		o.Links[run.Member] = Link{Run: run, Open: o.open[run]}
	}
}

// ended reports whether a later boot of the same pod is known. A container is started only when the one before it is
// gone, so each boot testifies that the earlier ones have ended (ProcessGone, second form).
func (o *Observation) ended(run Run) bool {
	return o.Self.LaterThan(run) || o.Links[run.Member].Run.LaterThan(run)
}

// OnDisconnected takes in that a connection to a run ended, however it ended. Two pods of one member may be connected at
// once: one that was deleted by force goes on for a while.
func (o *Observation) OnDisconnected(run Run) {
	if o.open[run]--; o.open[run] <= 0 {
		delete(o.open, run)
	}
	l := o.Links[run.Member]
	if l.Run != run {
		return
	}
	if l.Open = o.open[run]; l.Open == 0 {
		for other, n := range o.open {
			if other.Member == run.Member && !run.LaterThan(other) && (l.Open == 0 || other.String() > l.Run.String()) {
				l = Link{Run: other, Open: n}
			}
		}
	}
	o.Links[run.Member] = l
}

// connected reports whether a connection to that very run is open.
func (o *Observation) connected(run Run) bool { return o.open[run] > 0 }

// Serving reports whether this member is the primary and open for writes.
func (o *Observation) Serving() bool { return o.Tenure != nil && o.Tenure.Opened }

// since is how long ago i was.
func since(now, i Instant) time.Duration { return now.Sub(i) }
