package history

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy.dev/understudy/test/internal/jsonl"
)

// line by line: who, what, from when to when.
func read(client int, old string, from, to int64) Op {
	return Op{Client: client, Key: "k", Kind: Read, Fate: Confirmed, Old: old, Call: from, Return: to}
}

func swap(client int, old, value string, from, to int64) Op {
	return Op{Client: client, Key: "k", Kind: Swap, Fate: Confirmed, Old: old, Value: value, Call: from, Return: to}
}

func unanswered(client int, value string, from, to int64) Op {
	return Op{Client: client, Key: "k", Kind: Swap, Fate: Unanswered, Value: value, Call: from, Return: to}
}

func unconfirmed(client int, old, value string, from, to int64) Op {
	return Op{Client: client, Key: "k", Kind: Swap, Fate: Unconfirmed, Old: old, Value: value, Call: from, Return: to}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name string
		ops  []Op
		want Verdict
	}{
		{"one after the other", []Op{read(0, "", 0, 1), swap(0, "", "a", 2, 3), read(1, "a", 4, 5), swap(1, "a", "b", 6, 7), read(0, "b", 8, 9)}, Ok},
		{"at the same time, in the other order", []Op{swap(0, "b", "a", 0, 10), swap(1, "", "b", 1, 9), read(2, "a", 11, 12)}, Ok},
		{"a read beside a swap finds either", []Op{swap(0, "", "a", 0, 10), read(1, "", 1, 2), read(2, "a", 3, 4)}, Ok},
		{"and never the older after the newer", []Op{swap(0, "", "a", 0, 10), read(1, "a", 1, 2), read(2, "", 3, 4)}, Illegal},
		{"a confirmed swap is lost", []Op{swap(0, "", "a", 0, 1), swap(1, "a", "b", 2, 3), swap(0, "a", "c", 4, 5)}, Illegal},
		{"everything is lost", []Op{swap(0, "", "a", 0, 1), read(1, "", 2, 3)}, Illegal},
		{"two primaries: the same value is replaced twice", []Op{swap(0, "", "a", 0, 1), swap(1, "a", "b", 2, 9), swap(2, "a", "c", 2, 9)}, Illegal},
		{"a confirmed read is stale", []Op{swap(0, "", "a", 0, 1), swap(0, "a", "b", 2, 3), read(1, "a", 4, 5)}, Illegal},
		{"an unanswered swap shows up late", []Op{swap(0, "", "a", 0, 1), unanswered(1, "b", 2, 3), read(0, "a", 4, 5), read(2, "b", 6, 7)}, Ok},
		{"but not before it was sent", []Op{read(0, "b", 0, 1), unanswered(1, "b", 2, 3)}, Illegal},
		{"an unanswered swap never shows", []Op{swap(0, "", "a", 0, 1), unanswered(1, "b", 2, 3), read(0, "a", 4, 5), swap(2, "a", "c", 6, 7)}, Ok},
		{"an unanswered swap does not go again", []Op{unanswered(1, "b", 0, 1), read(0, "b", 2, 3), read(0, "", 4, 5)}, Illegal},
		{"nor hides the loss of another", []Op{swap(0, "", "a", 0, 1), unanswered(1, "b", 2, 3), read(0, "", 4, 5)}, Illegal},
		{"an unconfirmed swap lasts", []Op{swap(0, "", "a", 0, 1), unconfirmed(1, "a", "b", 2, 3), swap(0, "b", "c", 4, 5)}, Ok},
		{"an unconfirmed swap does not last", []Op{swap(0, "", "a", 0, 1), unconfirmed(1, "a", "b", 2, 3), swap(0, "a", "c", 4, 5)}, Ok},
		{"an unconfirmed swap lasts and what it did not replace is lost", []Op{swap(0, "", "a", 0, 1), unconfirmed(1, "a", "b", 2, 3),
			swap(0, "a", "c", 4, 5), read(0, "b", 6, 7)}, Illegal},
		{"an unconfirmed swap saw another one that did not last", []Op{unconfirmed(0, "", "a", 0, 1), unconfirmed(0, "a", "b", 2, 3), read(1, "", 4, 5)}, Ok},
		{"a value that nobody wrote", []Op{swap(0, "", "a", 0, 1), read(1, "z", 2, 3)}, Illegal},
		{"nothing", nil, Ok},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if r := check(t, test.ops); r.Verdict != test.want {
				t.Errorf("verdict %s, want %s", r, test.want)
			}
		})
	}
}

func check(t *testing.T, ops []Op) Result {
	t.Helper()
	r, err := Check(ops, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sequence is what clients that take turns see of one key: swaps that overlap their neighbours.
func sequence(key string, n int) []Op {
	ops := make([]Op, n)
	old := ""
	for i := range ops {
		at := int64(i) * 10
		ops[i] = Op{Client: i % 4, Key: key, Kind: Read, Fate: Confirmed, Old: old, Call: at, Return: at + 25}
		if i%2 == 0 {
			ops[i].Kind, ops[i].Value = Swap, fmt.Sprintf("%d-%d", i%4, i)
			old = ops[i].Value
		}
	}
	return ops
}

func TestTheSmallestIllegalKeyIsTold(t *testing.T) {
	ops := append(sequence("long", 400), sequence("short", 200)...)
	ops = append(ops, sequence("well", 50)...)
	spoil := func(i int) { ops[i].Old = ops[i-20].Old } // a read that finds what was replaced long before
	spoil(301)
	spoil(400 + 101)
	spoil(400 + 151)
	r := check(t, ops)
	if r.Verdict != Illegal || r.Keys != 3 || r.Illegal != 2 || r.Ops != len(ops) || r.Swaps+r.Reads != len(ops) {
		t.Errorf("%+v: want 2 of 3 keys illegal", r)
	}
	if last := r.Offending[len(r.Offending)-1]; last.Key != "short" || last.Call > 101*10+25 || len(r.Offending) < 102 {
		t.Errorf("the story of %d operations ends with %+v, want it to end with operation 101 of key short", len(r.Offending), last)
	}
	for _, part := range []string{
		`Key short: nothing explains client 1's read of "0-80" at 0.000001 s (confirmed).`,
		`"0-80" came from client 0's swap of "2-78" for "0-80"`,
		`It was replaced by client 2's swap of "0-80" for "2-82"`,
		"The last 25 of the 10",
	} {
		if !strings.Contains(r.String(), part) {
			t.Errorf("the story lacks %q:\n%s", part, r)
		}
	}
	page := filepath.Join(t.TempDir(), "history.html")
	if err := r.Visualize(page); err != nil {
		t.Fatal(err)
	}
	if drawn, err := os.ReadFile(page); err != nil || !bytes.Contains(drawn, []byte("0-80")) {
		t.Errorf("the page of %d bytes does not show the value: %v", len(drawn), err)
	}
}

func TestWithoutTimeTheVerdictIsUnknown(t *testing.T) {
	r, err := Check(sequence("k", 10), 0)
	if err != nil || r.Verdict != Unknown || r.Unjudged != 1 {
		t.Errorf("%+v %v, want one key that was not judged", r, err)
	}
}

func TestAHistoryIsReadAsItWasWritten(t *testing.T) {
	ops := append(sequence("k", 10), unanswered(1, "x", 200, 210), unconfirmed(2, "y", "z", 200, 210))
	var buffer bytes.Buffer
	if err := jsonl.Write(&buffer, ops); err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(buffer.Bytes(), []byte("\n")); lines != len(ops) {
		t.Errorf("%d lines for %d operations", lines, len(ops))
	}
	got, err := jsonl.Read[Op](bytes.NewReader(buffer.Bytes()))
	if err != nil || !slices.Equal(got, ops) {
		t.Errorf("read %+v %v, want %+v", got, err, ops)
	}
	if _, err := jsonl.Read[Op](bytes.NewReader(buffer.Bytes()[:buffer.Len()-5])); err == nil {
		t.Error("a history that was cut off is read as a whole one")
	}
}

func TestWhatNoClientWritesDownIsRefused(t *testing.T) {
	late := read(0, "", 5, 4)
	known := unanswered(0, "a", 0, 1)
	known.Old = "b"
	unread := read(0, "", 0, 1)
	unread.Fate = Unanswered
	for name, ops := range map[string][]Op{
		"a value twice": {swap(0, "", "a", 0, 1), swap(1, "a", "a", 2, 3)}, "no value": {swap(0, "a", "", 0, 1)},
		"returned before its call": {late}, "unanswered, and what it replaced known": {known}, "a read of unknown fate": {unread},
		"no fate": {{Key: "k", Kind: Read}}, "no key": {{Kind: Read, Fate: Confirmed}},
	} {
		if r, err := Check(ops, time.Minute); err == nil {
			t.Errorf("%s: %s, want an error", name, r)
		}
	}
}

// many is n operations as load.Record makes them: keys of at most a thousand, a few uncertain at the end of each.
func many(n int) []Op {
	var ops []Op
	for key := 0; len(ops) < n; key++ {
		name := fmt.Sprintf("k%d", key)
		ops = append(ops, sequence(name, 994)...)
		last := ops[len(ops)-1]
		for i := range 6 {
			lost := unconfirmed(i%4, last.Old, fmt.Sprintf("u%d", i), last.Call+1, last.Call+40)
			if i%2 == 0 {
				lost = unanswered(i%4, fmt.Sprintf("u%d", i), last.Call+1, last.Call+40)
			}
			lost.Key = name
			ops = append(ops, lost)
		}
	}
	return ops
}

func BenchmarkCheck100k(b *testing.B) {
	ops := many(100_000)
	for b.Loop() {
		if r, err := Check(ops, time.Minute); err != nil || r.Verdict != Ok {
			b.Fatalf("%s %v", r, err)
		}
	}
}
