package serial

import (
	"fmt"
	"strings"
)

// Name of what is wrong.
type Name string

const (
	// Garbage was read and never appended.
	Garbage Name = "garbage"
	// Duplicate is one append twice in one list.
	Duplicate Name = "duplicate"
	// Internal: a transaction does not see its own appends, or a list changes while it runs.
	Internal Name = "internal"
	// IncompatibleOrder: of two lists that were read of a key neither is the beginning of the other.
	IncompatibleOrder Name = "incompatible order"
	// AbortedRead is an append of a failed transaction that was read.
	AbortedRead Name = "G1a, aborted read"
	// IntermediateRead is a list that ends in the middle of another transaction's appends.
	IntermediateRead Name = "G1b, intermediate read"
	// LostAppend is a committed append that the last read of its key lacks, although that began later.
	LostAppend Name = "lost append"
	// G0 and the others are circles: of appends alone, of appends and what read them, with one read of what was then
	// appended to, and with several.
	G0      Name = "G0, write cycle"
	G1c     Name = "G1c, circular information flow"
	GSingle Name = "G-single, read skew"
	G2      Name = "G2, anti-dependency cycle"
)

// Anomaly is one thing that is wrong.
type Anomaly struct {
	Name Name
	// Story tells people.
	Story string
}

// Result of a check.
type Result struct {
	// Txns by fate, and how many of unknown fate happened.
	Committed, Failed, Unknown, Applied int
	// Appends, Reads and Keys of what happened.
	Appends, Reads, Keys int
	// Anomalies that no serial order explains, or that mean that an acknowledged append is gone.
	Anomalies []Anomaly
	// RealTime are circles that need the time to close: there is a serial order, but only one in which a transaction that began
	// after another was answered comes before it, although it appends something, or although one client did both.
	RealTime []Anomaly
	// StaleReads are circles in which a transaction that only reads finds less than was answered to others before it began.
	StaleReads []Anomaly
}

func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d transactions committed, %d failed, %d of unknown fate, of which %d happened; %d appends and %d reads of %d keys",
		r.Committed, r.Failed, r.Unknown, r.Applied, r.Appends, r.Reads, r.Keys)
	for _, a := range r.Anomalies {
		fmt.Fprintf(&b, "\n%s: %s", a.Name, a.Story)
	}
	for _, a := range r.RealTime {
		fmt.Fprintf(&b, "\nin real time, %s: %s", a.Name, a.Story)
	}
	for _, a := range r.StaleReads {
		fmt.Fprintf(&b, "\na stale read, %s: %s", a.Name, a.Story)
	}
	return b.String()
}

// checker is a check under way.
type checker struct {
	txns   []Txn
	result Result
	// writers of all elements.
	writers map[element]writer
	// happened says which transactions count.
	happened []bool
	lists    map[string]*list
}

// writer is who appended an element; last says that it appended nothing more to that key.
type writer struct {
	txn  int
	last bool
}

// Check judges a history. An error says that it is not well formed.
func Check(txns []Txn) (Result, error) {
	if err := valid(txns); err != nil {
		return Result{}, err
	}
	c := &checker{txns: txns, writers: map[element]writer{}, happened: make([]bool, len(txns)), lists: map[string]*list{}}
	c.findWriters()
	c.findHappened()
	c.count()
	c.collect()
	for _, key := range c.keys() {
		c.order(key)
		c.findLost(key)
	}
	g := c.graph()
	for _, s := range searches {
		c.report(g, s)
	}
	return c.result, nil
}

func (c *checker) findWriters() {
	for i, txn := range c.txns {
		newest := map[string]int{}
		for _, op := range txn.Ops {
			if op.Kind != Append {
				continue
			}
			if before, again := newest[op.Key]; again {
				c.writers[element{op.Key, before}] = writer{txn: i}
			}
			newest[op.Key] = op.Value
			c.writers[element{op.Key, op.Value}] = writer{txn: i, last: true}
		}
	}
}

// findHappened follows reads from the committed transactions: an unknown one that was read happened, so that what it
// read itself counts as well.
func (c *checker) findHappened() {
	var todo []int
	for i, txn := range c.txns {
		if txn.Fate == Committed {
			c.happened[i] = true
			todo = append(todo, i)
		}
	}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, op := range c.txns[at].Ops {
			for _, value := range op.List {
				w, known := c.writers[element{op.Key, value}]
				if known && c.txns[w.txn].Fate == Unknown && !c.happened[w.txn] {
					c.happened[w.txn] = true
					todo = append(todo, w.txn)
				}
			}
		}
	}
}

func (c *checker) count() {
	r := &c.result
	for i, txn := range c.txns {
		switch txn.Fate {
		case Committed:
			r.Committed++
		case Failed:
			r.Failed++
		case Unknown:
			r.Unknown++
			if c.happened[i] {
				r.Applied++
			}
		}
		if c.happened[i] {
			r.countSteps(txn.Ops)
		}
	}
}

func (r *Result) countSteps(ops []Op) {
	for _, op := range ops {
		if op.Kind == Append {
			r.Appends++
		} else {
			r.Reads++
		}
	}
}

// most anomalies of one name that are told of.
const most = 3

func (c *checker) found(name Name, format string, args ...any) {
	n := 0
	for _, a := range c.result.Anomalies {
		if a.Name == name {
			n++
		}
	}
	if n < most {
		c.result.Anomalies = append(c.result.Anomalies, Anomaly{name, fmt.Sprintf(format, args...)})
	}
}
