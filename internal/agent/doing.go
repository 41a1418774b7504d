package agent

import "understudy.dev/understudy/internal/failover"

// doing is what is under way: of each kind of action one at a time.
type doing struct {
	begun map[failover.ActionKind]int64
	count int64
}

// is reports whether one of that kind is under way.
func (d *doing) is(kind failover.ActionKind) bool { return d.begun[kind] != 0 }

// begin notes that one is, until done is called or a fence ends it. Of one that a fence ended, done may come when the next one of its kind is under
// way, as from a pause: then it says nothing of that.
func (d *doing) begin(kind failover.ActionKind) (done func()) {
	if d.begun == nil {
		d.begun = map[failover.ActionKind]int64{}
	}
	d.count++
	turn := d.count
	d.begun[kind] = turn
	return func() {
		if d.begun[kind] == turn {
			delete(d.begun, kind)
		}
	}
}

// end says that none of these kinds is under way any more.
func (d *doing) end(kinds ...failover.ActionKind) {
	for _, kind := range kinds {
		delete(d.begun, kind)
	}
}
