package serial

import (
	"cmp"
	"slices"
)

// why one transaction comes before another; a set of them is their sum.
type why uint8

const (
	// ww: the second appended right behind the first.
	ww why = 1 << iota
	// wr: the second read a list that ended with the first's append.
	wr
	// rw: the first read the list without what the second appended next.
	rw
	// rt: the first was answered before the second began, and the second appended something or is of the same client.
	rt
	// fresh: the first was answered before the second began, which only reads.
	fresh
)

type edge struct {
	to  int
	why why
	// key, and the element of the second (ww, rw) or of the first (wr).
	key   string
	value int
}

// graph has a transaction's edges by its number. What did not happen has none.
type graph [][]edge

func (g graph) add(from int, e edge) {
	if from != e.to {
		g[from] = append(g[from], e)
	}
}

func (c *checker) graph() graph {
	g := make(graph, len(c.txns))
	for _, key := range c.keys() {
		c.depend(g, key)
	}
	c.inTime(g, rt, func(second Txn) bool { return !second.readOnly() })
	c.sessions(g)
	c.inTime(g, fresh, Txn.readOnly)
	return g
}

// depend adds the edges of one key.
func (c *checker) depend(g graph, key string) {
	l := c.lists[key]
	by := func(value int) int { return c.writers[element{key, value}].txn }
	// next are the elements that come right behind the first n.
	next := func(n int) []int {
		if n < len(l.order) {
			return l.order[n : n+1]
		}
		return l.unread
	}
	for i, value := range l.order {
		for _, behind := range next(i + 1) {
			g.add(by(value), edge{by(behind), ww, key, behind})
		}
	}
	for _, r := range l.reads {
		if others := r.others(); len(others) > 0 {
			value := others[len(others)-1]
			g.add(by(value), edge{r.txn, wr, key, value})
		}
		for _, missing := range next(len(r.list)) {
			g.add(r.txn, edge{by(missing), rw, key, missing})
		}
	}
}

// inTime adds an edge from each transaction that was answered to those of a sort that began later, as few as say all of it: newest
// holds those that were answered and before no other of which that began after them was.
func (c *checker) inTime(g graph, as why, sort func(second Txn) bool) {
	type event struct {
		at    int64
		ended bool
		txn   int
	}
	var events []event
	for i, txn := range c.txns {
		if c.happened[i] {
			events = append(events, event{txn.Call, false, i})
		}
		if txn.Fate == Committed {
			events = append(events, event{txn.Return, true, i})
		}
	}
	slices.SortFunc(events, func(a, b event) int {
		switch {
		case a.at != b.at || a.ended == b.ended:
			return cmp.Compare(a.at, b.at)
		case a.ended:
			return 1 // what ends in the same instant did not end before
		}
		return -1
	})
	var newest []int
	before := map[int][]int{}
	for _, e := range events {
		switch {
		case !e.ended && sort(c.txns[e.txn]):
			before[e.txn] = slices.Clone(newest)
			for _, earlier := range newest {
				g.add(earlier, edge{to: e.txn, why: as})
			}
		case e.ended:
			newest = slices.DeleteFunc(newest, func(i int) bool { return slices.Contains(before[e.txn], i) })
			newest = append(newest, e.txn)
			delete(before, e.txn)
		}
	}
}

// sessions adds an edge from each transaction of a client to its next one: whoever was answered is not taken back, even if what it
// reads is old.
func (c *checker) sessions(g graph) {
	last := map[int]int{}
	for i, txn := range c.txns {
		if txn.Fate != Committed {
			continue
		}
		if earlier, ok := last[txn.Client]; ok && c.txns[earlier].Return < txn.Call {
			g.add(earlier, edge{to: i, why: rt})
		}
		last[txn.Client] = i
	}
}
