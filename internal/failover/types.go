// Package failover decides who may write. It is pure: no context, client, clock, randomness or logger. Agents and the
// operator turn what they see into its values, ask, and carry out the answer.
package failover

import (
	"fmt"
	"reflect"
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
}

// Less orders positions.
func (p Position) Less(o Position) bool {
	if p.DataEpoch != o.DataEpoch {
		return p.DataEpoch < o.DataEpoch
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
	ModeCooldown  Mode = "Cooldown"
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
)

// PartitionChoice says what an isolated primary does.
type PartitionChoice string

// The partition choices.
const (
	PreferConsistency  PartitionChoice = "PreferConsistency"
	PreferAvailability PartitionChoice = "PreferAvailability"
)

// MemberEntry is a member as the Lease lists it.
type MemberEntry struct {
	Name string `json:"name"`
	// Voter counts in majorities.
	Voter bool `json:"voter"`
}

// SyncSet is the synchronous set of one epoch: named replicas, the primary excluded, and W.
type SyncSet struct {
	Epoch    Epoch             `json:"epoch"`
	Replicas map[string]string `json:"replicas"` // member name → data identity
	Quorum   int               `json:"quorum"`   // W
}

// Terms are the rest of the contract that the Lease holds, as one JSON annotation.
type Terms struct {
	// Members with or without a vote.
	Members []MemberEntry `json:"members"`
	// Next is the member list being moved to; empty when none is.
	Next []MemberEntry `json:"next,omitempty"`
	// LeaseMillis is L; WaitMillis the larger L that silence must still be waited out with.
	LeaseMillis int64 `json:"leaseMilliseconds"`
	WaitMillis  int64 `json:"waitMilliseconds"`
	// HeartbeatMillis, SuspectMillis and EngineTimeoutMillis are detection times.
	HeartbeatMillis     int64 `json:"heartbeatMilliseconds"`
	SuspectMillis       int64 `json:"suspectMilliseconds"`
	EngineTimeoutMillis int64 `json:"engineTimeoutMilliseconds"`
	// Partition is the choice in force.
	Partition PartitionChoice `json:"partition"`
	// Mode says whether members may take over by themselves; Accepted which evidence they may use.
	Mode     Mode           `json:"mode"`
	Accepted []EvidenceKind `json:"accepted"`
	// MaxLagBytes and Excluded limit candidates.
	MaxLagBytes int64    `json:"maxLagBytes"`
	Excluded    []string `json:"excluded,omitempty"`
	// MinReplicasToWrite is carried out by the engine.
	MinReplicasToWrite int `json:"minReplicasToWrite,omitempty"`
	// Opened is the last epoch that opened; Sets the synchronous set of it and of each later one.
	Opened Epoch `json:"opened,omitempty"`
	// Released is the epoch whose holder wrote here that it fenced itself completely, for those who did not hear it.
	Released Epoch     `json:"released,omitempty"`
	Sets     []SyncSet `json:"sets,omitempty"`
}

// Lease is the register of (epoch, holder) as read from the API server at Version.
type Lease struct {
	Version string // resourceVersion; empty: never read
	Epoch   Epoch
	Holder  Run
	Terms   Terms
}

// Voters are the names that count in a majority of one member list.
func Voters(members []MemberEntry) []string {
	var out []string
	for _, m := range members {
		if m.Voter {
			out = append(out, m.Name)
		}
	}
	return out
}

// VoterSets are the voter sets in force: one, or two while a change goes on.
func (t Terms) VoterSets() [][]string {
	sets := [][]string{Voters(t.Members)}
	if len(t.Next) > 0 {
		sets = append(sets, Voters(t.Next))
	}
	return sets
}

// HasMember reports whether a name is in either list.
func (t Terms) HasMember(name string) bool {
	for _, list := range [][]MemberEntry{t.Members, t.Next} {
		for _, m := range list {
			if m.Name == name {
				return true
			}
		}
	}
	return false
}

// Names are the members of both lists, each once, in order.
func (t Terms) Names() []string {
	var out []string
	seen := map[string]bool{}
	for _, list := range [][]MemberEntry{t.Members, t.Next} {
		for _, m := range list {
			if !seen[m.Name] {
				seen[m.Name] = true
				out = append(out, m.Name)
			}
		}
	}
	return out
}

// Majority reports whether yes holds for a majority of every voter set in force.
func (t Terms) Majority(yes func(member string) bool) bool {
	for _, set := range t.VoterSets() {
		n := 0
		for _, v := range set {
			if yes(v) {
				n++
			}
		}
		if len(set) == 0 || n < len(set)/2+1 {
			return false
		}
	}
	return true
}

// Accepts reports whether the policy in force lets a kind of evidence count.
func (t Terms) Accepts(kind EvidenceKind) bool {
	for _, k := range t.Accepted {
		if k == kind {
			return true
		}
	}
	return false
}

// LeaseDuration is L.
func (t Terms) LeaseDuration() time.Duration { return time.Duration(t.LeaseMillis) * time.Millisecond }

// WaitDuration is the longest L that may still be in force somewhere.
func (t Terms) WaitDuration() time.Duration {
	return time.Duration(max(t.WaitMillis, t.LeaseMillis)) * time.Millisecond
}

// HeartbeatInterval between two heartbeats of the holder.
func (t Terms) HeartbeatInterval() time.Duration {
	return time.Duration(t.HeartbeatMillis) * time.Millisecond
}

// SuspectAfter is the silence after which a voter suspects the holder.
func (t Terms) SuspectAfter() time.Duration {
	return time.Duration(t.SuspectMillis) * time.Millisecond
}

// EngineTimeout is how long an engine may leave a probe unanswered.
func (t Terms) EngineTimeout() time.Duration {
	return time.Duration(t.EngineTimeoutMillis) * time.Millisecond
}

// Margin is how much earlier than L the holder stops: max(L/10, 200 ms), rule Guard.
func Margin(l time.Duration) time.Duration { return max(l/10, 200*time.Millisecond) }

// Drift is what is added to a wait of d so that a clock that is slow by up to 0.5 % has waited long enough.
func Drift(d time.Duration) time.Duration { return d / 200 }

// sameTerms compares all that a holder may write.
func sameTerms(a, b Terms) bool { return reflect.DeepEqual(a, b) }
