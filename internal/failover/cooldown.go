package failover

import "time"

// coolsFor is for how long yet nobody takes over by itself, as this member knows it; 0: somebody may. Each member counts from when it
// learned of the epoch. The member that holds the epoch may always come back: that is no change of primary. Nor is an epoch that never
// opened anything to rest from.
func (o *Observation) coolsFor(now Instant) time.Duration {
	t := o.Lease.Terms
	if t.Unasked == 0 || t.Unasked != o.Lease.Epoch || t.Opened < o.Lease.Epoch || o.Self.Member == o.Lease.Holder.Member {
		return 0
	}
	return max(0, time.Duration(t.CooldownMillis)*time.Millisecond-since(now, o.LeaseSince))
}

// askedFor reports whether the change that an attempt is about was asked for, by the old primary's handover or by a person.
func (o *Observation) askedFor(a *Attempt) bool {
	return (o.Release != nil && o.Release.Run == a.Holder && o.Release.Target == o.Self.Member) || o.asserted(a.Holder)
}
