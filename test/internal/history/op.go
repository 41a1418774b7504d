// Package history judges what several clients saw of the same keys at the same time: is there one order of their
// operations, each taking effect at an instant between its call and its answer, that explains every answer?
//
// Only what WAIT confirmed is held against the service, because that is what a synchronous service promises. A client
// runs on one connection
//
//	swap:  MULTI / GET key / SET key value / EXEC, then WAIT W
//	read:  MULTI / GET key / INCR fence    / EXEC, then WAIT W
//
// The fence makes a read confirmable: W replicas had the INCR from this very primary, so no later primary had opened
// when the GET was carried out. What WAIT did not confirm is no read at all, and a swap that may have happened or not.
// What was refused, or never sent, is in no history.
package history

import "fmt"

// Kind of an operation.
type Kind string

const (
	// Read found Old.
	Read Kind = "read"
	// Swap replaced Old by Value.
	Swap Kind = "swap"
)

// Fate says how much of an operation is certain.
type Fate string

const (
	// Confirmed by WAIT: it happened, before it returned.
	Confirmed Fate = "confirmed"
	// Unconfirmed: a primary answered EXEC and WAIT did not confirm it. It may last or not. If it does, it replaced Old:
	// a later primary continues what the earlier one did in the same order, or without it.
	Unconfirmed Fate = "unconfirmed"
	// Unanswered: sent, and nothing is known. It may happen at any later time, or never.
	Unanswered Fate = "unanswered"
)

// Op is one operation, as one client saw it.
type Op struct {
	Client int    `json:"client"`
	Key    string `json:"key"`
	Kind   Kind   `json:"kind"`
	Fate   Fate   `json:"fate"`
	// Value that a swap wrote; no two swaps write the same.
	Value string `json:"value,omitempty"`
	// Old is what was found there, empty if there was nothing. Of an unanswered swap it is not known.
	Old string `json:"old,omitempty"`
	// Call and Return are nanoseconds since the start of the history, all by one monotonic clock. Unless it is confirmed, an
	// operation has no end: Return is only when its client gave it up.
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
}

// valid refuses what no client can have written down: a mistake of the recorder is not to be taken for one of the service.
func valid(ops []Op) error {
	written := map[[2]string]bool{}
	for i, op := range ops {
		known := op.Fate == Confirmed || op.Kind == Swap && (op.Fate == Unconfirmed || op.Fate == Unanswered && op.Old == "")
		shaped := op.Kind == Read && op.Value == "" || op.Kind == Swap && op.Value != ""
		if !known || !shaped || op.Key == "" || op.Return < op.Call {
			return fmt.Errorf("operation %d is none: %+v", i, op)
		}
		if op.Kind == Swap {
			if written[[2]string{op.Key, op.Value}] {
				return fmt.Errorf("operation %d writes a value for the second time: %+v", i, op)
			}
			written[[2]string{op.Key, op.Value}] = true
		}
	}
	return nil
}
