package agent

import (
	"time"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/guard"
)

// clock compares the wall clock with CLOCK_BOOTTIME: a jump between them may be a pause that was hidden from one of
// them, and then nobody knows whether the lease still holds (rule Clock).
type clock struct {
	offset time.Duration // wall − boottime
}

func wallOffset() time.Duration { return time.Duration(time.Now().UnixNano() - int64(guard.Now())) }

func newClock() clock { return clock{offset: wallOffset()} }

// jumped reports a jump beyond the margin and takes the new offset as the one to compare with.
func (c *clock) jumped(_ failover.Instant, terms failover.Terms) bool {
	offset := wallOffset()
	jump := (offset - c.offset).Abs()
	c.offset = offset
	return terms.LeaseMillis > 0 && jump > failover.Margin(terms.LeaseDuration())
}
