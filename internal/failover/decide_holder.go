package failover

import (
	"fmt"
	"time"
)

// releaseWait is how long a holder that was granted an epoch may need to open before it gives the epoch up.
const releaseWait = 2 * time.Second

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
	return o.servesUntil()
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
	if in, ok := o.renewIn(now); ok && in <= 0 {
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
		next.Sets = o.nextSet(t.Epoch+1, o.Lease.Terms)
		if next.Unasked == t.Epoch {
			next.Unasked++ // it is the same run's
		}
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
		next.Sets = o.nextSet(o.Tenure.Epoch, o.Lease.Terms)
		d.do(Action{Kind: WriteTerms, Epoch: o.Tenure.Epoch, Terms: &next}) // the set is in force before the engine opens
		return
	}
	missing, surpassed := o.syncConfirmed(o.Tenure)
	if left := behindWait - since(now, o.Tenure.Learned); surpassed != "" && left > 0 && o.awaits(o.Tenure.acknowledged) {
		d.lookAgainIn(left) // the old primary, which has most, may be the first to answer
		return
	}
	if surpassed != "" {
		note := "others have more of the data that was acknowledged: " + surpassed
		d.note("gives epoch %d up: %s", o.Tenure.Epoch, note)
		d.do(Action{Kind: Fence, Epoch: o.Tenure.Epoch, Note: note})
		return
	}
	ok, at := o.ConfirmedAt(now)
	ok = ok || !o.keeps(OpenOnAcks)
	if at != 0 {
		d.lookAgainIn(at.Sub(now))
	}
	// Those it was granted by may have ended before they acknowledged. That the right of whoever was before is over is what the grant
	// says; a Lease that the operator made anew says nothing of the kind.
	if pods := o.podsWanted(now); !ok && o.Tenure.Won != nil && len(pods) > 0 {
		next := o.Lease.Terms.named(pods)
		d.do(Action{Kind: WriteTerms, Epoch: o.Tenure.Epoch, Terms: &next})
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
	if len(cur.Next) > 0 && cur.Stays(o.Self.Member) && t.Joint != 0 && o.sentBy(max(t.Joint, t.Learned)) {
		next.Members, next.Next = cur.Next, nil // it served under both (rule JointVoters)
	}
	if pods := o.podsWanted(now); len(pods) > 0 {
		next = next.named(pods)
	}
	next.Sets = o.setWanted(now, next)
	if next.PartitionWas != "" && t.Adopted != 0 && cur.Partition == next.Partition && o.sentBy(max(t.PartitionSince, t.Learned)) {
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
