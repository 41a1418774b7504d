// Package failover decides who may write. It is pure: no context, client, clock, randomness or logger. Agents and the
// operator turn what they see into its values, ask, and carry out the answer.
package failover

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Instant is a reading of CLOCK_BOOTTIME in nanoseconds on the machine that took it. Instants of two machines are never
// compared; a duration travels instead.
type Instant int64

// Add moves an instant by a duration.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub is the time from o to i.
func (i Instant) Sub(o Instant) time.Duration { return time.Duration(i - o) }

// Epoch grows by one each time the right to write changes hands.
type Epoch int64

// Run is one life of one member's agent. The right to write belongs to a run and to nothing wider.
type Run struct {
	Member string `json:"member"`
	PodUID string `json:"podUID"`
	BootID string `json:"bootID"`
}

// LaterThan reports whether r is a later boot of the very same pod. A boot id begins with the number of the boot, which
// the pod keeps as long as it lives; ids without one prove nothing.
func (r Run) LaterThan(o Run) bool {
	a, b := r.boot(), o.boot()
	return r.PodUID != "" && r.PodUID == o.PodUID && r.Member == o.Member && a > 0 && b > 0 && a > b
}

// BootID makes the id of a pod's nth boot.
func BootID(n int64, random string) string { return strconv.FormatInt(n, 10) + "." + random }

func (r Run) boot() int64 {
	number, _, ok := strings.Cut(r.BootID, ".")
	n, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil {
		return 0
	}
	return n
}

// IsZero reports whether no run is named.
func (r Run) IsZero() bool { return r == Run{} }

// String is the form in which a Lease names its holder.
func (r Run) String() string {
	if r.IsZero() {
		return ""
	}
	return r.Member + "_" + r.PodUID + "_" + r.BootID
}

// ParseRun reads what String wrote.
func ParseRun(s string) (Run, error) {
	if s == "" {
		return Run{}, nil
	}
	parts := strings.Split(s, "_")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return Run{}, fmt.Errorf("%q is not MEMBER_PODUID_BOOTID", s)
	}
	return Run{Member: parts[0], PodUID: parts[1], BootID: parts[2]}, nil
}

// Position is how much a member has: offsets compare only within one data epoch, the epoch of the primary with which
// the member last finished synchronising.
type Position struct {
	DataEpoch Epoch `json:"dataEpoch"`
	Offset    int64 `json:"offset"`
	// Whole: it was the primary of DataEpoch and has all that was ever written in it, whatever its offset is.
	Whole bool `json:"whole,omitempty"`
	// Inexact: Offset is a lower bound. An engine that was started on files does not know at which offset they end.
	Inexact bool `json:"inexact,omitempty"`
}

// Less orders positions.
func (p Position) Less(o Position) bool {
	switch {
	case p.DataEpoch != o.DataEpoch:
		return p.DataEpoch < o.DataEpoch
	case p.Whole || o.Whole:
		return o.Whole && !p.Whole
	}
	return p.Offset < o.Offset
}

// Mode says who decides about a failover.
type Mode string

// The modes a Lease may carry.
const (
	ModeAutomatic Mode = "Automatic"
	ModeManual    Mode = "Manual"
	ModeDryRun    Mode = "DryRun"
	ModePaused    Mode = "Paused"
)

// EvidenceKind names a reason to believe that the old primary cannot write any more.
type EvidenceKind string

// The kinds of evidence. See docs/design for how each is known.
const (
	Released            EvidenceKind = "Released"
	ProcessGone         EvidenceKind = "ProcessGone"
	ContainerTerminated EvidenceKind = "ContainerTerminated"
	NodeOutOfService    EvidenceKind = "NodeOutOfService"
	QuorumCut           EvidenceKind = "QuorumCut"
	LeaseExpired        EvidenceKind = "LeaseExpired"
	// Asserted is a person's word, in a forced Failover, that a run cannot write any more. It needs no policy's leave.
	Asserted EvidenceKind = "Asserted"
)

// PartitionChoice says what an isolated primary does.
type PartitionChoice string

// The partition choices.
const (
	PreferConsistency  PartitionChoice = "PreferConsistency"
	PreferAvailability PartitionChoice = "PreferAvailability"
)
