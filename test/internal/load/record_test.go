package load

import (
	"context"
	"strings"
	"testing"
	"time"

	"understudy.dev/understudy/test/internal/fake"
	"understudy.dev/understudy/test/internal/history"
)

func kept(int, time.Time) (string, bool) { return fake.OK, true }

// recording runs clients without a pause until enough happened.
func recording(t *testing.T, s *fake.Redis, config RecordConfig, until func(Recorded) bool) (*Recording, Recorded) {
	t.Helper()
	config.Address, config.Password, config.WaitReplicas = s.Address, "p", 1
	config.IntervalMicroseconds, config.RetryMicroseconds = 1, 1
	config.DialMilliseconds, config.ReplyMilliseconds = 10_000, 10_000 // a busy machine is no fault of the server
	r := Record("t", config)
	waitFor(t, r, until)
	return r, r.Stop()
}

func waitFor(t *testing.T, r Recorder, until func(Recorded) bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !until(r.Progress()) {
		select {
		case <-deadline:
			t.Fatalf("the recording did not get there: %+v", r.Progress())
		case <-tick.C:
		}
	}
}

func enough(p Recorded) bool { return p.Confirmed >= 2000 }

// judged is what the check says of a recording.
func judged(t *testing.T, r *Recording) history.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ops, err := r.History(ctx)
	if err != nil {
		t.Fatal(err)
	}
	result, err := history.Check(ops, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestWhatClientsSeeOfAServiceThatKeepsEverythingIsOk(t *testing.T) {
	s := fake.Serve(t, kept)
	r, seen := recording(t, s, RecordConfig{}, enough)
	result := judged(t, r)
	if result.Verdict != history.Ok || result.Uncertain != 0 || result.Keys < 3 {
		t.Errorf("%s, want everything confirmed on three keys or more", result)
	}
	if min(result.Reads, result.Swaps) < 500 || result.Ops < seen.Confirmed+result.Keys || len(seen.Failures) != 0 {
		t.Errorf("%s of %+v: want as many reads as swaps, and each key read at the end", result, seen)
	}
	if len(s.Keys) != 0 {
		t.Errorf("%d keys are left", len(s.Keys))
	}
}

func TestAnswersThatGetLostAreNoFault(t *testing.T) {
	refused := 0
	s := fake.Serve(t, func(n int, _ time.Time) (string, bool) {
		switch n % 50 {
		case 10:
			return "", true // carried out, and the answer lost
		case 20:
			return "", false
		case 30:
			refused++
			return "-READONLY You can't write against a read only replica.\r\n", false
		}
		return fake.OK, true
	})
	s.OnWait = func(n int) int { return min(1, n%70) }
	r, seen := recording(t, s, RecordConfig{}, enough)
	result := judged(t, r)
	if result.Verdict != history.Ok {
		t.Error(result)
	}
	if seen.Failures["write: READONLY"] != refused || seen.Failures["write: closed"] < 2 || seen.Failures["wait: other"] == 0 {
		t.Errorf("failures %v, want %d of them write: READONLY, and the others too", seen.Failures, refused)
	}
	// A read without an answer, or that WAIT did not confirm, says nothing; what was refused did not happen.
	if result.Uncertain != seen.Uncertain || result.Uncertain < seen.Failures["write: closed"] ||
		result.Uncertain >= seen.Failures["write: closed"]+seen.Failures["wait: other"] {
		t.Errorf("%s of failures %v: want the lost answers and the unconfirmed swaps, and no read", result, seen.Failures)
	}
	if result.Keys < result.Uncertain/4 {
		t.Errorf("%d keys for %d uncertain swaps of four clients: want another key after each", result.Keys, result.Uncertain)
	}
}

func TestALostSwapIsFound(t *testing.T) {
	s := fake.Serve(t, func(n int, _ time.Time) (string, bool) { return fake.OK, n != 700 })
	r, _ := recording(t, s, RecordConfig{}, enough)
	result := judged(t, r)
	if result.Verdict != history.Illegal || result.Illegal != 1 || !strings.Contains(result.Story, "nothing explains") {
		t.Errorf("%s, want the key whose swap was lost", result)
	}
}

// A former key is written no more; that it lost everything must be seen all the same.
func TestTheLossOfAFormerKeyIsFound(t *testing.T) {
	var s *fake.Redis
	sets := 0
	s = fake.Serve(t, func(n int, _ time.Time) (string, bool) {
		if sets = n; n == 300 {
			for key := range s.Keys {
				delete(s.Keys, key)
			}
		}
		return fake.OK, true
	})
	// Until then one swap out of three is not confirmed, so that there are some hundred former keys.
	s.OnWait = func(int) int {
		if sets < 300 && sets%3 == 0 {
			return 0
		}
		return 1
	}
	r, _ := recording(t, s, RecordConfig{Clients: 1, Keys: 1}, func(p Recorded) bool { return p.Confirmed >= 1000 })
	result := judged(t, r)
	if result.Verdict != history.Illegal || result.Illegal < 30 {
		t.Errorf("%s, want most of the former keys that had a confirmed swap", result)
	}
}

func TestAStaleReadIsFound(t *testing.T) {
	s := fake.Serve(t, kept)
	before, gets := map[string]string{}, 0
	s.OnGet = func(key, value string) string {
		if gets++; gets == 1000 {
			return before[key]
		}
		if value != "" && gets < 500 {
			before[key] = value
		}
		return value
	}
	r, _ := recording(t, s, RecordConfig{}, enough)
	if result := judged(t, r); result.Verdict != history.Illegal || result.Illegal != 1 {
		t.Errorf("%s, want one key with a stale read", result)
	}
}

func TestARecordingIsBounded(t *testing.T) {
	s := fake.Serve(t, kept)
	r, seen := recording(t, s, RecordConfig{MaxOperations: 100}, func(p Recorded) bool { return p.Full })
	if seen.Confirmed < 100 || seen.Confirmed > 103 {
		t.Errorf("%d operations, want 100 and at most one more of each other client", seen.Confirmed)
	}
	if result := judged(t, r); result.Verdict != history.Ok {
		t.Error(result)
	}
}

func TestAKeyIsLeftBehindAfterAThousandOperations(t *testing.T) {
	s := fake.Serve(t, kept)
	r, seen := recording(t, s, RecordConfig{Keys: 1}, func(p Recorded) bool { return p.Keys == 3 })
	if seen.Confirmed < 2*perKey {
		t.Errorf("%d operations on three keys, want a thousand on each of two", seen.Confirmed)
	}
	if result := judged(t, r); result.Verdict != history.Ok || result.Uncertain != 0 {
		t.Error(result)
	}
}

func TestARunningRecordingHasNoHistory(t *testing.T) {
	s := fake.Serve(t, kept)
	r := Record("t", RecordConfig{Config: Config{Address: s.Address}})
	defer r.Stop()
	if _, err := r.History(context.Background()); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("the history of a running recording: %v", err)
	}
}

// What redis-server answers when it takes none of a transaction, and what a fate may not be taken from.
func TestTransact(t *testing.T) {
	for name, test := range map[string]struct {
		answer, kind string
		refused      bool
	}{
		"no replica": {"+OK\r\n+QUEUED\r\n-NOREPLICAS Not enough good replicas to write.\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
			"write: NOREPLICAS", true},
		"refused by EXEC itself": {"+OK\r\n+QUEUED\r\n+QUEUED\r\n-MISCONF Errors writing to the AOF file: No space left on device\r\n", "write: MISCONF", true},
		"refused inside":         {"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n-OOM command not allowed\r\n", "write: OOM", true},
		"no transaction":         {"-NOPERM this user has no permissions\r\n$-1\r\n+OK\r\n-ERR EXEC without MULTI\r\n", "write: other", false},
		"too few replies":        {"+OK\r\n+QUEUED\r\n+QUEUED\r\n*1\r\n+OK\r\n", "write: other", false},
		"cut off":                {"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n", "write: closed", false},
	} {
		t.Run(name, func(t *testing.T) {
			link := &link{config: Config{Address: fake.Canned(t, test.answer)}.WithDefaults(), dialled: func() {}}
			defer link.drop()
			if err := link.ready(context.Background()); err != nil {
				t.Fatal(err)
			}
			_, err := link.transact([]string{"GET", "k"}, []string{"SET", "k", "v"})
			if err == nil || wasRefused(err) != test.refused || Kind(err) != test.kind {
				t.Errorf("%v is %s and taken for refused: %t, want %s and %t", err, Kind(err), wasRefused(err), test.kind, test.refused)
			}
		})
	}
}
