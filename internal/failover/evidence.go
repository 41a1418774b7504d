package failover

import "time"

// processGoneWait is how long ProcessGone must have stood: the kernel closes PID 1's sockets before it has killed the
// rest of the namespace, at most 0.2 ms were measured; 10 ms leaves room for a busy machine.
const processGoneWait = 10 * time.Millisecond

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
		case ContainerTerminated, NodeOutOfService:
			return p.Kind, true
		}
	}
	return "", false
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

// Contradicted takes in that a promiser still has a connection to the run that was thought to be gone.
func (o *Observation) Contradicted(run Run) {
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
	if !o.silenceCounts(a) {
		return "", 0, false
	}
	if d := a.silentUntil(o.Self, o.lower(now, a.Epoch, Run{}), now); d > now {
		return "", d.Sub(now), false
	}
	return LeaseExpired, 0, true
}

// silenceCounts reports whether LeaseExpired may be evidence: the policy accepts it, more than one member votes, and
// nobody acknowledged a heartbeat of a primary that goes on when isolated.
func (o *Observation) silenceCounts(a *Attempt) bool {
	terms := o.Lease.Terms
	if !terms.Accepts(LeaseExpired) || terms.Partition == PreferAvailability {
		return false
	}
	for _, set := range terms.VoterSets() {
		if len(set) < 2 {
			return false
		}
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
