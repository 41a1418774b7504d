package serial

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func ap(key string, value int) Op { return Op{Kind: Append, Key: key, Value: value} }

func rd(key string, list ...int) Op { return Op{Kind: Read, Key: key, List: list} }

func txn(fate Fate, from, to int64, ops ...Op) Txn {
	return Txn{Fate: fate, Call: from, Return: to, Ops: ops}
}

func ok(from, to int64, ops ...Op) Txn { return txn(Committed, from, to, ops...) }

func by(client int, t Txn) Txn {
	t.Client = client
	return t
}

func names(anomalies []Anomaly) string {
	var out []string
	for _, a := range anomalies {
		out = append(out, string(a.Name))
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), "; ")
}

func check(t *testing.T, txns []Txn) Result {
	t.Helper()
	r, err := Check(txns)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name string
		txns []Txn
		// want is all that is to be found, inTime what is to be found in real time, stale the reads of less than was answered.
		want, inTime, stale string
	}{
		{name: "nothing"},
		{name: "one after the other", txns: []Txn{ok(0, 1, ap("x", 1)), ok(2, 3, rd("x", 1), ap("y", 1), rd("y", 1)), ok(4, 5, ap("x", 2), rd("x", 1, 2)), ok(6, 7, rd("x", 1, 2), rd("y", 1))}},
		{name: "at the same time, in either order", txns: []Txn{ok(0, 9, ap("x", 1), rd("y", 1)), ok(0, 9, ap("y", 1), rd("x")), ok(10, 11, rd("x", 1), rd("y", 1))}},
		{name: "a read beside an append finds either", txns: []Txn{ok(0, 9, ap("x", 1)), ok(1, 2, rd("x")), ok(3, 4, rd("x", 1))}},
		{name: "in the instant in which another ends", txns: []Txn{ok(0, 5, ap("x", 1)), ok(5, 6, rd("x")), ok(7, 8, rd("x", 1))}},
		{name: "an unknown one shows up late", txns: []Txn{txn(Unknown, 0, 1, ap("x", 1), ap("y", 1)), ok(2, 3, rd("x"), rd("y")), ok(4, 5, rd("x", 1), rd("y", 1))}},
		{name: "an unknown one never shows", txns: []Txn{txn(Unknown, 0, 1, ap("x", 1), rd("y", 9)), ok(2, 3, rd("x"))}},
		{name: "a failed one that read anything", txns: []Txn{txn(Failed, 0, 1, ap("x", 1), rd("y", 9)), ok(2, 3, rd("x"))}},
		{name: "several appends to one key", txns: []Txn{ok(0, 1, ap("x", 1), rd("x", 1), ap("x", 2)), ok(2, 3, rd("x", 1, 2), ap("x", 3), rd("x", 1, 2, 3)), ok(4, 5, rd("x", 1, 2, 3))}},

		{name: "never appended", txns: []Txn{ok(0, 1, rd("x", 7))}, want: string(Garbage)},
		{name: "of another key", txns: []Txn{ok(0, 1, ap("x", 7), rd("x", 7)), ok(0, 1, rd("y", 7))}, want: string(Garbage)},
		{name: "twice", txns: []Txn{ok(0, 1, ap("x", 1)), ok(2, 3, rd("x", 1, 1)), ok(4, 5, rd("x", 1))}, want: string(Duplicate)},
		{name: "its own append is missing", txns: []Txn{ok(0, 1, ap("x", 1), rd("x")), ok(2, 3, rd("x", 1))}, want: string(Internal)},
		{name: "its own append is not the last", txns: []Txn{ok(0, 5, ap("x", 1)), ok(0, 5, ap("x", 2), rd("x", 2, 1)), ok(6, 7, rd("x", 2, 1))}, want: string(Internal)},
		{name: "a list changes meanwhile", txns: []Txn{ok(0, 5, ap("x", 1)), ok(0, 5, rd("x"), rd("x", 1))}, want: string(Internal)},
		{name: "two primaries", txns: []Txn{ok(0, 5, ap("x", 1), rd("x", 1)), ok(0, 5, ap("x", 2), rd("x", 2))}, want: string(IncompatibleOrder)},
		{name: "two that are not the longest", txns: []Txn{ok(0, 9, ap("x", 1)), ok(0, 9, ap("x", 2)), ok(0, 9, rd("x", 1)), ok(0, 9, rd("x", 2))}, want: string(IncompatibleOrder)},
		{name: "aborted read", txns: []Txn{txn(Failed, 0, 1, ap("x", 1)), ok(2, 3, rd("x", 1))}, want: string(AbortedRead)},
		{name: "intermediate read", txns: []Txn{ok(0, 9, ap("x", 1), ap("x", 2)), ok(1, 2, rd("x", 1)), ok(10, 11, rd("x", 1, 2))}, want: string(GSingle + "; " + IntermediateRead)},
		{name: "a lost append", txns: []Txn{ok(0, 1, ap("x", 1)), ok(2, 3, rd("x"))}, want: string(LostAppend), inTime: string(GSingle)},
		{name: "a lost append, others after it", txns: []Txn{ok(0, 1, ap("x", 1)), ok(2, 3, ap("x", 2)), ok(4, 5, rd("x", 2))}, want: string(LostAppend), inTime: string(G0)},
		{name: "read, and then lost", txns: []Txn{ok(0, 1, ap("x", 1)), ok(2, 3, rd("x", 1)), ok(4, 5, rd("x"))}, want: string(LostAppend), inTime: string(GSingle)},

		{name: "appends in both orders", txns: []Txn{ok(0, 9, ap("x", 1), ap("y", 1)), ok(0, 9, ap("x", 2), ap("y", 2)),
			ok(10, 11, rd("x", 1, 2)), ok(10, 11, rd("y", 2, 1))}, want: string(G0)},
		{name: "one between the appends of another", txns: []Txn{ok(0, 9, ap("x", 1), ap("x", 3)), ok(0, 9, ap("x", 2)), ok(10, 11, rd("x", 1, 2, 3))}, want: string(G0)},
		{name: "each read the other", txns: []Txn{ok(0, 9, ap("x", 1), rd("y", 1)), ok(0, 9, ap("y", 1), rd("x", 1))}, want: string(G1c)},
		{name: "it read what was appended behind its own", txns: []Txn{ok(0, 9, ap("x", 1), rd("y", 2)), ok(0, 9, ap("x", 2), ap("y", 2)), ok(10, 11, rd("x", 1, 2))}, want: string(G1c)},
		{name: "half of a transaction", txns: []Txn{ok(0, 9, ap("x", 1), ap("y", 1)), ok(0, 9, rd("x", 1), rd("y")), ok(10, 11, rd("x", 1), rd("y", 1))}, want: string(GSingle)},
		{name: "half of an unknown transaction", txns: []Txn{txn(Unknown, 0, 9, ap("x", 1), ap("y", 1)), ok(0, 9, rd("x", 1), rd("y"))}, want: string(GSingle)},
		{name: "a lost update", txns: []Txn{ok(0, 9, rd("x"), ap("x", 1)), ok(0, 9, rd("x"), ap("x", 2)), ok(10, 11, rd("x", 1, 2))}, want: string(GSingle)},
		{name: "write skew", txns: []Txn{ok(0, 9, rd("x"), ap("y", 1)), ok(0, 9, rd("y"), ap("x", 1)), ok(10, 11, rd("x", 1), rd("y", 1))}, want: string(G2)},
		{name: "write skew, one unknown", txns: []Txn{ok(0, 9, rd("x"), ap("y", 1)), txn(Unknown, 0, 9, rd("y"), ap("x", 1)), ok(10, 11, rd("x", 1), rd("y", 1))}, want: string(G2)},
		{name: "a long fork", txns: []Txn{ok(0, 9, ap("x", 1)), ok(0, 9, ap("y", 1)), ok(0, 9, rd("x", 1), rd("y")), ok(0, 9, rd("x"), rd("y", 1)), ok(10, 11, rd("x", 1), rd("y", 1))}, want: string(G2)},
		{name: "what an unknown one read that happened", txns: []Txn{ok(0, 9, ap("x", 1), ap("y", 1)), txn(Unknown, 0, 9, rd("x", 1), rd("y"), ap("z", 1)),
			ok(10, 11, rd("z", 1), rd("y", 1))}, want: string(GSingle)},

		{name: "a stale read", txns: []Txn{ok(0, 1, ap("x", 1)), ok(2, 3, rd("x")), ok(4, 5, rd("x", 1))}, inTime: string(GSingle)},
		{name: "read before it was appended", txns: []Txn{ok(0, 1, rd("x", 1)), ok(2, 3, ap("x", 1))}, inTime: string(G1c)},
		{name: "an unknown one, before its call", txns: []Txn{ok(0, 1, rd("x", 1)), txn(Unknown, 2, 3, ap("x", 1))}, inTime: string(G1c)},
		{name: "appended in front of what was answered", txns: []Txn{ok(0, 1, ap("x", 1)), ok(2, 3, ap("x", 2)), ok(4, 5, rd("x", 2, 1))}, inTime: string(G0)},
		{name: "a stale read by another client", txns: []Txn{ok(0, 1, ap("x", 1)), by(1, ok(2, 3, rd("x"))), ok(4, 5, rd("x", 1))}, stale: string(GSingle)},
		{name: "stale, and then it appends", txns: []Txn{ok(0, 1, ap("x", 1)), by(1, ok(2, 3, rd("x"), ap("y", 1))), ok(4, 5, rd("x", 1), rd("y", 1))}, inTime: string(GSingle)},
		{name: "a client goes back in time", txns: []Txn{ok(0, 1, ap("x", 1)), by(1, ok(2, 3, rd("x", 1))), by(1, ok(4, 5, rd("x"))), ok(6, 7, rd("x", 1))}, inTime: string(GSingle)},
		{name: "two older reads in a row", txns: []Txn{ok(1, 2, ap("x", 1)), ok(0, 9, ap("y", 1), rd("x")), ok(5, 6, rd("y")), ok(10, 11, rd("x", 1), rd("y", 1))}, stale: string(GSingle)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := check(t, test.txns)
			if names(r.Anomalies) != test.want || names(r.RealTime) != test.inTime || names(r.StaleReads) != test.stale {
				t.Errorf("found %q, in real time %q and stale %q, want %q, %q and %q: %s",
					names(r.Anomalies), names(r.RealTime), names(r.StaleReads), test.want, test.inTime, test.stale, r)
			}
		})
	}
}

func TestTheStorySaysWho(t *testing.T) {
	r := check(t, []Txn{ok(0, 9, rd("x"), ap("y", 1)), ok(0, 9, rd("y"), ap("x", 1)), ok(10, 11, rd("x", 1), rd("y", 1)), txn(Failed, 0, 1, ap("z", 5)), txn(Unknown, 0, 1, ap("z", 6))})
	for _, part := range []string{
		"3 transactions committed, 1 failed, 1 of unknown fate, of which 0 happened; 2 appends and 4 reads of 2 keys",
		"G2", "T0 (client 0, 0.000000 s – 0.000000 s, committed: read [] of x, append 1 to y)", "rw: T0 read x without 1 of T1", "rw: T1 read y without 1 of T0",
	} {
		if !strings.Contains(r.String(), part) {
			t.Errorf("the story lacks %q:\n%s", part, r)
		}
	}
}

func TestTheShortestCircleIsTold(t *testing.T) {
	// Each of ten reads the one before, the first the last, and the fourth and the fifth read each other.
	var txns []Txn
	key := func(i int) string { return fmt.Sprintf("k%d", (i+10)%10) }
	for i := range 10 {
		txns = append(txns, ok(0, 9, ap(key(i), 1), rd(key(i-1), 1)))
	}
	txns[4].Ops = append(txns[4].Ops, rd(key(5), 1))
	r := check(t, txns)
	if names(r.Anomalies) != string(G1c) || len(r.Anomalies) != 1 || !strings.HasPrefix(r.Anomalies[0].Story, "each of 2 ") {
		t.Errorf("%s, want the circle of two", r)
	}
}

func TestWhatNoClientWritesDownIsRefused(t *testing.T) {
	for name, txns := range map[string][]Txn{
		"a value twice": {ok(0, 1, ap("x", 1)), ok(2, 3, ap("x", 1))}, "no steps": {ok(0, 1)}, "no fate": {txn("", 0, 1, ap("x", 1))},
		"returned before its call": {ok(5, 4, ap("x", 1))}, "no key": {ok(0, 1, rd(""))}, "no kind": {ok(0, 1, Op{Key: "x"})},
		"a read of a value": {ok(0, 1, Op{Kind: Read, Key: "x", Value: 1})}, "an append of a list": {ok(0, 1, Op{Kind: Append, Key: "x", List: []int{1}})},
	} {
		if r, err := Check(txns); err == nil {
			t.Errorf("%s: %s, want an error", name, r)
		}
	}
}
