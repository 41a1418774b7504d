package serial

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// world carries out transactions one by one, as clients that overlap in time would see it.
type world struct {
	random *rand.Rand
	lists  map[string][]int
	values int
	txns   []Txn
}

// history is n transactions of four clients: client i's instants of effect are i modulo four, and it begins before and is
// answered after, beside three others.
func history(seed uint64, n int) *world {
	w := &world{random: rand.New(rand.NewPCG(seed, 1)), lists: map[string][]int{}}
	for i := range n {
		at := int64(i) * 10
		txn := Txn{Client: i % 4, Call: at - w.random.Int64N(18), Return: at + w.random.Int64N(18), Fate: Committed}
		happens := true
		switch w.random.IntN(20) {
		case 0:
			txn.Fate, happens = Failed, false
		case 1:
			txn.Fate = Unknown
		case 2:
			txn.Fate, happens = Unknown, false
		}
		w.carryOut(&txn, i/200, happens)
		w.txns = append(w.txns, txn)
	}
	return w
}

func (w *world) carryOut(txn *Txn, generation int, happens bool) {
	before := map[string][]int{}
	for key, list := range w.lists {
		before[key] = list
	}
	for range 1 + w.random.IntN(4) {
		key := fmt.Sprintf("k%d:%d", w.random.IntN(3), generation)
		if w.random.IntN(2) == 0 {
			w.values++
			w.lists[key] = append(slices.Clone(w.lists[key]), w.values)
			txn.Ops = append(txn.Ops, Op{Kind: Append, Key: key, Value: w.values})
			continue
		}
		txn.Ops = append(txn.Ops, Op{Kind: Read, Key: key, List: w.lists[key]})
	}
	if !happens {
		w.lists = before
	}
}

// end reads every key once more.
func (w *world) end() []Txn {
	at := w.txns[len(w.txns)-1].Return + 1000
	for key, list := range w.lists {
		w.txns = append(w.txns, Txn{Client: 4, Fate: Committed, Call: at, Return: at + 1, Ops: []Op{{Kind: Read, Key: key, List: list}}})
	}
	return w.txns
}

func TestSerialHistoriesAreClean(t *testing.T) {
	applied := 0
	for seed := range uint64(100) {
		r := check(t, history(seed, 600).end())
		if len(r.Anomalies)+len(r.RealTime)+len(r.StaleReads) > 0 {
			t.Fatalf("seed %d: %s", seed, r)
		}
		applied += r.Applied
		if r.Committed < 400 || r.Failed < 5 || r.Unknown < r.Applied+5 {
			t.Fatalf("seed %d: %s: that is too little of something", seed, r)
		}
	}
	if applied < 500 {
		t.Errorf("%d transactions of unknown fate happened and were seen, want many", applied)
	}
}

// spoil changes one thing that was seen, and says what must be found for it.
var spoils = []struct {
	name  string
	spoil func(w *world, txns []Txn) bool
	want  func(r Result) bool
}{
	{"the newest of a list is not read, long after it was answered", func(w *world, txns []Txn) bool {
		i := w.random.IntN(len(txns))
		for j := range txns[i].Ops {
			op := &txns[i].Ops[j]
			if n := len(op.List); txns[i].Fate == Committed && len(txns[i].Ops) == 1 && n > 5 && w.answered(txns, op.Key, op.List[n-4], txns[i].Call) {
				op.List = op.List[:n-4]
				return true
			}
		}
		return false
	}, func(r Result) bool { return len(r.StaleReads)+len(r.RealTime)+len(r.Anomalies) > 0 }},
	{"a committed one is taken for failed", func(w *world, txns []Txn) bool {
		i := w.random.IntN(len(txns))
		if txns[i].Fate != Committed || txns[i].Ops[0].Kind != Append {
			return false
		}
		txns[i].Fate = Failed
		return true
	}, func(r Result) bool { return names(r.Anomalies) == string(AbortedRead) }},
	{"one that did not happen is taken for committed", func(w *world, txns []Txn) bool {
		i := w.random.IntN(len(txns))
		if txns[i].Fate != Failed || txns[i].Ops[0].Kind != Append {
			return false
		}
		txns[i].Fate = Committed
		return true
	}, func(r Result) bool {
		return slices.ContainsFunc(r.Anomalies, func(a Anomaly) bool { return a.Name == LostAppend })
	}},
}

// answered says whether an element's transaction was answered before an instant.
func (w *world) answered(txns []Txn, key string, value int, at int64) bool {
	return slices.ContainsFunc(txns, func(txn Txn) bool {
		return txn.Fate == Committed && txn.Return < at &&
			slices.ContainsFunc(txn.Ops, func(op Op) bool { return op.Kind == Append && op.Key == key && op.Value == value })
	})
}

func TestSpoiltHistoriesAreFound(t *testing.T) {
	for _, s := range spoils {
		t.Run(s.name, func(t *testing.T) {
			for seed := range uint64(50) {
				w := history(seed, 600)
				txns := w.end()
				for !s.spoil(w, txns) {
				}
				if r := check(t, txns); !s.want(r) {
					t.Fatalf("seed %d: %s: that is not what was spoilt", seed, r)
				}
			}
		})
	}
}

func BenchmarkCheck20k(b *testing.B) {
	txns := history(1, 20_000).end()
	for b.Loop() {
		if r, err := Check(txns); err != nil || len(r.Anomalies)+len(r.RealTime)+len(r.StaleReads) > 0 {
			b.Fatalf("%s %v", r, err)
		}
	}
}
