package serial

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// shown is how many of a list's last elements people are told.
const shown = 12

func show(list []int) string {
	var parts []string
	if len(list) > shown {
		parts = append(parts, "…")
	}
	for _, value := range list[max(0, len(list)-shown):] {
		parts = append(parts, strconv.Itoa(value))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

// tell describes a transaction.
func (c *checker) tell(at int) string {
	txn := c.txns[at]
	var ops []string
	for _, op := range txn.Ops {
		if op.Kind == Append {
			ops = append(ops, fmt.Sprintf("append %d to %s", op.Value, op.Key))
		} else {
			ops = append(ops, fmt.Sprintf("read %s of %s", show(op.List), op.Key))
		}
	}
	return fmt.Sprintf("T%d (client %d, %s – %s, %s: %s)", at, txn.Client, instant(txn.Call), instant(txn.Return), txn.Fate, strings.Join(ops, ", "))
}

func (c *checker) tellCircle(circle []step) string {
	var b strings.Builder
	fmt.Fprintf(&b, "each of %d comes before the next, and the last before the first:", len(circle))
	for _, s := range circle {
		fmt.Fprintf(&b, "\n  %s\n    %s", c.tell(s.from), s.tell())
	}
	return b.String()
}

func (s step) tell() string {
	switch s.why {
	case ww:
		return fmt.Sprintf("ww: %d of T%d is right behind an element of T%d in %s", s.value, s.to, s.from, s.key)
	case wr:
		return fmt.Sprintf("wr: T%d read %d of T%d in %s", s.to, s.value, s.from, s.key)
	case rw:
		return fmt.Sprintf("rw: T%d read %s without %d of T%d", s.from, s.key, s.value, s.to)
	}
	return fmt.Sprintf("rt: T%d was answered before T%d began", s.from, s.to)
}

func instant(nanoseconds int64) string {
	return strconv.FormatFloat(time.Duration(nanoseconds).Seconds(), 'f', 6, 64) + " s"
}
