package members

import (
	"fmt"
	"strings"

	"understudy.dev/understudy/internal/wire"
)

// Digest is equal for two statuses that differ in nothing the operator acts on or shows. Positions and lag change with
// each write and are left out: a member whose lag crosses the limit changes its State.
func Digest(s *wire.Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s|%d|%s|%s|%t|%d|%t|%t|%t|%t|%t|%s",
		s.Run, s.Epoch, s.Role, s.State, s.HasData, s.Promise, s.Forgotten, s.Fresh, s.Serving, s.Routed, s.Eligible, s.DataIdentity)
	if !s.Eligible {
		b.WriteString("|" + s.Reason)
	}
	if s.Configured != "" {
		fmt.Fprintf(&b, "|%s,%s,%t,%s", s.Configured, s.Refused, s.PendingRestart, strings.Join(s.RestartFor, ","))
	}
	if s.Served != nil && !s.Serving {
		fmt.Fprintf(&b, "|%d,%d", s.Served.Epoch, s.Served.Offset)
	}
	if s.Stuck != nil {
		fmt.Fprintf(&b, "|stuck %s", *s.Stuck)
	}
	if len(s.Full) > 0 {
		fmt.Fprintf(&b, "|full %v", s.Full)
	}
	if len(s.ReadOnly) > 0 {
		fmt.Fprintf(&b, "|read-only %v", s.ReadOnly)
	}
	if s.Lost != nil {
		fmt.Fprintf(&b, "|lost %v", *s.Lost)
	}
	for _, t := range s.Takeovers {
		fmt.Fprintf(&b, "|%d,%d,%d,%t", t.Epoch, len(t.Steps), t.BytesLost, t.LossExact)
	}
	return b.String()
}
