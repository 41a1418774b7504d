package failover

import (
	"fmt"
	"time"
)

// MayVote reports whether the member may acknowledge and promise at all. A member that may have forgotten what it
// promised waits until nothing it gave can count and it read the Lease from the quorum after its start
// (rule PromiseDurable). At epoch 0 nobody ever held the right, so there is nothing to have forgotten.
func (o *Observation) MayVote(now Instant) bool {
	if o.LeaseRead == 0 {
		return false
	}
	if !o.Durable.Forgotten || o.Lease.Epoch == 0 || !o.keeps(PromiseDurable) {
		return true
	}
	wait := o.Lease.Terms.WaitDuration()
	return since(now, o.Started) > wait+Drift(wait)
}

// RememberedWait is how long until MayVote changes by time alone.
func (o *Observation) RememberedWait(now Instant) time.Duration {
	wait := o.Lease.Terms.WaitDuration()
	return wait + Drift(wait) - since(now, o.Started) + time.Millisecond
}

// Remembering is what must be on disk when the wait of a forgetful member is over: the Lease's epoch becomes its promise.
func (o *Observation) Remembering(now Instant) *Durable {
	if !o.Durable.Forgotten || !o.MayVote(now) {
		return nil
	}
	return &Durable{PodUID: o.Self.PodUID, Promise: max(o.Durable.Promise, o.Lease.Epoch), Given: o.Durable.Given}
}

// HeartbeatVerdict says what a heartbeat asks for: nothing (a reason), or an acknowledgement after Persist is durable.
type HeartbeatVerdict struct {
	Refused string
	Tell    bool     // answer although refused, so that the sender learns our promise
	Persist *Durable // must be durable before the acknowledgement; nil: it is
	// Later should be made durable too, but nothing waits for it: without it a restarted agent assumes more.
	Later *Durable
}

// OnHeartbeat looks at a heartbeat. It changes nothing that an acknowledgement would have to take back.
func (o *Observation) OnHeartbeat(now Instant, hb Heartbeat) HeartbeatVerdict {
	switch {
	case hb.To != o.Self:
		return HeartbeatVerdict{Refused: "it is for another run of this member"}
	case !o.MayVote(now):
		return HeartbeatVerdict{Refused: "this member may have forgotten a promise and waits", Tell: true}
	case hb.Epoch < o.Durable.Promise && o.keeps(PromiseForbidsFollowing):
		return HeartbeatVerdict{Refused: fmt.Sprintf("epoch %d is promised", o.Durable.Promise), Tell: true}
	case hb.Epoch < o.Lease.Epoch:
		return HeartbeatVerdict{Refused: fmt.Sprintf("the Lease has epoch %d", o.Lease.Epoch)}
	case hb.Epoch == o.Lease.Epoch && o.Lease.Holder != hb.From:
		return HeartbeatVerdict{Refused: "the Lease names another run"}
	case hb.Epoch < o.Heard.Epoch: // it was overtaken on another connection; what it says of data is of the older epoch
		return HeartbeatVerdict{Refused: fmt.Sprintf("epoch %d was heard of", o.Heard.Epoch)}
	case hb.Epoch == o.Heard.Epoch && o.Heard.Run != hb.From:
		return HeartbeatVerdict{Refused: "another run claimed this epoch"}
	case o.Tenure != nil:
		if hb.Epoch > o.Tenure.Epoch { // it is superseded, and answers after it has released its own epoch
			o.hear(now, hb)
		}
		return HeartbeatVerdict{Refused: "this member has not released its own epoch"}
	}
	o.hear(now, hb)
	switch {
	case hb.Epoch > o.Durable.Promise:
		return HeartbeatVerdict{Persist: o.durableWith(hb.Epoch, EpochRun{Epoch: hb.Epoch, Run: hb.From})}
	case !o.hasGiven(hb.From, hb.Epoch):
		return HeartbeatVerdict{Later: o.durableWith(hb.Epoch, EpochRun{Epoch: hb.Epoch, Run: hb.From})}
	}
	return HeartbeatVerdict{}
}

func (o *Observation) hear(now Instant, hb Heartbeat) {
	if hb.Epoch > o.Heard.Epoch {
		o.Heard = Heard{Run: hb.From, Epoch: hb.Epoch, Since: now}
		o.Stalled = 0
	}
	// One-way links count as broken: only a heartbeat that proves our acknowledgements arrive is heard.
	if !o.keeps(HearsBothWays) || (hb.Echo != 0 && since(now, hb.Echo) < o.suspectAfter()) {
		o.Heard.At, o.Stalled = now, 0
	}
	o.Heard.Pace.beat(now)
	if hb.Sent < o.Heard.Sent {
		return // a later one said more of the same
	}
	o.Heard.Sent = hb.Sent
	o.Heard.Position, o.Heard.Known, o.Heard.Open, o.Heard.Upstream = hb.Position, true, hb.Open, hb.Upstream
	if hb.Open { // before that its engine has somebody else's
		o.Heard.History, o.Heard.HistoryFrom = hb.History, hb.HistoryFrom
	}
}

func (o *Observation) hasGiven(run Run, epoch Epoch) bool {
	for _, g := range o.Durable.Given {
		if g.Run == run && g.Epoch == epoch {
			return true
		}
	}
	return false
}

// durableWith is what to put on disk for a promise of epoch, with one more run that may have been acknowledged.
func (o *Observation) durableWith(epoch Epoch, to EpochRun) *Durable {
	given := append([]EpochRun{}, o.Durable.Given...)
	if !to.Run.IsZero() && !o.hasGiven(to.Run, to.Epoch) {
		given = append(given, to)
	}
	if len(given) > keepGiven {
		given = given[len(given)-keepGiven:]
	}
	return &Durable{PodUID: o.Self.PodUID, Promise: max(epoch, o.Durable.Promise), Given: given}
}

// MergeGiven adds what is on record to a list that was made earlier.
func (o *Observation) MergeGiven(given []EpochRun) []EpochRun {
	merged := append([]EpochRun{}, o.Durable.Given...)
	for _, g := range given {
		if !o.hasGiven(g.Run, g.Epoch) {
			merged = append(merged, g)
		}
	}
	return merged[max(0, len(merged)-keepGiven):]
}

// Acknowledge makes the acknowledgement of a heartbeat whose promise is durable; ok is false if a newer promise came
// between. From here on the holder may count on it until the heartbeat's lease is over.
func (o *Observation) Acknowledge(now Instant, hb Heartbeat) (Acknowledgement, bool) {
	ack := Acknowledgement{From: o.Self, To: hb.From, Epoch: hb.Epoch, Echo: hb.Sent, Sent: now,
		Promise: o.Durable.Promise, Position: o.position(), DataID: o.Engine.DataID,
		Healthy: o.Engine.Healthy, Eligible: Verdict(now, o).Eligible, Forgotten: !o.MayVote(now)}
	if (o.Durable.Promise > hb.Epoch && o.keeps(PromiseForbidsFollowing)) || ack.Forgotten {
		return ack, false
	}
	o.give(now, hb)
	ack.Lower = o.lower(now, hb.Epoch, hb.From)
	return ack, true
}

func (o *Observation) give(now Instant, hb Heartbeat) {
	l := time.Duration(max(hb.LeaseMillis, hb.WaitMillis)) * time.Millisecond
	until := now.Add(l)
	kept := o.Given[:0]
	for _, g := range o.Given {
		if g.Run == hb.From && g.Epoch == hb.Epoch {
			until = max(until, g.Until)
			continue
		}
		if g.Until > now {
			kept = append(kept, g)
		}
	}
	o.Given = kept
	o.Given = append(o.Given, Given{Run: hb.From, Epoch: hb.Epoch, Until: until, Partition: hb.Partition})
}

// lower lists what this member gave to others below an epoch and what may still count.
func (o *Observation) lower(now Instant, epoch Epoch, except Run) []LowerAcknowledgement {
	var out []LowerAcknowledgement
	for _, g := range o.Given {
		if g.Epoch < epoch && g.Run != except && g.Until > now {
			out = append(out, LowerAcknowledgement{Run: g.Run, Epoch: g.Epoch, Remaining: g.Until.Sub(now), Partition: g.Partition})
		}
	}
	return out
}

// Suspects reports whether the holder was silent for too long. Rule Suspect: the timer starts at the agent's start and
// at a new epoch.
func (o *Observation) Suspects(now Instant) bool {
	return o.Lease.Epoch > 0 && o.SuspectIn(now) <= 0
}

// SuspectIn is how long until the holder is suspected if it stays silent.
func (o *Observation) SuspectIn(now Instant) time.Duration {
	from := max(o.Started, o.LeaseSince)
	if o.Heard.Epoch >= o.Lease.Epoch {
		from = max(from, o.Heard.Since, o.Heard.At)
	}
	return o.suspectAfter() + o.Stalled - since(now, from)
}

// votesFor says whether this member would promise what is asked, with the reason if not.
func (o *Observation) votesFor(now Instant, r Request) (bool, string) {
	switch {
	case r.To != o.Self:
		return false, "the request is for another run of this member"
	case !o.MayVote(now):
		return false, "this member may have forgotten a promise and waits"
	case r.Epoch != r.Known+1:
		return false, "a promise may exceed the Lease's epoch by one only"
	case r.Known < o.Lease.Epoch:
		return false, fmt.Sprintf("the Lease has epoch %d already", o.Lease.Epoch)
	case r.Known == o.Lease.Epoch && r.Holder != o.Lease.Holder:
		return false, "the Lease names another holder"
	case o.Durable.Promise > r.Epoch:
		return false, fmt.Sprintf("epoch %d is promised", o.Durable.Promise)
	case o.Tenure != nil:
		return false, "this member holds the Lease and has not released it"
	case !o.keeps(PreVote):
		return true, ""
	}
	return o.missesHolder(now, r)
}

// missesHolder says whether this member, too, has a reason to replace the holder.
func (o *Observation) missesHolder(now Instant, r Request) (bool, string) {
	if _, ok := o.noWait(now, r.Holder, r.Known); ok {
		return true, ""
	}
	if o.stops(r.Holder, r.Known) {
		return true, ""
	}
	if r.Release != nil && r.Release.Run == r.Holder && r.Release.Epoch == r.Known {
		return true, ""
	}
	for _, e := range r.Reasons {
		if e.Kind == Asserted && e.Run == r.Holder && e.Epoch >= r.Known {
			return true, ""
		}
		if e.Kind == ProcessGone && e.Run == r.Holder && o.Lease.Terms.Accepts(ProcessGone) {
			if o.connected(r.Holder) && o.keeps(Contradicted) {
				return false, "its connection to the holder is open"
			}
			return true, ""
		}
	}
	if o.Lease.Holder == r.Holder && o.Suspects(now) {
		return true, ""
	}
	return false, "it heard the holder less than suspectAfter ago"
}

// OnPreVote answers a candidate that asks first; nothing durable happens.
func (o *Observation) OnPreVote(now Instant, r Request) PreVoteReply {
	reply := PreVoteReply{From: o.Self, To: r.From, ID: r.ID, Rank: o.Rank(now)}
	o.takeFrom(now, r)
	reply.Agrees, reply.Reason = o.votesFor(now, r)
	if reply.Agrees && reply.Rank.Better(r.Rank) && o.mayStand(now, r) {
		reply.Agrees, reply.Better, reply.Reason = false, true, "it is the better candidate itself"
	}
	return reply
}

// takeFrom learns what travels with a request: a release, and what somebody else than the members saw of the holder. Only this
// member may be one that may win, and the operator may have told another alone.
func (o *Observation) takeFrom(now Instant, r Request) {
	for _, e := range r.Reasons {
		if e.Run == r.Holder && (e.Kind == Asserted || e.Kind == ContainerTerminated || e.Kind == NodeOutOfService) {
			o.OnProof(now, e)
		}
	}
	if r.Release != nil && r.Known == o.Lease.Epoch {
		o.OnRelease(now, *r.Release)
	}
	if r.Stopping != nil && r.Known == o.Lease.Epoch {
		o.OnStopping(now, *r.Stopping)
	}
}

// mayStand reports whether this member could ask for the promises itself at once.
func (o *Observation) mayStand(now Instant, r Request) bool {
	return o.ballotOf(now, r.Holder, r.Known, o.Self) == sure && Verdict(now, o).Eligible && o.releaseAllows(now) && r.Known == o.Lease.Epoch
}

// OnPromiseRequest says what must be durable before the promise is sent, or why there will be none.
func (o *Observation) OnPromiseRequest(now Instant, r Request) (*Durable, string) {
	o.takeFrom(now, r)
	if ok, reason := o.votesFor(now, r); !ok {
		return nil, reason
	}
	return o.durableWith(r.Epoch, EpochRun{Epoch: r.Known, Run: r.Holder}), ""
}

// Promised makes the promise after it is durable, the link was cut and verified, and the position was read.
func (o *Observation) Promised(now Instant, r Request, cut bool) Promise {
	p := Promise{From: o.Self, To: r.From, ID: r.ID, Epoch: r.Epoch, Version: r.Version, Cut: cut,
		Position: o.position(), DataID: o.Engine.DataID,
		Rank: o.Rank(now), Contradicts: o.connected(r.Holder)}
	p.Eligible = p.Rank.Eligible
	p.Given = o.Durable.Promise == r.Epoch && cut
	if !p.Given {
		p.Reason = "the link to the old primary could not be cut"
		if o.Durable.Promise != r.Epoch {
			p.Reason = fmt.Sprintf("epoch %d is promised", o.Durable.Promise)
		}
		return p
	}
	p.Lower = o.lower(now, r.Epoch, Run{})
	return p
}
