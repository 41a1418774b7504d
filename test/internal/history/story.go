package history

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// told is how many of the last operations a story lists.
const told = 25

// shortest is the shortest beginning of an illegal key's history that is illegal: whatever continues an illegal history
// is illegal as well, so that it is found by halving.
func shortest(ops []Op, deadline time.Time) []Op {
	var ends []int64
	for _, op := range ops {
		if op.Fate == Confirmed {
			ends = append(ends, op.Return)
		}
	}
	slices.Sort(ends)
	low, high := 0, len(ends)-1
	for low < high {
		middle := (low + high) / 2
		if judge(until(ops, ends[middle]), time.Until(deadline)) == Illegal {
			high = middle
		} else {
			low = middle + 1 // or the time is up, and the story is longer than it might be
		}
	}
	return until(ops, ends[high])
}

// until is what was known of a history at one instant: of what had not returned, reads say nothing and swaps have an
// unknown fate.
func until(ops []Op, end int64) []Op {
	var out []Op
	for _, op := range ops {
		switch {
		case op.Call > end:
			continue
		case op.Fate == Confirmed && op.Return > end && op.Kind == Read:
			continue
		case op.Fate == Confirmed && op.Return > end:
			op.Fate, op.Old = Unanswered, ""
		}
		out = append(out, op)
	}
	return out
}

// story tells why the last answer of a shortest illegal history cannot be.
func story(ops []Op) string {
	confirmed := func(op Op) bool { return op.Fate == Confirmed }
	odd := slices.MaxFunc(slices.Collect(filter(ops, confirmed)), func(a, b Op) int { return cmp.Compare(a.Return, b.Return) })
	var b strings.Builder
	fmt.Fprintf(&b, "Key %s: nothing explains %s.\n", odd.Key, sentence(odd))
	if odd.Old != "" {
		tell(&b, ops, odd.Old)
	}
	from := max(0, len(ops)-told)
	fmt.Fprintf(&b, "The last %d of the %d operations until then:\n", len(ops)-from, len(ops))
	for _, op := range ops[from:] {
		fmt.Fprintf(&b, "  %s\n", line(op))
	}
	return b.String()
}

func filter(ops []Op, keep func(Op) bool) func(yield func(Op) bool) {
	return func(yield func(Op) bool) {
		for _, op := range ops {
			if keep(op) && !yield(op) {
				return
			}
		}
	}
}

// tell says where a value came from and what became of it.
func tell(b *strings.Builder, ops []Op, value string) {
	writer := slices.IndexFunc(ops, func(op Op) bool { return op.Kind == Swap && op.Value == value })
	if writer < 0 {
		fmt.Fprintf(b, "Nobody wrote %s.\n", quote(value))
		return
	}
	fmt.Fprintf(b, "%s came from %s.\n", quote(value), sentence(ops[writer]))
	replaced := func(op Op) bool { return op.Kind == Swap && op.Old == value }
	for op := range filter(ops, replaced) {
		fmt.Fprintf(b, "It was replaced by %s.\n", sentence(op))
	}
}

func sentence(op Op) string {
	return fmt.Sprintf("client %d's %s at %s (%s)", op.Client, describe(op), instant(op.Call), op.Fate)
}

func line(op Op) string {
	end := instant(op.Return)
	if op.Fate != Confirmed {
		end = "?"
	}
	return fmt.Sprintf("%s – %s  client %d  %s  %s", instant(op.Call), end, op.Client, describe(op), op.Fate)
}

func describe(op Op) string {
	switch {
	case op.Kind == Read:
		return "read of " + quote(op.Old)
	case op.Fate == Unanswered:
		return "swap of something for " + quote(op.Value)
	}
	return "swap of " + quote(op.Old) + " for " + quote(op.Value)
}

func quote(value string) string {
	if value == "" {
		return "nothing"
	}
	return strconv.Quote(value)
}

func instant(nanoseconds int64) string {
	return strconv.FormatFloat(time.Duration(nanoseconds).Seconds(), 'f', 6, 64) + " s"
}

// Visualize writes a page that shows Offending and how far an order of it comes.
func (r Result) Visualize(path string) error {
	_, info := porcupine.CheckOperationsVerbose(model, operations(r.Offending), time.Minute)
	if err := porcupine.VisualizePath(model, info, path); err != nil {
		return fmt.Errorf("drawing the history of an illegal key: %w", err)
	}
	return nil
}
