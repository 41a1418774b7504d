// Package wire is what agents say to each other and to the operator: JSON frames with a length in front, over mTLS.
// docs/design/2026-11-23-agent-wire.md says why it is not gRPC: how a connection ends is evidence here.
package wire

import (
	"fmt"

	"understudy.dev/understudy/internal/failover"
)

// Frame is one message; exactly one field is set.
type Frame struct {
	Hello           *Hello                    `json:"hello,omitempty"`
	Heartbeat       *failover.Heartbeat       `json:"heartbeat,omitempty"`
	Acknowledgement *failover.Acknowledgement `json:"ack,omitempty"`
	PreVote         *failover.Request         `json:"preVote,omitempty"`
	PreVoteReply    *failover.PreVoteReply    `json:"preVoteReply,omitempty"`
	PromiseRequest  *failover.Request         `json:"promiseRequest,omitempty"`
	Promise         *failover.Promise         `json:"promise,omitempty"`
	Released        *failover.Release         `json:"released,omitempty"`
	Stopping        *failover.Stopping        `json:"stopping,omitempty"`
	Position        *PositionReport           `json:"position,omitempty"`
	PositionRequest *PositionRequest          `json:"positionRequest,omitempty"`
	WatchStatus     *WatchStatus              `json:"watchStatus,omitempty"`
	Status          *Status                   `json:"status,omitempty"`
	Handover        *Handover                 `json:"handover,omitempty"`
	HandoverReply   *HandoverReply            `json:"handoverReply,omitempty"`
	Policy          *Policy                   `json:"policy,omitempty"`
	Proof           *Proof                    `json:"proof,omitempty"`
	Goodbye         *Goodbye                  `json:"goodbye,omitempty"`
}

// Proof is what only the operator sees: evidence about runs from the API server or from a person, and pods that can never
// start again.
type Proof struct {
	Evidence []failover.Evidence `json:"evidence,omitempty"`
	Gone     map[string]string   `json:"gone,omitempty"` // member → UID of its pod
}

// Policy tells the holder which terms the FailoverPolicy asks for. They become real when the holder wrote them into the
// Lease; Members, Next, Mode, Accepted, Opened and Sets in it are ignored.
type Policy struct {
	Terms failover.Terms `json:"terms"`
}

// Hello is the first frame each side sends. A peer whose certificate does not carry the member's name is refused.
type Hello struct {
	ServiceUID string       `json:"serviceUID"`
	Run        failover.Run `json:"run"` // zero for the operator
	Address    string       `json:"address,omitempty"`
}

// Goodbye announces that the sender is about to close the connection on purpose, so that its end proves nothing.
type Goodbye struct {
	Reason string `json:"reason"`
}

// PositionRequest asks a member for its position now (handover, step 2).
type PositionRequest struct {
	Epoch failover.Epoch    `json:"epoch"`
	AtMin failover.Position `json:"atMin"` // answer when reached, or when the deadline is over
}

// PositionReport answers it.
type PositionReport struct {
	Epoch    failover.Epoch    `json:"epoch"`
	Position failover.Position `json:"position"`
}

// WatchStatus asks for a Status now and after each change that is worth telling.
type WatchStatus struct{}

// Handover asks the primary to hand over (rule Handover). ID returns in the reply.
type Handover struct {
	ID     string         `json:"id"`
	Epoch  failover.Epoch `json:"epoch"`            // the epoch that is to end; another one is refused
	Target string         `json:"target,omitempty"` // empty: the best candidate
	Leaves bool           `json:"leaves,omitempty"` // its pod is about to be ended, as when its node is drained
}

// Reasons of a refused handover that leave the epoch behind: the primary hands over already, or is none any more.
const (
	NotPrimary       = "NotPrimary"
	HandoverUnderWay = "HandoverUnderWay"
)

// HandoverReply says that the primary released its right to Target, or why not.
type HandoverReply struct {
	ID     string `json:"id"`
	Target string `json:"target,omitempty"`
	// Refused is true when nothing was changed and the primary serves on: the reason and a sentence say why.
	Refused bool   `json:"refused,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Status is what a member knows of itself, for the operator.
type Status struct {
	Run          failover.Run      `json:"run"`
	Address      string            `json:"address"`
	Epoch        failover.Epoch    `json:"epoch"` // the highest it knows
	Role         string            `json:"role"`  // v1alpha1.MemberRole
	State        string            `json:"state"` // v1alpha1.MemberState
	Message      string            `json:"message,omitempty"`
	HasData      bool              `json:"hasData"`           // it has, or may have, data of this service
	Running      bool              `json:"running,omitempty"` // its engine runs, so that it knows what data it has
	DataIdentity string            `json:"dataID"`            // changes when the member lost its data
	Promise      failover.Epoch    `json:"promise"`           // 0: none
	Forgotten    bool              `json:"forgotten"`         // its promise file was missing, foreign or damaged
	Fresh        bool              `json:"fresh"`             // forgotten only since the pod is new: it never promised anything
	Position     failover.Position `json:"position"`          //
	LagBytes     int64             `json:"lagBytes"`          // behind the last heartbeat; -1 unknown
	Serving      bool              `json:"serving"`           // it is the primary and open for writes
	Routed       bool              `json:"routed"`            // it wrote itself into the EndpointSlice in this epoch
	Eligible     bool              `json:"eligible"`          // it could take over now
	Reason       string            `json:"reason"`            // the guard that refuses it
	Explanation  string            `json:"explanation"`       // and why, as a sentence
	// Configured is the digest of the reloadable configuration that the member judged last: its engine runs it, or refused it
	// and runs on with the one before, and Refused says why. Empty: it judged none yet, or its engine has none.
	Configured string `json:"configured,omitempty"`
	Refused    string `json:"refused,omitempty"`
	// PendingRestart: the parameters RestartFor take effect when the engine is started again.
	PendingRestart bool     `json:"pendingRestart,omitempty"`
	RestartFor     []string `json:"restartFor,omitempty"`
	// Stuck says why its engine does not go on until a person has put something right; nil: it does.
	Stuck *Stuck `json:"stuck,omitempty"`
	// Lost is what its data had and the primary that it rejoined last has not; nil: nothing is known of that.
	Lost *Lost `json:"lost,omitempty"`
	// Full are the volumes that have hardly any room left.
	Full []Full `json:"full,omitempty"`
	// ReadOnly are the volumes that refuse what is written, by their claim templates' names.
	ReadOnly []string `json:"readOnly,omitempty"`
	// Lease as the member read it last, so that a lost one can be made anew.
	Lease *failover.Lease `json:"lease,omitempty"`
	// GuardLatenessMicros is the largest delay the guard saw between its instant and its own wake-up.
	GuardLatenessMicros int64 `json:"guardLatenessMicros"`
	// Served is what the member knows of the last epoch it served and serves no more; nil: it served none.
	Served *Served `json:"served,omitempty"`
	// Takeovers are the changes of primary this member won, newest last, at most 8, kept as long as its pod.
	Takeovers []Takeover `json:"takeovers,omitempty"`
}

// Stuck is a dead end of a member's engine.
type Stuck struct {
	Reason  string `json:"reason"` // of the condition Stalled
	Message string `json:"message"`
}

// Full is a volume of which fewer than Least of Size bytes were left, and no more than twice that are by now.
type Full struct {
	Volume string `json:"volume"` // the claim template's name
	Least  int64  `json:"least"`
	Size   int64  `json:"size"`
}

// Left says how much to people, in numbers that do not change all the time.
func (f Full) Left() string {
	return fmt.Sprintf("less than %d of %d MiB were left when that was seen", f.Least>>20, f.Size>>20)
}

// Lost is what a member's data had and the primary's has not.
type Lost struct {
	Epoch   failover.Epoch `json:"epoch"`             // whose data it was; 0: not known
	Primary bool           `json:"primary,omitempty"` // the member wrote it as the primary of that epoch, so nobody had more
	Bytes   int64          `json:"bytes"`             // 0: it is known that nothing was lost
	// Dir on the member's volume holds it, in files from First to Last of FileBytes together; what is not Complete lacks the end.
	Dir       string `json:"dir,omitempty"`
	First     string `json:"first,omitempty"`
	Last      string `json:"last,omitempty"`
	FileBytes int64  `json:"fileBytes,omitempty"`
	Complete  bool   `json:"complete,omitempty"`
}

// Served is how far a member's data went when it was last looked at while it was the primary of an epoch.
type Served struct {
	Epoch  failover.Epoch `json:"epoch"`
	Offset int64          `json:"offset"`
}

// Takeover is the record of one change of primary, kept by the member that won it.
type Takeover struct {
	Epoch     failover.Epoch        `json:"epoch"`
	From      failover.Run          `json:"from"`
	To        failover.Run          `json:"to"`
	Evidence  failover.EvidenceKind `json:"evidence"`
	Handover  bool                  `json:"handover"` // asked for, so nothing was lost
	WallNanos int64                 `json:"wall"`     // when Detected, by the wall clock
	// Steps are nanoseconds since Detected by step name (v1alpha1.FailoverStep); Routed closes the record.
	Steps map[string]int64 `json:"steps"`
	// Base is what the new primary had of the old one's data.
	Base      failover.Position `json:"base"`
	BytesLost int64             `json:"bytesLost"` // what the last heartbeat heard says the old primary had more
	LossExact bool              `json:"lossExact"`
}
