package serial

import (
	"cmp"
	"maps"
	"slices"
)

// list is what is known of one key.
type list struct {
	// reads that counted transactions made and that make sense by themselves.
	reads []read
	// appends of counted transactions.
	appends []int
	// order is the longest list that was read.
	order []int
	// unread are appends of counted transactions that are not in it: they come after it, in an order that nobody saw.
	unread []int
}

// read is one read of a list. The last own elements are the transaction's own.
type read struct {
	txn  int
	list []int
	own  int
}

// others is the list as others left it.
func (r read) others() []int { return r.list[:len(r.list)-r.own] }

func (c *checker) keys() []string { return slices.Sorted(maps.Keys(c.lists)) }

func (c *checker) list(key string) *list {
	if c.lists[key] == nil {
		c.lists[key] = &list{}
		c.result.Keys++
	}
	return c.lists[key]
}

// collect sorts what counts by key, and looks at each transaction by itself.
func (c *checker) collect() {
	for i, txn := range c.txns {
		if !c.happened[i] {
			continue
		}
		own, before := map[string][]int{}, map[string][]int{}
		for _, op := range txn.Ops {
			l := c.list(op.Key)
			if op.Kind == Append {
				l.appends = append(l.appends, op.Value)
				own[op.Key] = append(own[op.Key], op.Value)
				continue
			}
			r := read{i, op.List, len(own[op.Key])}
			if !c.sane(op.Key, r, own[op.Key], before) {
				continue
			}
			before[op.Key] = append([]int{}, r.others()...)
			l.reads = append(l.reads, r)
		}
	}
}

// sane says whether a read can be used; before is what the transaction's earlier reads found.
func (c *checker) sane(key string, r read, own []int, before map[string][]int) bool {
	if r.own > len(r.list) || !slices.Equal(r.list[len(r.list)-r.own:], own) {
		c.found(Internal, "it appended %s to %s before it read: %s", show(own), key, c.tell(r.txn))
		return false
	}
	if earlier, again := before[key]; again && !slices.Equal(earlier, r.others()) {
		c.found(Internal, "%s changed while it ran: %s", key, c.tell(r.txn))
		return false
	}
	seen := map[int]bool{}
	for _, value := range r.list {
		w, known := c.writers[element{key, value}]
		switch {
		case !known:
			c.found(Garbage, "nobody appended %d to %s: %s", value, key, c.tell(r.txn))
			return false
		case seen[value]:
			c.found(Duplicate, "%d is in %s twice: %s", value, key, c.tell(r.txn))
			return false
		case c.txns[w.txn].Fate == Failed:
			c.found(AbortedRead, "%d in %s is of %s\n  and was read by %s", value, key, c.tell(w.txn), c.tell(r.txn))
		}
		seen[value] = true
	}
	return true
}

// order finds the order of a key's elements, and the reads that do not fit it.
func (c *checker) order(key string) {
	l := c.lists[key]
	var longest read
	for _, r := range l.reads {
		if len(r.list) > len(longest.list) {
			longest = r
		}
	}
	l.order = longest.list
	l.reads = slices.DeleteFunc(l.reads, func(r read) bool {
		if slices.Equal(r.list, l.order[:len(r.list)]) {
			return false
		}
		c.found(IncompatibleOrder, "%s was read by %s\n  and by %s", key, c.tell(r.txn), c.tell(longest.txn))
		return true
	})
	for _, r := range l.reads {
		if n := len(r.others()); n > 0 {
			value := r.list[n-1]
			if w := c.writers[element{key, value}]; !w.last && w.txn != r.txn {
				c.found(IntermediateRead, "%d in %s was not the last append of %s\n  when it was read by %s", value, key, c.tell(w.txn), c.tell(r.txn))
			}
		}
	}
	for _, value := range l.appends {
		if !slices.Contains(l.order, value) {
			l.unread = append(l.unread, value)
		}
	}
}

// findLost looks for what the last read of a key lacks. What only an earlier read lacks is a stale read, and is found as a
// circle.
func (c *checker) findLost(key string) {
	l := c.lists[key]
	if len(l.reads) == 0 {
		return
	}
	last := slices.MaxFunc(l.reads, func(a, b read) int { return cmp.Compare(c.txns[a.txn].Call, c.txns[b.txn].Call) })
	for _, value := range l.appends {
		w := c.txns[c.writers[element{key, value}].txn]
		if w.Fate == Committed && w.Return < c.txns[last.txn].Call && !slices.Contains(last.list, value) {
			c.found(LostAppend, "%d in %s was appended by %s\n  and is missing from %s", value, key,
				c.tell(c.writers[element{key, value}].txn), c.tell(last.txn))
		}
	}
}
