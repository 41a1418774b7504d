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

// asked reports whether this member is to replace the holder by somebody's wish: the holder handed over to it, or a person said that the
// holder is dead, or approved of its end beforehand.
func (o *Observation) asked() bool {
	l, r := o.Lease, o.Release
	return (r != nil && r.Run == l.Holder && r.Target == o.Self.Member) || o.asserted(l.Holder) || l.Terms.Approved == l.Epoch
}
