package failover

import (
	"slices"
	"time"
)

// Phase is how far a candidate is.
type Phase string

// The phases of an attempt.
const (
	PhasePreVote  Phase = "PreVote"
	PhasePromise  Phase = "Promise"
	PhaseGranting Phase = "Granting"
)

// Times of an attempt, as limits and not as waits: the next step follows as soon as enough members answered.
const (
	// preVoteTimeout: members that did not answer by then are taken as not answering.
	preVoteTimeout = 250 * time.Millisecond
	// promiseTimeout bounds fsync, cut and verification on every member.
	promiseTimeout = time.Second
	// grantTimeout is far beyond the deadlines of the calls that write the Lease and read it back.
	grantTimeout = 5 * time.Second
	// stragglerWait is how long a majority waits for the other connected members, so that the best of all is chosen.
	stragglerWait = 10 * time.Millisecond
	// behindWait is the same for a candidate that knows it has less than the old primary once said: one of the others
	// probably has more, and what this one lacks would be lost.
	behindWait = 250 * time.Millisecond
	// retryFirst and retryMost bound the pause between attempts; it doubles with each failure.
	retryFirst = 5 * time.Millisecond
	retryMost  = 500 * time.Millisecond
	// yieldFor is how long a better candidate is left alone.
	yieldFor = 50 * time.Millisecond
)

// Attempt is one try of one candidate to take over under one version of the Lease.
type Attempt struct {
	ID         int64
	Epoch      Epoch
	Version    string
	Holder     Run
	Phase      Phase
	Detected   Instant // when the reason for it was learned
	Began      Instant // of the phase
	PreVotes   map[string]PreVoteReply
	Promises   map[string]Arrived
	Evidence   EvidenceKind
	Promised   Instant // when promises and evidence were complete
	Asked      bool    // a handover
	handedOver []Epoch // sets whose primary released its right at a position that this member has
	waited     bool    // for its turn
	// Released: the holder itself gave its right up, or is about to, so there is nobody to disturb and no need to ask first.
	Released bool
}

// Arrived is a promise with the instant of its arrival; what it says of remaining times counts from then.
type Arrived struct {
	Promise
	At Instant
}

// Begin starts an attempt. id must differ from those of earlier attempts of this run.
func (o *Observation) Begin(now Instant, id int64, detected Instant) *Attempt {
	o.Attempt = &Attempt{ID: id, Epoch: o.Lease.Epoch + 1, Version: o.Lease.Version, Holder: o.Lease.Holder,
		Phase: PhasePreVote, Detected: detected, Began: now, PreVotes: map[string]PreVoteReply{}, Promises: map[string]Arrived{},
		Asked: o.Release != nil && o.Release.Target == o.Self.Member, Released: o.HolderReleased(now) || o.stops(o.Lease.Holder, o.Lease.Epoch)}
	return o.Attempt
}

// HolderReleased reports whether the holder gave its epoch up by its own word, and that counts.
func (o *Observation) HolderReleased(now Instant) bool {
	kind, ok := o.noWait(now, o.Lease.Holder, o.Lease.Epoch)
	return ok && kind == Released
}

// HolderGone reports whether the holder that a request is about cannot send any more.
func (o *Observation) HolderGone(now Instant, r Request) bool {
	if _, ok := o.noWait(now, r.Holder, r.Known); ok || o.stops(r.Holder, r.Known) {
		return true
	}
	return slices.ContainsFunc(r.Reasons, func(e Evidence) bool { return e.Run == r.Holder })
}

// NextPhase moves the attempt on.
func (o *Observation) NextPhase(now Instant, p Phase) {
	a := o.Attempt
	if a == nil {
		return
	}
	a.Phase, a.Began = p, now
	if p == PhaseGranting {
		for _, s := range o.countedSets() {
			if o.handedOver(s) {
				a.handedOver = append(a.handedOver, s.Epoch)
			}
		}
	}
}

// Request makes the attempt's request for one member.
func (o *Observation) Request(now Instant, to Run) Request {
	a := o.Attempt
	r := Request{From: o.Self, To: to, ID: a.ID, Epoch: a.Epoch, Version: a.Version, Holder: a.Holder, Known: a.Epoch - 1, History: o.Engine.History,
		Rank: o.Rank(now), Sent: now}
	for _, p := range o.Proofs {
		if p.Run == a.Holder {
			r.Reasons = append(r.Reasons, p.Evidence)
		}
	}
	if o.Release != nil {
		r.Release = &o.Release.Release
	}
	if o.Stopping != nil {
		r.Stopping = &o.Stopping.Stopping
	}
	return r
}

// GiveUp ends the attempt; the next one waits a little longer each time.
func (o *Observation) GiveUp(now Instant, pause time.Duration) {
	o.Attempt = nil
	o.Failures++
	o.NotBefore = now.Add(max(pause, backoff(o.Failures, o.Ordinal)))
}

// backoff doubles; ordinals keep two candidates from meeting again and again.
func backoff(failures, ordinal int) time.Duration {
	d := retryFirst
	for i := 1; i < failures && d < retryMost; i++ {
		d *= 2
	}
	return min(d, retryMost) + time.Duration(ordinal)*d/4
}

// OnPreVoteReply takes in an answer.
func (o *Observation) OnPreVoteReply(r PreVoteReply) {
	if a := o.Attempt; a != nil && r.ID == a.ID && r.To == o.Self && a.Phase == PhasePreVote {
		a.PreVotes[r.From.Member] = r
	}
}

// OnPromise takes in a promise. One of another version or epoch counts nothing (rule SameVersion).
func (o *Observation) OnPromise(now Instant, p Promise) {
	a := o.Attempt
	if a == nil || p.ID != a.ID || p.To != o.Self || p.Epoch != a.Epoch || (p.Version != a.Version && o.keeps(SameVersion)) {
		return
	}
	a.Promises[p.From.Member] = Arrived{Promise: p, At: now}
	if p.Given && p.Contradicts {
		o.Contradicted(a.Holder)
	}
}

// promised counts promises: those that members gave, the API server's, and those of pods that can never start again.
func (o *Observation) promised(now Instant, a *Attempt, m string) ballot {
	if m == APIServer {
		return sureIf(o.apiAgrees(now))
	}
	p, ok := a.Promises[m]
	if ok && p.Given {
		return o.ballotOf(now, a.Holder, a.Epoch-1, p.From)
	}
	return sureIf(!ok && o.goneFor(now, m, a))
}

// agreed counts pre-votes.
func (o *Observation) agreed(now Instant, a *Attempt, m string) ballot {
	r := a.PreVotes[m]
	switch {
	case m == APIServer:
		return sureIf(o.apiAgrees(now))
	case m == o.Self.Member:
		return o.ballotOf(now, a.Holder, a.Epoch-1, o.Self)
	case r.Agrees:
		return o.ballotOf(now, a.Holder, a.Epoch-1, r.From)
	}
	return sureIf(o.goneFor(now, m, a))
}

// GrantTerms are the terms that a grant writes: the new synchronous set, and the members without those that were counted
// by proof; they return through next.
func (o *Observation) GrantTerms(now Instant, a *Attempt) Terms {
	terms := o.Lease.Terms
	terms.Sets = o.nextSet(a.Epoch, o.Lease.Terms)
	pods := map[string]string{a.Holder.Member: a.Holder.PodUID, o.Self.Member: o.Self.PodUID}
	for m, p := range a.Promises {
		if p.Given {
			pods[m] = p.From.PodUID
		}
	}
	terms = terms.named(pods)
	if came := a.Holder.Member != o.Self.Member; !o.asked() && (came || terms.Unasked == o.Lease.Epoch) {
		terms.Unasked = a.Epoch // the return of the same member ends no pause
	}
	answered := func(m string) bool { return m == APIServer && o.apiAgrees(now) || a.Promises[m].Given }
	if terms.Majority(answered) {
		return terms
	}
	without := func(list []MemberEntry) []MemberEntry {
		return slices.DeleteFunc(slices.Clone(list), func(m MemberEntry) bool { return !a.Promises[m.Name].Given && o.goneFor(now, m.Name, a) })
	}
	terms.Members = oddVotes(without(terms.Members))
	terms.Next = without(terms.Next)
	return terms
}

// oddVotes gives every member of a short list its vote: without it one of two voters could not be replaced by another.
func oddVotes(list []MemberEntry) []MemberEntry {
	for i := range list {
		list[i].Voter = list[i].Voter || len(list) <= 3
	}
	return list
}

// VoidPromise drops what a member promised in an earlier life.
func (o *Observation) VoidPromise(run Run) {
	if a := o.Attempt; a != nil {
		if p, ok := a.Promises[run.Member]; ok && p.From != run {
			delete(a.Promises, run.Member)
		}
	}
}

// silentUntil is when nothing that the promisers gave below the epoch can count any more.
func (a *Attempt) silentUntil(self Run, own []LowerAcknowledgement, now Instant) Instant {
	var at Instant
	later := func(from Instant, l LowerAcknowledgement) {
		if l.Run != self {
			at = max(at, from.Add(l.Remaining+Drift(l.Remaining)))
		}
	}
	for _, p := range a.Promises {
		if p.Given {
			for _, l := range p.Lower {
				later(p.At, l)
			}
		}
	}
	for _, l := range own {
		later(now, l)
	}
	return at
}
