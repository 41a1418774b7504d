package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Verdict on a history.
type Verdict string

const (
	// Ok: there is such an order for every key.
	Ok Verdict = "Ok"
	// Illegal: there is none for at least one key.
	Illegal Verdict = "Illegal"
	// Unknown: the time did not suffice for all keys, and none of the others is illegal.
	Unknown Verdict = "Unknown"
)

// Result of a check.
type Result struct {
	Verdict Verdict
	// Ops are all operations, Reads and Swaps the confirmed ones, Uncertain the others.
	Ops, Reads, Swaps, Uncertain int
	// Keys, and how many of them are illegal or could not be judged in time.
	Keys, Illegal, Unjudged int
	// Offending is the beginning of the history of the illegal key with the fewest operations, up to the first answer that
	// nothing explains.
	Offending []Op
	// Story tells people about Offending.
	Story string
}

func (r Result) String() string {
	out := fmt.Sprintf("%s: %d operations on %d keys: %d reads and %d swaps confirmed, %d uncertain",
		r.Verdict, r.Ops, r.Keys, r.Reads, r.Swaps, r.Uncertain)
	if r.Illegal+r.Unjudged > 0 {
		out += fmt.Sprintf("; %d keys illegal, %d not judged in time", r.Illegal, r.Unjudged)
	}
	return strings.TrimSuffix(out+"\n"+r.Story, "\n")
}

// Check judges a history. An error says that it is not well formed.
//
// Keys are judged one by one. What a key costs grows with the square of its operations, and with every subset of its
// uncertain ones: whoever records changes keys often (see load.Record).
func Check(ops []Op, within time.Duration) (Result, error) {
	if err := valid(ops); err != nil {
		return Result{}, err
	}
	r := count(ops)
	deadline := time.Now().Add(within)
	keys := byKey(ops)
	r.Keys = len(keys)
	for _, key := range keys {
		switch judge(key, time.Until(deadline)) {
		case Illegal:
			if r.Illegal++; r.Illegal == 1 {
				r.Offending = shortest(key, deadline)
				r.Story = story(r.Offending)
			}
		case Unknown:
			r.Unjudged++
		}
	}
	switch {
	case r.Illegal > 0:
		r.Verdict = Illegal
	case r.Unjudged > 0:
		r.Verdict = Unknown
	}
	return r, nil
}

func count(ops []Op) Result {
	r := Result{Verdict: Ok, Ops: len(ops)}
	for _, op := range ops {
		switch {
		case op.Fate != Confirmed:
			r.Uncertain++
		case op.Kind == Read:
			r.Reads++
		default:
			r.Swaps++
		}
	}
	return r
}

// byKey sorts a history by key, the keys with the fewest operations first, and each key's operations by their call.
func byKey(ops []Op) [][]Op {
	keys := map[string][]Op{}
	for _, op := range ops {
		keys[op.Key] = append(keys[op.Key], op)
	}
	out := make([][]Op, 0, len(keys))
	for _, key := range keys {
		slices.SortStableFunc(key, func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
		out = append(out, key)
	}
	slices.SortFunc(out, func(a, b []Op) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a[0].Key, b[0].Key))
	})
	return out
}

// judge one key.
func judge(ops []Op, within time.Duration) Verdict {
	if within <= 0 {
		return Unknown // porcupine takes it for no limit
	}
	return Verdict(porcupine.CheckOperationsTimeout(model, operations(ops), within))
}

// model is one key: its state is the value, empty if there is none.
var model = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := step(state.(string), input.(*Op))
		return ok, next
	},
	DescribeOperation: func(input, _ any) string { return describe(*input.(*Op)) },
	DescribeState:     func(state any) string { return quote(state.(string)) },
}

// step carries out one operation. That something never happened needs no case of its own: it has no end, so it can be
// put after everything else, where nobody sees it.
func step(state string, op *Op) (bool, string) {
	switch {
	case op.Kind == Read:
		return op.Old == state, state
	case op.Fate == Unanswered:
		return true, op.Value
	case op.Old == state:
		return true, op.Value
	}
	// It did not replace what its client was told: an unconfirmed one did not happen, and a confirmed one is no such order.
	return op.Fate == Unconfirmed, state
}

// operations gives what is not confirmed no end.
func operations(ops []Op) []porcupine.Operation {
	end := int64(0)
	for _, op := range ops {
		end = max(end, op.Return+1)
	}
	out := make([]porcupine.Operation, len(ops))
	for i := range ops {
		out[i] = porcupine.Operation{ClientId: ops[i].Client, Input: &ops[i], Call: ops[i].Call, Return: ops[i].Return}
		if ops[i].Fate != Confirmed {
			out[i].Return = end
		}
	}
	return out
}
