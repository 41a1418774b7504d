package agent

import (
	"time"

	"understudy.dev/understudy/internal/failover"
)

// clock compares the wall clock with CLOCK_BOOTTIME: a jump between them may be a pause that was hidden from one of
// them, and then nobody knows whether the lease still holds (rule Clock).
type clock struct {
	offset time.Duration                // wall − boottime
	read   func() (time.Duration, bool) // false: the two could not be read close enough together
}

func newClock(read func() (time.Duration, bool)) clock {
	c := clock{read: read}
	c.offset, _ = c.read()
	return c
}

// jumped reports a jump beyond the margin and takes the new offset as the one to compare with.
func (c *clock) jumped(terms failover.Terms) bool {
	offset, ok := c.read()
	if !ok {
		return false
	}
	jump := (offset - c.offset).Abs()
	c.offset = offset
	return terms.LeaseMillis > 0 && jump > failover.Margin(terms.LeaseDuration())
}
