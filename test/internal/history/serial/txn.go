// Package serial judges what several clients saw of transactions that append to lists and read them: is there one order of
// the transactions, each carried out alone, that explains everything that was read?
//
// A list tells the order in which it was appended to, so that most of that order needs no search: it is read off the
// longest list that was seen of each key, and what remains is to find circles in a graph (as Elle does; Kingsbury and
// Alvaro, VLDB 2020). The names of what is found are Adya's.
package serial

import (
	"fmt"
	"slices"
)

// Kind of a step.
type Kind string

const (
	// Append puts Value at the end of the list.
	Append Kind = "append"
	// Read found List.
	Read Kind = "read"
)

// Op is one step of a transaction.
type Op struct {
	Kind Kind   `json:"kind"`
	Key  string `json:"key"`
	// Value of an append; no two appends to one key have the same.
	Value int `json:"value,omitempty"`
	// List that a read found.
	List []int `json:"list,omitempty"`
}

// Fate of a transaction.
type Fate string

const (
	// Committed: the client was told so.
	Committed Fate = "committed"
	// Failed: it certainly did not happen. Its appends must never be seen; what it read does not matter.
	Failed Fate = "failed"
	// Unknown: it happened if one of its appends was read, at whatever time after its call.
	Unknown Fate = "unknown"
)

// Txn is a transaction, as one client saw it.
type Txn struct {
	Client int  `json:"client"`
	Fate   Fate `json:"fate"`
	Ops    []Op `json:"ops"`
	// Call and Return are nanoseconds since the start of the history, all by one monotonic clock. Return of what is not committed
	// is only when its client gave it up.
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
}

// readOnly transactions append nothing.
func (t Txn) readOnly() bool {
	return !slices.ContainsFunc(t.Ops, func(op Op) bool { return op.Kind == Append })
}

// element is one append to one key.
type element struct {
	key   string
	value int
}

// valid refuses what no client can have written down: a mistake of the recorder is not to be taken for one of the service.
func valid(txns []Txn) error {
	appended := map[element]bool{}
	for i, txn := range txns {
		known := txn.Fate == Committed || txn.Fate == Failed || txn.Fate == Unknown
		if !known || len(txn.Ops) == 0 || txn.Return < txn.Call {
			return fmt.Errorf("transaction %d is none: %+v", i, txn)
		}
		for _, op := range txn.Ops {
			at := element{op.Key, op.Value}
			shaped := op.Kind == Append && op.List == nil || op.Kind == Read && op.Value == 0
			if !shaped || op.Key == "" {
				return fmt.Errorf("transaction %d has a step that is none: %+v", i, op)
			}
			if op.Kind == Append && appended[at] {
				return fmt.Errorf("transaction %d appends what was appended to %s before: %+v", i, op.Key, op)
			}
			if op.Kind == Append {
				appended[at] = true
			}
		}
	}
	return nil
}
