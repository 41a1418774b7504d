package failover

import (
	"fmt"
	"slices"
	"time"
)

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
		if o.Turn.Taken && o.Turn.Epoch > o.Lease.Epoch { // the epoch that it was taken for does not begin
			d.do(Action{Kind: EndTurn, Epoch: o.Turn.Epoch})
		}
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
	if o.stops(o.Lease.Holder, o.Lease.Epoch) {
		return o.Stopping.At, true // as much is done meanwhile as can be
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
	asked := o.asked()
	switch mode := o.Lease.Terms.Mode; {
	case mode == ModePaused:
		return "the service is paused"
	case mode != ModeAutomatic && !asked:
		return fmt.Sprintf("the mode is %s", mode)
	}
	if left := o.coolsFor(now); left > 0 && !asked {
		d.lookAgainIn(left)
		return fmt.Sprintf("epoch %d began by itself not long ago, and the policy's cooldown is not over", o.Lease.Epoch)
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
	if in := o.pendingProof(now, a.Holder); in > 0 {
		d.lookAgainIn(in) // votes may count then that do not yet
	}
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
		askPromises(now, o, a, d)
		return
	}
	for m, r := range a.PreVotes {
		if r.Better {
			d.note("leaves it to %s, the better candidate", m)
			d.do(Action{Kind: GiveUp, Epoch: a.Epoch, Pause: yieldFor, Note: m + " is the better candidate"})
			return
		}
	}
	if !o.keeps(PreVote) || o.Lease.Terms.outvotes(func(m string) ballot { return o.agreed(now, a, m) }) {
		askPromises(now, o, a, d)
		return
	}
	left := preVoteTimeout - since(now, a.Began)
	if in := o.apiAgreesIn(now); o.Lease.Terms.APIVotes() && in > 0 {
		left = max(left, in+time.Millisecond) // that voter agrees by time alone
	} else if !o.awaits(func(m string) bool { _, ok := a.PreVotes[m]; return ok }) {
		left = 0
	}
	if left <= 0 {
		d.note("a majority would not promise: %s", refusals(now, o, a))
		d.do(Action{Kind: GiveUp, Epoch: a.Epoch, Note: "a majority would not promise"})
		return
	}
	d.lookAgainIn(left)
}

// awaits reports that a member we are connected to has not answered yet; if none is left, waiting longer changes nothing.
func (o *Observation) awaits(answered func(member string) bool) bool {
	return slices.ContainsFunc(o.Lease.Terms.Names(), func(m string) bool {
		return m != o.Self.Member && o.Links[m].Open > 0 && !answered(m)
	})
}

func refusals(now Instant, o *Observation, a *Attempt) string {
	out := ""
	for _, m := range o.Lease.Terms.Names() {
		r, ok := a.PreVotes[m]
		switch {
		case o.agreed(now, a, m) == doubtful:
			out += m + " has a new pod, whose vote is in doubt while nothing proves that the one before has ended; "
		case m == o.Self.Member:
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
	if !own || !o.Lease.Terms.outvotes(func(m string) ballot { return o.promised(now, a, m) }) {
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
	if o.syncMissing(a) != "" || o.surpassed(promisedData(a), o.handedOver) != "" {
		limit = behindWait
	}
	if left := limit - since(now, a.Began); left > 0 && o.awaits(func(m string) bool { _, ok := a.Promises[m]; return ok }) {
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
