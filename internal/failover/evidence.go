package failover

import (
	"slices"
	"time"
)

// processGoneWait is how long ProcessGone must have stood: the kernel closes PID 1's sockets before it has killed the
// rest of the namespace, at most 0.2 ms were measured; 10 ms leaves room for a busy machine.
const processGoneWait = 10 * time.Millisecond

// stoppingWait is how long a holder that said so may take to fence itself before others give their attempt up: far beyond
// the 80 ms that a loaded PostgreSQL was seen to take.
const stoppingWait = 2 * time.Second

// noWait reports whether accepted evidence that needs no wait names a run, and which.
func (o *Observation) noWait(now Instant, run Run, epoch Epoch) (EvidenceKind, bool) {
	if o.ended(run) && o.Lease.Terms.Accepts(ProcessGone) {
		return ProcessGone, true
	}
	for _, p := range o.Proofs {
		if p.Run != run || !o.Lease.Terms.Accepts(p.Kind) {
			continue
		}
		switch p.Kind {
		case Released:
			if p.Epoch >= epoch {
				return Released, true
			}
		case ProcessGone:
			if since(now, p.Since) >= processGoneWait {
				return ProcessGone, true
			}
		case ContainerTerminated:
			return ContainerTerminated, true
		case NodeOutOfService, Asserted: // somebody's word about that epoch; a run that was wronged may win a later one
			if p.Epoch >= epoch {
				return p.Kind, true
			}
		}
	}
	return "", false
}

// asserted reports whether a person said that a run is dead, and thereby asked for a takeover.
func (o *Observation) asserted(run Run) bool {
	return slices.ContainsFunc(o.Proofs, func(p Proof) bool { return p.Kind == Asserted && p.Run == run && p.Epoch >= o.Lease.Epoch })
}

// pendingProof is how long until evidence that is held already counts; 0: none is pending.
func (o *Observation) pendingProof(now Instant, run Run) time.Duration {
	for _, p := range o.Proofs {
		if p.Run == run && p.Kind == ProcessGone && o.Lease.Terms.Accepts(ProcessGone) {
			if d := processGoneWait - since(now, p.Since); d > 0 {
				return d
			}
		}
	}
	return 0
}

// outdated reports whether ProcessGone came after a promise whose sender was still connected to that run: that member has
// not been asked whether it still is, so the promises must be collected again.
func (o *Observation) outdated(now Instant, a *Attempt) bool {
	if !o.keeps(Contradicted) || o.ended(a.Holder) {
		return false
	}
	kind, ok := o.noWait(now, a.Holder, a.Epoch-1)
	pending := o.pendingProof(now, a.Holder) > 0
	if !pending && (!ok || kind != ProcessGone) {
		return false
	}
	for _, p := range a.Promises {
		if p.Given && p.Contradicts {
			return true
		}
	}
	return false
}

// Contradicted takes in that a promiser still has a connection to the run that was thought to be gone.
func (o *Observation) Contradicted(run Run) {
	if !o.keeps(Contradicted) {
		return
	}
	kept := o.Proofs[:0]
	for _, p := range o.Proofs {
		if p.Run != run || p.Kind != ProcessGone {
			kept = append(kept, p)
		}
	}
	o.Proofs = kept
}

// Sufficient says which evidence allows the attempt's grant, or how long to wait for it. ok is false with wait 0 when
// nothing that is held or can be waited for will do.
func (o *Observation) Sufficient(now Instant, a *Attempt) (kind EvidenceKind, wait time.Duration, ok bool) {
	if kind, ok := o.noWait(now, a.Holder, a.Epoch-1); ok {
		return kind, 0, true
	}
	if d := o.pendingProof(now, a.Holder); d > 0 {
		return "", d, false
	}
	if o.quorumIsCut(a) {
		return QuorumCut, 0, true
	}
	if !o.silenceCounts(a) {
		return "", o.releasedSoon(now, a), false
	}
	if at := o.silentUntil(now, a); at > now {
		return "", at.Sub(now), false
	}
	return LeaseExpired, 0, true
}

// releasedSoon is how long the Released of a holder that is fencing itself is waited for; 0: it is not expected.
func (o *Observation) releasedSoon(now Instant, a *Attempt) time.Duration {
	if !o.stops(a.Holder, a.Epoch-1) || !o.Lease.Terms.Accepts(Released) {
		return 0
	}
	return max(0, stoppingWait-since(now, o.Stopping.At))
}

// quorumIsCut: where every acknowledgement waits for W replicas and R of them were cut, R + W > N, there are not enough
// left for any (rule Evidence, QuorumCut).
func (o *Observation) quorumIsCut(a *Attempt) bool {
	t := o.Lease.Terms
	return t.EveryWaits && t.Accepts(QuorumCut) && len(o.countedSets()) > 0 && o.syncMissing(a) == ""
}

// silentUntil is when nothing that voters acknowledged below the attempt's epoch can count any more.
func (o *Observation) silentUntil(now Instant, a *Attempt) Instant {
	if !o.keeps(WaitFromAcks) {
		return a.Detected.Add(o.Lease.Terms.LeaseDuration() - o.Lease.Terms.SuspectAfter())
	}
	at := a.silentUntil(o.Self, o.lower(now, a.Epoch, Run{}), now)
	if o.Lease.Terms.APIVotes() {
		wait := o.Lease.Terms.WaitDuration()
		at = max(at, o.RenewedSince.Add(wait+Drift(wait)))
	}
	return at
}

// apiAgrees reports whether the API server's vote may be counted on: at once for a holder that is proven dead, else when
// the Lease was seen unrenewed for suspectAfter since the suspicion began (rule Suspect, two members). The vote itself is
// the compare-and-swap.
func (o *Observation) apiAgrees(now Instant) bool { return o.apiAgreesIn(now) <= 0 }

func (o *Observation) apiAgreesIn(now Instant) time.Duration {
	if _, ok := o.noWait(now, o.Lease.Holder, o.Lease.Epoch); ok || o.pendingProof(now, o.Lease.Holder) > 0 || o.stops(o.Lease.Holder, o.Lease.Epoch) {
		return 0
	}
	in := o.SuspectIn(now)
	if !o.keeps(APIVoteWaits) {
		return in
	}
	suspect := o.suspectAfter()
	return max(in+suspect, suspect-since(now, o.RenewedSince))
}

// silenceCounts reports whether LeaseExpired may be evidence: the policy accepts it, more than one member votes, and
// nobody acknowledged a heartbeat of a primary that goes on when isolated.
func (o *Observation) silenceCounts(a *Attempt) bool {
	terms := o.Lease.Terms
	if !terms.Accepts(LeaseExpired) {
		return false
	}
	for _, set := range terms.VoterSets() {
		if len(set) < 2 {
			return false
		}
	}
	if terms.TwoWriters {
		return true // the declared exception
	}
	if terms.Set() == nil && terms.Available() {
		return false
	}
	for _, p := range a.Promises {
		for _, l := range p.Lower {
			if l.Partition == PreferAvailability {
				return false
			}
		}
	}
	return true
}
