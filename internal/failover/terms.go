package failover

import (
	"reflect"
	"time"
)

// MemberEntry is a member as the Lease lists it.
type MemberEntry struct {
	Name string `json:"name"`
	// Voter counts in majorities.
	Voter bool `json:"voter"`
	// Pod is the UID of the pod that has its vote; empty: any.
	Pod string `json:"pod,omitempty"`
}

// SyncSet is the synchronous set of one epoch: N named replicas, the primary excluded, and W.
type SyncSet struct {
	Epoch Epoch `json:"epoch"`
	// Primary of the epoch and its data identity: it has all that was acknowledged, so it stands for every replica.
	Primary     string `json:"primary"`
	PrimaryData string `json:"primaryData"`
	// Replicas by name, with the identity of the data that counts; an empty one counts as no data.
	Replicas map[string]string `json:"replicas"`
	// Quorum is W: so many of the replicas have what was acknowledged.
	Quorum int `json:"quorum"`
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
	// Partition is the choice in force, and PartitionWas the one before while its holder may not have learned of the
	// change yet: an isolated primary under PreferAvailability goes on, so silence proves nothing of it.
	Partition    PartitionChoice `json:"partition"`
	PartitionWas PartitionChoice `json:"partitionWas,omitempty"`
	// TwoWriters accepts LeaseExpired nevertheless: the declared exception to invariant I1.
	TwoWriters bool `json:"twoWriters,omitempty"`
	// Mode says whether members may take over by themselves; Accepted which evidence they may use.
	Mode     Mode           `json:"mode"`
	Accepted []EvidenceKind `json:"accepted"`
	// Approved is the last epoch whose holder a person lets others replace, whatever the mode.
	Approved Epoch `json:"approved,omitempty"`
	// MaxLagBytes and Excluded limit candidates.
	MaxLagBytes int64    `json:"maxLagBytes"`
	Excluded    []string `json:"excluded,omitempty"`
	// Preferred are the members that are where the primary is wanted: of equally good candidates one of them is taken.
	Preferred []string `json:"preferred,omitempty"`
	// Quorum is the W that is wanted, 0 for asynchronous replication; Sets say which one is in force. OnTooFew says
	// whether the holder goes on with fewer.
	Quorum   int            `json:"quorum,omitempty"`
	OnTooFew TooFewReplicas `json:"onTooFew,omitempty"`
	// EveryWaits: all writes that clients count as acknowledged waited for the quorum, so cutting it stops them.
	EveryWaits bool `json:"everyWaits,omitempty"`
	// Renewed grows when the holder renews its right at the API server (rule Voters, two members).
	Renewed int64 `json:"renewed,omitempty"`
	// CooldownMillis is for how long after a failover that nobody asked for no other begins by itself. Unasked is the last epoch that
	// began so, with another member than the one before or with the one that came back from such an epoch.
	CooldownMillis int64 `json:"cooldownMilliseconds,omitempty"`
	Unasked        Epoch `json:"unasked,omitempty"`
	// Turns is how many of the services under the policy, or of the cluster, may fail over at once, where there are more of them; 0: nobody waits for that.
	// TurnsIn is the Lease that counts them, with its namespace and a slash before its name where that is another one, and Behind how many turns this
	// service leaves free, at first, to those of higher priority.
	Turns   int    `json:"turns,omitempty"`
	TurnsIn string `json:"turnsIn,omitempty"`
	Behind  int    `json:"behind,omitempty"`
	// TurnsOf names the services under one policy where those of the cluster are counted, and GroupTurns is how many of them may fail over at once, of which
	// the service leaves GroupBehind free; 0: as many as of the cluster.
	TurnsOf     string `json:"turnsOf,omitempty"`
	GroupTurns  int    `json:"groupTurns,omitempty"`
	GroupBehind int    `json:"groupBehind,omitempty"`
	// MinReplicasToWrite is carried out by the engine.
	MinReplicasToWrite int `json:"minReplicasToWrite,omitempty"`
	// Opened is the last epoch that opened; Sets the synchronous set of it and of each later one.
	Opened Epoch `json:"opened,omitempty"`
	// Released is the epoch whose holder wrote here that it fenced itself completely, for those who did not hear it.
	Released Epoch     `json:"released,omitempty"`
	Sets     []SyncSet `json:"sets,omitempty"`
}

// TooFewReplicas says what a synchronous primary does when fewer than W replicas are left.
type TooFewReplicas string

// The choices.
const (
	StopWriting     TooFewReplicas = "Stop"
	ContinueWriting TooFewReplicas = "Continue"
)

// Lease is the register of (epoch, holder) as read from the API server at Version.
type Lease struct {
	Version string // resourceVersion; empty: never read
	Epoch   Epoch
	Holder  Run
	Terms   Terms
}

// APIServer is the third voter where two members vote: it acknowledges by a successful compare-and-swap of the Lease,
// at the instant it was sent. No pod has such a name.
const APIServer = "(api-server)"

// Voters are the names that count in a majority of one member list.
func Voters(members []MemberEntry) []string {
	var out []string
	for _, m := range members {
		if m.Voter {
			out = append(out, m.Name)
		}
	}
	if len(out) == 2 {
		out = append(out, APIServer)
	}
	return out
}

// VoterSets are the voter sets in force: one, or two while a change goes on (rule JointVoters).
func (t Terms) VoterSets() [][]string {
	sets := [][]string{Voters(t.Members)}
	if len(t.Next) > 0 {
		sets = append(sets, Voters(t.Next))
	}
	return sets
}

// APIVotes reports whether the API server votes in a set in force.
func (t Terms) APIVotes() bool {
	return voters(t.Members) == 2 || voters(t.Next) == 2
}

func voters(list []MemberEntry) int {
	n := 0
	for _, m := range list {
		if m.Voter {
			n++
		}
	}
	return n
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
	return majority(t.Members, yes) && (len(t.Next) == 0 || majority(t.Next, yes))
}

func majority(members []MemberEntry, yes func(member string) bool) bool {
	voters, n := 0, 0
	for _, m := range members {
		if !m.Voter {
			continue
		}
		voters++
		if yes(m.Name) {
			n++
		}
	}
	if voters == 2 {
		voters++
		if yes(APIServer) {
			n++
		}
	}
	return voters > 0 && n > voters/2
}

// Stays reports whether a member is in the list that is to come to be: next while a change goes on. One that does not may
// become primary when nobody else has the data, and hands over afterwards.
func (t Terms) Stays(name string) bool {
	list := t.Members
	if len(t.Next) > 0 {
		list = t.Next
	}
	for _, m := range list {
		if m.Name == name {
			return true
		}
	}
	return false
}

// Accepts reports whether the policy in force lets a kind of evidence count.
func (t Terms) Accepts(kind EvidenceKind) bool {
	if kind == Asserted {
		return true
	}
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

// Available reports whether the holder may be one that goes on when isolated.
func (t Terms) Available() bool {
	return t.Partition == PreferAvailability || t.PartitionWas == PreferAvailability
}

// Set is the newest synchronous set; nil while replication is asynchronous.
func (t Terms) Set() *SyncSet {
	if len(t.Sets) == 0 {
		return nil
	}
	return &t.Sets[len(t.Sets)-1]
}

// sameTerms compares all that the Lease holds. An empty list and none are the same: JSON does not tell them apart.
func sameTerms(a, b Terms) bool { return reflect.DeepEqual(a.plain(), b.plain()) }

func (t Terms) plain() Terms {
	if len(t.Next) == 0 {
		t.Next = nil
	}
	if len(t.Excluded) == 0 {
		t.Excluded = nil
	}
	if len(t.Preferred) == 0 {
		t.Preferred = nil
	}
	if len(t.Accepted) == 0 {
		t.Accepted = nil
	}
	if len(t.Sets) == 0 {
		t.Sets = nil
	}
	return t
}
