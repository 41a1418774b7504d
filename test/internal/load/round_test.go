package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy.dev/understudy/test/internal/fake"
)

// run writes until enough writes were acknowledged after the condition holds.
func run(t *testing.T, s *fake.Redis, until func(Progress) bool) (*Round, Result) {
	t.Helper()
	r := Start("t", Config{Address: s.Address, Password: "p", IntervalMicroseconds: 1000, RetryMicroseconds: 500})
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !until(r.Progress()) {
		select {
		case <-deadline:
			t.Fatalf("the round did not get there: %+v", r.Progress())
		case <-tick.C:
		}
	}
	return r, r.Stop()
}

func verified(t *testing.T, r *Round) Verification {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := r.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAWriteWithoutAnAnswerIsNotAcknowledgedUntilItIs(t *testing.T) {
	s := fake.Serve(t, func(n int, _ time.Time) (string, bool) {
		switch {
		case n == 10:
			return "", true // carried out, and the answer lost
		case n > 10 && n < 15:
			return "-READONLY You can't write against a read only replica.\r\n", false
		}
		return fake.OK, true
	})
	r, result := run(t, s, func(p Progress) bool { return p.Acknowledged >= 30 })
	if result.Acknowledged+result.Unknown > result.Attempted || result.Unknown != 0 {
		t.Errorf("acknowledged %d, unknown %d of %d attempted", result.Acknowledged, result.Unknown, result.Attempted)
	}
	if result.Failures["write: closed"] != 1 || result.Failures["write: READONLY"] != 4 {
		t.Errorf("failures %v, want one write: closed and four write: READONLY", result.Failures)
	}
	if v := verified(t, r); v.Lost != 0 || v.Acknowledged != result.Acknowledged {
		t.Errorf("verified %+v, want %d acknowledged and none lost", v, result.Acknowledged)
	}
	if len(s.Keys) != 0 {
		t.Errorf("%d keys are left after the verification", len(s.Keys))
	}
}

func TestTheOutageIsTheLargestGapBetweenAcknowledgements(t *testing.T) {
	var down time.Time
	s := fake.Serve(t, func(n int, now time.Time) (string, bool) {
		if n == 20 {
			down = now
		}
		if n >= 20 && now.Sub(down) < 80*time.Millisecond {
			return "", false
		}
		return fake.OK, true
	})
	_, result := run(t, s, func(p Progress) bool { return p.Acknowledged > 40 })
	if us := result.Outage.Microseconds; us < 80_000 || us > 5_000_000 {
		t.Errorf("outage %d µs, want at least the 80 ms the server refused", us)
	}
	if got := result.Outage.End.Sub(result.Outage.Start).Microseconds(); got != result.Outage.Microseconds {
		t.Errorf("outage from %s to %s is %d µs, reported %d", result.Outage.Start, result.Outage.End, got, result.Outage.Microseconds)
	}
	if result.Open != nil {
		t.Errorf("the round ended well and reports an open gap %+v", *result.Open)
	}
}

func TestALostWriteIsFound(t *testing.T) {
	s := fake.Serve(t, func(n int, _ time.Time) (string, bool) { return fake.OK, n != 7 })
	r, _ := run(t, s, func(p Progress) bool { return p.Acknowledged >= 20 })
	v := verified(t, r)
	if v.Lost != 1 || len(v.LostSequence) != 1 || v.LostSequence[0] != 6 {
		t.Errorf("verified %+v, want write 6 lost", v)
	}
}

func TestARoundStoppedInAnOutageSaysSo(t *testing.T) {
	s := fake.Serve(t, func(n int, _ time.Time) (string, bool) {
		if n > 5 {
			return "", n == 6
		}
		return fake.OK, true
	})
	r, result := run(t, s, func(p Progress) bool { return p.SinceLastMicroseconds > 30_000 })
	if result.Open == nil || result.Open.Microseconds < 30_000 || result.Unknown != 1 {
		t.Errorf("open %+v, unknown %d: want an open gap of more than 30 ms and one unknown write", result.Open, result.Unknown)
	}
	if v := verified(t, r); v.Lost != 0 || v.UnknownFound != 1 {
		t.Errorf("verified %+v, want the unknown write found and none lost", v)
	}
}

func TestVerifyRefusesARunningRound(t *testing.T) {
	s := fake.Serve(t, func(int, time.Time) (string, bool) { return fake.OK, true })
	r := Start("t", Config{Address: s.Address})
	defer r.Stop()
	if _, err := r.Verify(context.Background()); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("verifying a running round: %v", err)
	}
}

func TestFailuresOfConnectingAreNeverUnknown(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	r := Start("t", Config{Address: address})
	for r.Progress().LastFailure == "" {
		time.Sleep(time.Millisecond)
	}
	if result := r.Stop(); result.Unknown != 0 || result.Failures["connect: refused"] == 0 {
		t.Errorf("unknown %d, failures %s", result.Unknown, strconv.Quote(fmt.Sprint(result.Failures)))
	}
}

// A route that is behind leads to a former primary, which has not copied anything yet: what it lacks is not lost.
func TestVerifyBelievesThePrimaryAlone(t *testing.T) {
	primary, replica := fake.Serve(t, kept), fake.Serve(t, kept)
	replica.Replica = true
	r, _ := run(t, primary, func(p Progress) bool { return p.Acknowledged >= 10 })
	r.config.Address = replica.Address
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if v, err := r.Verify(ctx); err == nil || v.Acknowledged > 0 { // which error came last is when the time was over
		t.Errorf("read back from a replica: %+v, %v", v, err)
	}
	l := &link{config: r.config, dialled: func() {}}
	defer l.drop()
	if _, err := l.get(t.Context(), []string{"a"}); !errors.Is(err, errNotPrimary) {
		t.Errorf("asked of a replica: %v", err)
	}
	r.config.Address = primary.Address
	if v := verified(t, r); v.Lost != 0 || v.Acknowledged < 10 {
		t.Errorf("read back from the primary: %+v", v)
	}
}
