package failover

import "time"

// Pace is what the heartbeats of one holder looked like lately: the mean time between two and its mean deviation, kept as
// TCP keeps its round-trip time (RFC 6298: gains of 1/8 and 1/4).
type Pace struct {
	Last      Instant
	Mean      time.Duration
	Deviation time.Duration
}

// paceDeviations is how many mean deviations beyond the mean a silence is still ordinary. For a normal distribution the
// mean deviation is 0.8 σ, so 8 of them are 6.4 σ: what the φ accrual detector calls φ ≈ 10 (Hayashibara et al., 2004).
const paceDeviations = 8

func (p *Pace) beat(now Instant) {
	if p.Last != 0 {
		gap := since(now, p.Last)
		if p.Mean == 0 {
			p.Mean, p.Deviation = gap, gap/2
		} else {
			p.Deviation += ((gap - p.Mean).Abs() - p.Deviation) / 4
			p.Mean += (gap - p.Mean) / 8
		}
	}
	p.Last = now
}

// suspectAfter is the silence after which the holder is suspected: what the policy says, or longer where its heartbeats
// have come unsteadily, but never longer than the lease, after which silence is evidence anyway.
func (o *Observation) suspectAfter() time.Duration {
	terms := o.Lease.Terms
	floor := terms.SuspectAfter()
	if o.Heard.Epoch < o.Lease.Epoch {
		return floor
	}
	adaptive := o.Heard.Pace.Mean + paceDeviations*o.Heard.Pace.Deviation
	return min(max(floor, adaptive), max(floor, terms.LeaseDuration()))
}

// OnStall takes in that this member itself did not run for a while: a machine that is too busy, or a process that was
// stopped. What it did not hear then says nothing about others.
func (o *Observation) OnStall(d time.Duration) {
	o.Stalled = min(o.Stalled+d, max(o.Lease.Terms.LeaseDuration(), o.Lease.Terms.SuspectAfter()))
}
