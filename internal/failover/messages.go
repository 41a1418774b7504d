package failover

import "time"

// Heartbeat is what the holder sends to every member. Instants in it are the sender's and come back as they are.
type Heartbeat struct {
	From  Run     `json:"from"`
	To    Run     `json:"to"`
	Epoch Epoch   `json:"epoch"`
	Sent  Instant `json:"sent"`
	// LeaseMillis, WaitMillis and Partition are those the sender serves under.
	LeaseMillis int64           `json:"l"`
	WaitMillis  int64           `json:"wl"`
	Partition   PartitionChoice `json:"partition"`
	// Echo is the newest instant at which the receiver sent an acknowledgement that the sender has; 0: none.
	Echo Instant `json:"echo"`
	// Position of the sender and whether its engine is open for writes.
	Position Position `json:"position"`
	Open     bool     `json:"open"`
	// Upstream is the address at which replicas find the sender's engine.
	Upstream string `json:"upstream"`
	// History of the sender's engine; a replica that has it has synchronised with this epoch's primary.
	History     string `json:"history,omitempty"`
	HistoryFrom int64  `json:"historyFrom,omitempty"`
	// LeaseVersion the sender knows.
	LeaseVersion string `json:"leaseVersion"`
}

// LowerAcknowledgement is an acknowledgement of an epoch below the promised one that may still count for its run.
type LowerAcknowledgement struct {
	Run       Run           `json:"run"`
	Epoch     Epoch         `json:"epoch"`
	Remaining time.Duration `json:"remaining"` // until it cannot count any more, by the sender's clock
	// Partition is the choice of the heartbeat that was acknowledged.
	Partition PartitionChoice `json:"partition"`
}

// Acknowledgement answers a heartbeat. It is a durable promise of the heartbeat's epoch.
type Acknowledgement struct {
	From  Run     `json:"from"`
	To    Run     `json:"to"`
	Epoch Epoch   `json:"epoch"`
	Echo  Instant `json:"echo"` // Sent of the heartbeat
	Sent  Instant `json:"sent"` // the acknowledger's own clock, comes back as Heartbeat.Echo
	// Promise is the acknowledger's own promise; above Epoch it is a refusal.
	Promise  Epoch                  `json:"promise"`
	Position Position               `json:"position"`
	DataID   string                 `json:"dataID"`
	Healthy  bool                   `json:"healthy"`
	Eligible bool                   `json:"eligible"`
	Lower    []LowerAcknowledgement `json:"lower,omitempty"`
	// Forgotten acknowledgers may not count; they say so instead of being silent.
	Forgotten bool `json:"forgotten,omitempty"`
}

// Evidence is one reason to believe that a run cannot write any more.
type Evidence struct {
	Kind EvidenceKind `json:"kind"`
	Run  Run          `json:"run"`
	// Epoch that the run held, for Released.
	Epoch Epoch `json:"epoch,omitempty"`
}

// Request asks a member for a pre-vote or a promise.
type Request struct {
	From    Run     `json:"from"`
	To      Run     `json:"to"`
	ID      int64   `json:"id"` // one attempt of one candidate
	Epoch   Epoch   `json:"epoch"`
	Version string  `json:"version"` // resourceVersion of the Lease it is asked under
	Holder  Run     `json:"holder"`
	Known   Epoch   `json:"known"` // the Lease's epoch: Epoch − 1
	Reasons Reasons `json:"reasons"`
	Rank    Rank    `json:"rank"`
	Sent    Instant `json:"sent"`
	// Upstream is the candidate's engine (host:port), for who promises and may follow it soon.
	Upstream string `json:"upstream,omitempty"`
	// History that the candidate's offset counts in.
	History string   `json:"history,omitempty"`
	Release *Release `json:"release,omitempty"` // travels with the request, rule PreVote
	// Stopping travels with it too.
	Stopping *Stopping `json:"stopping,omitempty"`
}

// Reasons is the evidence the candidate holds itself.
type Reasons []Evidence

// PreVoteReply says whether the member would promise.
type PreVoteReply struct {
	From   Run    `json:"from"`
	To     Run    `json:"to"`
	ID     int64  `json:"id"`
	Agrees bool   `json:"agrees"`
	Reason string `json:"reason,omitempty"`
	// Rank of the replier; Better says that it is the better candidate and asks for itself.
	Rank   Rank `json:"rank"`
	Better bool `json:"better,omitempty"`
}

// Promise is a member's durable word that it no longer acknowledges any epoch below Epoch.
type Promise struct {
	From    Run    `json:"from"`
	To      Run    `json:"to"`
	ID      int64  `json:"id"`
	Given   bool   `json:"given"`
	Reason  string `json:"reason,omitempty"`
	Epoch   Epoch  `json:"epoch"`
	Version string `json:"version"`
	// Cut says that the replication link to anything below Epoch was verified to be cut before Position was read.
	Cut      bool                   `json:"cut"`
	Position Position               `json:"position"`
	DataID   string                 `json:"dataID"`
	Eligible bool                   `json:"eligible"`
	Rank     Rank                   `json:"rank"`
	Lower    []LowerAcknowledgement `json:"lower,omitempty"`
	// Contradicts says that the member got a frame from the old run after the candidate saw it end.
	Contradicts bool `json:"contradicts,omitempty"`
}

// Stopping is the irrevocable word of a run that it fences itself and will not serve an epoch again. Its engine may not be dead
// yet, so it is a reason to stand and to promise, and evidence of nothing: Released follows.
type Stopping struct {
	Run   Run   `json:"run"`
	Epoch Epoch `json:"epoch"`
}

// Release is the irrevocable word of a run that it fenced itself completely in an epoch.
type Release struct {
	Run      Run      `json:"run"`
	Epoch    Epoch    `json:"epoch"`
	Position Position `json:"position"`
	// Final: writes had been held back before, so that Position is all there ever was in the epoch.
	Final bool `json:"final,omitempty"`
	// Target is the member asked to take over; the others leave it Handover milliseconds.
	Target string `json:"target,omitempty"`
}

// Rank orders candidates: position first, then who stays, then preference, then the lower ordinal.
type Rank struct {
	Eligible  bool     `json:"eligible"`
	Position  Position `json:"position"`
	Preferred bool     `json:"preferred,omitempty"`
	Ordinal   int      `json:"ordinal"`
	// Stays: it is not being removed from the service.
	Stays bool `json:"stays,omitempty"`
}

// Better reports whether r goes before o.
func (r Rank) Better(o Rank) bool {
	switch {
	case r.Eligible != o.Eligible:
		return r.Eligible
	case o.Position.Less(r.Position):
		return true
	case r.Position.Less(o.Position):
		return false
	case r.Stays != o.Stays:
		return r.Stays
	case r.Preferred != o.Preferred:
		return r.Preferred
	default:
		return r.Ordinal < o.Ordinal
	}
}
