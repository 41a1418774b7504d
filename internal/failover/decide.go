package failover

import (
	"fmt"
	"time"
)

// ActionKind names something to do.
type ActionKind string

// The actions. Each is idempotent: doing one that is under way or done changes nothing.
const (
	// StartEngine starts the engine's process, reachable by nobody.
	StartEngine ActionKind = "StartEngine"
	// Fence kills every process of the engine, reaps them, and says Released if this run held the Lease.
	Fence ActionKind = "Fence"
	// Follow makes the engine follow a run.
	Follow ActionKind = "Follow"
	// Remember puts Durable on disk.
	Remember ActionKind = "Remember"
	// SendHeartbeats sends one heartbeat to every member.
	SendHeartbeats ActionKind = "SendHeartbeats"
	// Open promotes the engine and routes clients to it.
	Open ActionKind = "Open"
	// Begin starts an attempt and asks for pre-votes.
	Begin ActionKind = "Begin"
	// AskPromises asks every member, this one included, for a promise.
	AskPromises ActionKind = "AskPromises"
	// Grant swaps the Lease to the attempt's epoch and this run.
	Grant ActionKind = "Grant"
	// GiveUp ends the attempt.
	GiveUp ActionKind = "GiveUp"
	// Renumber swaps the Lease to the next epoch for this same run.
	Renumber ActionKind = "Renumber"
	// Renew swaps the Lease for itself: the API server's acknowledgement, where it votes (rule Voters, two members).
	Renew ActionKind = "Renew"
	// Configure tells the engine how many replicas its acknowledgements wait for.
	Configure ActionKind = "Configure"
	// Detach cuts the engine off everybody: the Lease does not list this member any more.
	Detach ActionKind = "Detach"
	// WriteTerms swaps the Lease's terms for Terms, epoch and holder unchanged.
	WriteTerms ActionKind = "WriteTerms"
	// HandOver hands the right to write to another member (rule Handover).
	HandOver ActionKind = "HandOver"
)

// Action is one thing to do, with the epoch it belongs to.
type Action struct {
	Kind     ActionKind
	Epoch    Epoch
	Run      Run
	Address  string
	Note     string
	Durable  *Durable
	Terms    *Terms
	Quorum   int
	Detected Instant
	Pause    time.Duration
}

// Decision is what to do next.
type Decision struct {
	Actions []Action
	Verdict MemberVerdict
	// Recheck is when to look again if nothing happens.
	Recheck time.Duration
	// Notes are the sentences that status, event and log repeat.
	Notes []string
}

func (d *Decision) do(a Action) { d.Actions = append(d.Actions, a) }

func (d *Decision) lookAgainIn(t time.Duration) {
	if t < time.Millisecond {
		t = time.Millisecond
	}
	if d.Recheck == 0 || t < d.Recheck {
		d.Recheck = t
	}
}

func (d *Decision) note(format string, args ...any) {
	d.Notes = append(d.Notes, fmt.Sprintf(format, args...))
}

// Policy is what the holder is asked to make the Lease's terms; nil: nothing was asked.
type Policy = *Terms

// releaseWait is how long a holder that was granted an epoch may need to open before it gives the epoch up.
const releaseWait = 2 * time.Second

// Decide says what one member does next, from what it knows at now. It changes nothing.
func Decide(now Instant, o *Observation, desired Policy) Decision {
	d := Decision{Recheck: time.Second, Verdict: Verdict(now, o)}
	if durable := o.Remembering(now); durable != nil {
		d.do(Action{Kind: Remember, Durable: durable})
	} else if o.Durable.Forgotten && o.LeaseRead != 0 {
		d.lookAgainIn(o.RememberedWait(now))
	}
	switch {
	case o.Tenure != nil:
		decideHolder(now, o, desired, &d)
	default:
		decideEngine(o, &d)
		decideFollower(o, &d)
		decideCandidate(now, o, &d)
	}
	return d
}

// decideEngine starts an engine that does not run; the executor paces it.
func decideEngine(o *Observation, d *Decision) {
	if o.Engine.State == EngineStopped && !o.Leaving {
		d.do(Action{Kind: StartEngine})
	}
}

// decideFollower follows the holder of the highest epoch heard of, never one below a promise
// (rule PromiseForbidsFollowing).
func decideFollower(o *Observation, d *Decision) {
	h := o.Heard
	if o.Engine.State == EngineRunning && o.LeaseRead != 0 && !o.Lease.Terms.HasMember(o.Self.Member) {
		if !o.Engine.Following.IsZero() {
			d.do(Action{Kind: Detach, Epoch: o.Lease.Epoch, Note: "the Lease does not list it as a member"})
		}
		return
	}
	if o.Engine.State != EngineRunning || h.Run.IsZero() || h.Epoch < o.Lease.Epoch {
		return
	}
	if h.Epoch < o.Durable.Promise && o.keeps(PromiseForbidsFollowing) {
		return
	}
	if !h.Open || h.Run == o.Self || (o.Engine.Following == h.Run && o.Engine.FollowingEpoch == h.Epoch) {
		return
	}
	d.do(Action{Kind: Follow, Epoch: h.Epoch, Run: h.Run, Address: h.Upstream})
}

// holderMustStop says why a holder may not go on, or nothing.
func holderMustStop(now Instant, o *Observation) string {
	t := o.Tenure
	switch {
	case o.Lease.Epoch > t.Epoch && !o.named(o.Lease.Holder):
		return fmt.Sprintf("the Lease has epoch %d of %s", o.Lease.Epoch, o.Lease.Holder.Member)
	case o.Heard.Epoch > t.Epoch && o.Heard.Run != o.Self:
		return fmt.Sprintf("%s heartbeats epoch %d", o.Heard.Run.Member, o.Heard.Epoch)
	case t.Told > t.Epoch && !o.keeps(FenceOnHolderOnly):
		return fmt.Sprintf("epoch %d is promised", t.Told)
	case o.ClockJumped && o.keeps(ClockJump):
		return "the wall clock jumped against the clock of the lease"
	case !t.Opened:
		return openingOverdue(now, o)
	case o.Engine.State != EngineRunning:
		return "its engine ended"
	case !o.Engine.Healthy:
		return "its engine does not answer"
	case !o.mayServe(now):
		return "no majority acknowledged a heartbeat in time"
	}
	return ""
}

// mayServe reports whether the right to write still holds (rule MajorityServe). An isolated asynchronous primary goes on
// where the Lease, by its own hand, says PreferAvailability.
func (o *Observation) mayServe(now Instant) bool {
	return now < o.ServeUntil()
}

// Forever is an instant that never comes.
const Forever = Instant(1<<63 - 1)

// ServeUntil is when this holder's engine must be dead; 0: at once.
func (o *Observation) ServeUntil() Instant {
	if o.Tenure == nil {
		return 0
	}
	if !o.keeps(MajorityServe) {
		return Forever
	}
	if t := o.Lease.Terms; o.Tenure.Opened && t.Partition == PreferAvailability && t.Set() == nil {
		return Forever
	}
	return o.Tenure.ServeUntil(o.Lease.Terms)
}

// openingOverdue gives an epoch up that could not be opened, so that somebody else may take the next one.
func openingOverdue(now Instant, o *Observation) string {
	limit := releaseWait + 2*o.Lease.Terms.WaitDuration()
	if since(now, o.Tenure.Learned) > limit {
		return fmt.Sprintf("epoch %d could not be opened within %s", o.Tenure.Epoch, limit)
	}
	return ""
}

func decideHolder(now Instant, o *Observation, desired Policy, d *Decision) {
	t, terms := o.Tenure, o.Lease.Terms
	if why := holderMustStop(now, o); why != "" {
		d.note("stops as primary of epoch %d: %s", t.Epoch, why)
		d.do(Action{Kind: Fence, Epoch: t.Epoch, Note: why})
		return
	}
	decideHeartbeat(now, o, d)
	if !t.Durable {
		d.do(Action{Kind: Remember, Durable: o.durableWith(t.Epoch, EpochRun{Epoch: t.Epoch, Run: o.Self})})
		return
	}
	if in, ok := t.renewIn(now, terms); ok && in <= 0 {
		next := terms
		next.Renewed++
		d.do(Action{Kind: Renew, Epoch: t.Epoch, Terms: &next})
	} else if ok {
		d.lookAgainIn(in)
	}
	if !t.Opened {
		decideOpening(now, o, d)
		return
	}
	if until := o.ServeUntil(); until != Forever {
		d.lookAgainIn(until.Sub(now))
	}
	if want := o.engineQuorum(now); want != o.Engine.Quorum {
		d.do(Action{Kind: Configure, Epoch: t.Epoch, Quorum: want})
	}
	switch next := termsWanted(now, o, desired); {
	case t.Told > t.Epoch && o.keeps(HolderRenumbers):
		d.note("takes epoch %d for the same run, since a member promised it", t.Epoch+1)
		next := terms
		next.Sets = o.nextSet(t.Epoch + 1)
		d.do(Action{Kind: Renumber, Epoch: t.Epoch + 1, Terms: &next})
	case next != nil:
		d.do(Action{Kind: WriteTerms, Epoch: t.Epoch, Terms: next})
	}
	if o.Leaving {
		d.do(Action{Kind: HandOver, Epoch: t.Epoch, Note: "its pod is being ended"})
	}
}

func decideHeartbeat(now Instant, o *Observation, d *Decision) {
	interval := o.Lease.Terms.HeartbeatInterval()
	if due := interval - since(now, o.Tenure.Beat); o.Tenure.Beat == 0 || due <= 0 {
		d.do(Action{Kind: SendHeartbeats, Epoch: o.Tenure.Epoch})
		d.lookAgainIn(interval)
	} else {
		d.lookAgainIn(due)
	}
}

func decideOpening(now Instant, o *Observation, d *Decision) {
	if o.Engine.State == EngineStopped {
		d.do(Action{Kind: StartEngine})
		return
	}
	if o.Engine.State == EngineRunning && o.lostSinceChosen() {
		note := "its engine lost the data it was chosen for"
		d.note("gives epoch %d up: %s", o.Tenure.Epoch, note)
		d.do(Action{Kind: Fence, Epoch: o.Tenure.Epoch, Note: note})
		return
	}
	if o.Lease.Terms.Quorum > 0 && (o.Lease.Terms.Set() == nil || o.Lease.Terms.Set().Epoch != o.Tenure.Epoch) {
		next := o.Lease.Terms
		next.Sets = o.nextSet(o.Tenure.Epoch)
		d.do(Action{Kind: WriteTerms, Epoch: o.Tenure.Epoch, Terms: &next}) // the set is in force before the engine opens
		return
	}
	missing, surpassed := o.syncConfirmed(o.Tenure)
	if surpassed != "" {
		note := "others have more of the data that was acknowledged: " + surpassed
		d.note("gives epoch %d up: %s", o.Tenure.Epoch, note)
		d.do(Action{Kind: Fence, Epoch: o.Tenure.Epoch, Note: note})
		return
	}
	ok, at := o.Tenure.ConfirmedAt(now, o.Lease.Terms)
	ok = ok || !o.keeps(OpenOnAcks)
	if at != 0 {
		d.lookAgainIn(at.Sub(now))
	}
	if ok && missing != "" {
		d.note("does not open epoch %d yet: %s", o.Tenure.Epoch, missing)
		return
	}
	if ok && o.Engine.State == EngineRunning && o.Engine.Healthy && o.mayServe(now) {
		d.do(Action{Kind: Open, Epoch: o.Tenure.Epoch})
	}
}

// lostSinceChosen reports that a new holder has less than it had when it was chosen, or, if it was not chosen for what it
// has, less than a candidate needs.
func (o *Observation) lostSinceChosen() bool {
	t := o.Tenure
	if t.Won != nil {
		if p, ok := t.Won.Promises[o.Self.Member]; ok {
			return p.DataID != o.Engine.DataID || o.Engine.Position.Less(p.Position)
		}
	}
	return o.Lease.Terms.Set() == nil && o.Engine.Position.DataEpoch < o.Lease.Terms.Opened
}

// termsWanted is what the holder should write into the Lease, or nil: the epoch that opened, the policy that was asked
// for, and a wait that is over.
func termsWanted(now Instant, o *Observation, desired Policy) *Terms {
	t, cur := o.Tenure, o.Lease.Terms
	next := cur
	next.Opened = max(cur.Opened, t.Epoch)
	if desired != nil {
		next = withPolicy(next, *desired)
	}
	if len(cur.Next) > 0 && cur.Stays(o.Self.Member) && t.Joint != 0 && t.sentBy(max(t.Joint, t.Learned), cur) {
		next.Members, next.Next = cur.Next, nil // it served under both (rule JointVoters)
	}
	next.Sets = o.setWanted(now, next)
	if next.PartitionWas != "" && t.Adopted != 0 && cur.Partition == next.Partition && t.sentBy(max(t.PartitionSince, t.Learned), cur) {
		next.PartitionWas = ""
	}
	if next.WaitMillis > next.LeaseMillis && t.Adopted != 0 && cur.LeaseMillis == next.LeaseMillis &&
		since(now, t.Adopted) > time.Duration(next.WaitMillis)*time.Millisecond {
		next.WaitMillis = next.LeaseMillis
	}
	if sameTerms(next, cur) {
		return nil
	}
	return &next
}

// withPolicy takes over what a policy may change while a holder serves. When L falls, the Lease keeps the old one as
// the wait until the holder has served that long under the new one.
func withPolicy(cur, want Terms) Terms {
	cur.WaitMillis = max(cur.WaitMillis, cur.LeaseMillis, want.LeaseMillis)
	if want.LeaseMillis == cur.LeaseMillis {
		cur.WaitMillis = max(cur.WaitMillis, cur.LeaseMillis)
	}
	cur.LeaseMillis, cur.HeartbeatMillis, cur.SuspectMillis = want.LeaseMillis, want.HeartbeatMillis, want.SuspectMillis
	cur.EngineTimeoutMillis = want.EngineTimeoutMillis
	if want.Partition != cur.Partition && cur.PartitionWas == "" {
		cur.PartitionWas, cur.Partition = cur.Partition, want.Partition
	}
	cur.TwoWriters, cur.EveryWaits = want.TwoWriters, want.EveryWaits
	cur.Quorum, cur.OnTooFew = want.Quorum, want.OnTooFew
	cur.MaxLagBytes, cur.Excluded, cur.MinReplicasToWrite = want.MaxLagBytes, want.Excluded, want.MinReplicasToWrite
	return cur
}

// decideCandidate takes over when there is a reason to and this member may.
func decideCandidate(now Instant, o *Observation, d *Decision) {
	if o.Lease.Epoch == 0 || o.LeaseRead == 0 {
		return
	}
	if a := o.Attempt; a != nil {
		decideAttempt(now, o, a, d)
		return
	}
	detected, ok := reasonToStand(now, o, d)
	if !ok {
		return
	}
	if why := mustNotStand(now, o, detected, d); why != "" {
		d.note("does not take over: %s", why)
		return
	}
	d.do(Action{Kind: Begin, Epoch: o.Lease.Epoch + 1, Detected: detected})
}

// reasonToStand says since when this member has a reason to replace the holder.
func reasonToStand(now Instant, o *Observation, d *Decision) (Instant, bool) {
	if _, ok := o.noWait(now, o.Lease.Holder, o.Lease.Epoch); ok {
		return o.proofSince(o.Lease.Holder), true
	}
	if o.pendingProof(now, o.Lease.Holder) > 0 {
		return o.proofSince(o.Lease.Holder), true // votes are collected meanwhile; the grant waits until it counts
	}
	in := o.SuspectIn(now)
	if in > 0 {
		d.lookAgainIn(in)
		return 0, false
	}
	return now.Add(in), true // when the suspicion began
}

// proofSince is when the first evidence about a run that counts was learned.
func (o *Observation) proofSince(run Run) Instant {
	var at Instant
	for _, p := range o.Proofs {
		stale := (p.Kind == Released || p.Kind == Asserted || p.Kind == NodeOutOfService) && p.Epoch < o.Lease.Epoch
		if p.Run == run && !stale && (at == 0 || p.Since < at) {
			at = p.Since
		}
	}
	if at == 0 {
		return max(o.LeaseSince, o.Started)
	}
	return at
}

// mustNotStand says why this member leaves it to others, or to nobody.
func mustNotStand(now Instant, o *Observation, detected Instant, d *Decision) string {
	if !d.Verdict.Eligible && !o.mayTry(now, d.Verdict, detected) {
		return d.Verdict.Message
	}
	asked := (o.Release != nil && o.Release.Target == o.Self.Member) || o.asserted(o.Lease.Holder)
	switch mode := o.Lease.Terms.Mode; {
	case mode == ModePaused:
		return "the service is paused"
	case mode != ModeAutomatic && !asked:
		return fmt.Sprintf("the mode is %s", mode)
	}
	if !o.releaseAllows(now) {
		d.lookAgainIn(10 * time.Millisecond)
		return "the primary handed over to " + o.Release.Target
	}
	if wait := o.NotBefore.Sub(now); wait > 0 {
		d.lookAgainIn(wait)
		return "the last attempt came to nothing; it tries again soon"
	}
	return ""
}

// releaseAllows: the target of a handover is left alone for suspectAfter (rule Handover).
func (o *Observation) releaseAllows(now Instant) bool {
	r := o.Release
	return r == nil || r.Target == "" || r.Target == o.Self.Member || since(now, r.At) > o.Lease.Terms.SuspectAfter()
}

func decideAttempt(now Instant, o *Observation, a *Attempt, d *Decision) {
	switch a.Phase {
	case PhasePreVote:
		decidePreVote(now, o, a, d)
	case PhasePromise:
		decidePromises(now, o, a, d)
	case PhaseGranting: // the executor reports how it went; this is for when it cannot
		left := grantTimeout - since(now, a.Began)
		if left <= 0 {
			d.do(Action{Kind: GiveUp, Epoch: a.Epoch, Note: "the Lease's API did not answer"})
			return
		}
		d.lookAgainIn(left)
	}
}

func decidePreVote(now Instant, o *Observation, a *Attempt, d *Decision) {
	if a.Released {
		d.do(Action{Kind: AskPromises, Epoch: a.Epoch})
		return
	}
	for m, r := range a.PreVotes {
		if r.Better {
			d.note("leaves it to %s, the better candidate", m)
			d.do(Action{Kind: GiveUp, Epoch: a.Epoch, Pause: yieldFor, Note: m + " is the better candidate"})
			return
		}
	}
	if !o.keeps(PreVote) || o.Lease.Terms.Majority(func(m string) bool { return o.agreed(now, a, m) }) {
		d.do(Action{Kind: AskPromises, Epoch: a.Epoch})
		return
	}
	left := preVoteTimeout - since(now, a.Began)
	if in := o.apiAgreesIn(now); o.Lease.Terms.APIVotes() && in > 0 {
		left = max(left, in+time.Millisecond) // that voter agrees by time alone
	} else if refusedByAll(o, a) {
		left = 0
	}
	if left <= 0 {
		d.note("a majority would not promise: %s", refusals(o, a))
		d.do(Action{Kind: GiveUp, Epoch: a.Epoch, Note: "a majority would not promise"})
		return
	}
	d.lookAgainIn(left)
}

// refusedByAll reports that every member answered, so that waiting longer changes nothing.
func refusedByAll(o *Observation, a *Attempt) bool {
	for _, m := range o.Lease.Terms.Names() {
		if _, ok := a.PreVotes[m]; !ok && m != o.Self.Member && o.Links[m].Open > 0 {
			return false
		}
	}
	return true
}

func refusals(o *Observation, a *Attempt) string {
	out := ""
	for _, m := range o.Lease.Terms.Names() {
		if m == o.Self.Member {
			continue
		}
		r, ok := a.PreVotes[m]
		switch {
		case !ok:
			out += m + " did not answer; "
		case !r.Agrees:
			out += m + ": " + r.Reason + "; "
		}
	}
	return out
}

func decidePromises(now Instant, o *Observation, a *Attempt, d *Decision) {
	own := a.Promises[o.Self.Member].Given // what it would go on with is its own position after the cut
	if !own || !o.Lease.Terms.Majority(func(m string) bool { return o.promised(now, a, m) }) {
		if left := promiseTimeout - since(now, a.Began); left > 0 {
			d.lookAgainIn(left)
			return
		}
		d.do(Action{Kind: GiveUp, Epoch: a.Epoch, Note: "a majority did not promise in time"})
		return
	}
	if o.outdated(now, a) {
		d.do(Action{Kind: GiveUp, Epoch: a.Epoch, Note: "evidence came after the promises, which may contradict it: they are collected again"})
		return
	}
	limit := stragglerWait
	if lag, known := o.Lag(); known && lag > 0 {
		limit = behindWait
	}
	if o.syncMissing(a) != "" {
		limit = behindWait
	}
	if left := limit - since(now, a.Began); left > 0 && o.promiseMissing(a) {
		d.lookAgainIn(left)
		return
	}
	kind, wait, ok := o.Sufficient(now, a)
	if !ok && wait > 0 {
		d.note("waits %s until the old primary's right is over", wait.Round(time.Millisecond))
		d.lookAgainIn(wait)
		return
	}
	if !ok {
		d.note("no accepted evidence that %s cannot write any more", a.Holder.Member)
		d.do(Action{Kind: GiveUp, Epoch: a.Epoch, Pause: retryMost, Note: "no accepted evidence"})
		return
	}
	if best, why := o.bestOf(now, a); !best {
		d.note("does not take over: %s", why)
		d.do(Action{Kind: GiveUp, Epoch: a.Epoch, Pause: yieldFor, Note: why})
		return
	}
	terms := o.GrantTerms(now, a)
	d.do(Action{Kind: Grant, Epoch: a.Epoch, Note: string(kind), Terms: &terms})
}

// promiseMissing reports that a member we are connected to has not answered yet.
func (o *Observation) promiseMissing(a *Attempt) bool {
	for _, m := range o.Lease.Terms.Names() {
		if _, answered := a.Promises[m]; !answered && m != o.Self.Member && o.Links[m].Open > 0 {
			return true
		}
	}
	return false
}
