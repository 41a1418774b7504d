package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"understudy.dev/understudy/test/internal/history/serial"
	"understudy.dev/understudy/test/internal/jsonl"
)

// transactions runs clients without a pause until enough happened, and says what the check says of it. Before the lists are read
// for the last time, between is called.
func (p postgres) transactions(t *testing.T, isolation string, until func(Recorded) bool, between func(*Transactions)) (serial.Result, Recorded) {
	t.Helper()
	config := RecordConfig{Config: p.config, Clients: 6}
	config.IntervalMicroseconds, config.RetryMicroseconds = 1, 1
	config.DialMilliseconds, config.ReplyMilliseconds = 10_000, 2_000 // a busy machine is no fault of the server
	r := recordTransactions(t.Name(), config, isolation)
	waitFor(t, r, until)
	r.Stop()
	between(r)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	write, err := r.Written(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	if err := write(&lines); err != nil {
		t.Fatal(err)
	}
	txns, err := jsonl.Read[serial.Txn](&lines)
	if err != nil {
		t.Fatal(err)
	}
	if n := p.one(t, "SELECT count(*)::text FROM "+listTable+" WHERE key LIKE $1", "understudy:"+t.Name()+":%"); n != "0" {
		t.Errorf("%s lists are left", n)
	}
	result, err := serial.Check(txns)
	if err != nil {
		t.Fatal(err)
	}
	return result, r.Progress()
}

// serializably runs transactions whose history must be serializable, again if all that is wrong is a circle of anti-dependencies: PostgreSQL itself lets
// one through now and then. One was seen here, in 15, after many runs of some 2,000 transactions; for 18.4 the same was reported with the same
// kind of statements (https://hackorum.dev/topics/139733). A check that finds what is not there finds it every time.
func (p postgres) serializably(t *testing.T, until func(Recorded) bool) (serial.Result, Recorded) {
	t.Helper()
	for try := 1; ; try++ {
		result, seen := p.transactions(t, serializable, until, nothing)
		others := slices.ContainsFunc(result.Anomalies, func(a serial.Anomaly) bool { return a.Name != serial.G2 })
		if others || len(result.Anomalies) == 0 || len(result.RealTime) > 0 || try == 3 {
			return result, seen
		}
		t.Logf("in try %d, PostgreSQL let through what SERIALIZABLE excludes: %s", try, result)
	}
}

func nothing(*Transactions) {}

func told(anomalies []serial.Anomaly, names ...serial.Name) bool {
	return slices.ContainsFunc(anomalies, func(a serial.Anomaly) bool { return slices.Contains(names, a.Name) })
}

func TestTransactionsOnARealServer(t *testing.T) {
	p := postgresServer(t)
	atLeast := func(n int) func(Recorded) bool { return func(seen Recorded) bool { return seen.Confirmed >= n } }
	t.Run("serializable", func(t *testing.T) {
		result, seen := p.serializably(t, atLeast(2000))
		if len(result.Anomalies)+len(result.RealTime) > 0 || result.Unknown > 0 {
			t.Errorf("%s, want everything serializable", result)
		}
		if result.Keys < 6 || result.Failed < 20 || result.Appends < 1000 || result.Reads < 1000 || seen.Confirmed < 2000 {
			t.Errorf("%s of %+v: want many of each, conflicts too", result, seen)
		}
	})
	t.Run("snapshots", func(t *testing.T) {
		result, _ := p.transactions(t, "REPEATABLE READ", atLeast(2000), nothing)
		if !told(result.Anomalies, serial.G2) || told(result.Anomalies, serial.G0, serial.G1c, serial.AbortedRead, serial.LostAppend) {
			t.Errorf("%s, want write skew and nothing worse", result)
		}
	})
	t.Run("read committed", func(t *testing.T) {
		result, _ := p.transactions(t, "READ COMMITTED", atLeast(2000), nothing)
		if !told(result.Anomalies, serial.Internal, serial.GSingle) || told(result.Anomalies, serial.AbortedRead, serial.LostAppend) {
			t.Errorf("%s, want read skew and nothing lost", result)
		}
	})
	t.Run("connections are ended", func(t *testing.T) {
		result, _ := p.serializably(t, func(seen Recorded) bool {
			p.exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.02")
			return seen.Confirmed >= 2000
		})
		if len(result.Anomalies)+len(result.RealTime) > 0 || result.Unknown == 0 {
			t.Errorf("%s, want commits of unknown fate and everything serializable", result)
		}
	})
	t.Run("the last append of a list is lost", func(t *testing.T) {
		result, _ := p.transactions(t, serializable, atLeast(500), func(r *Transactions) {
			p.exec(t, "UPDATE "+listTable+" SET value = regexp_replace(value, ',[0-9]+$', '') WHERE key = $1", r.key(place{0, 0}))
		})
		if !told(result.Anomalies, serial.LostAppend) {
			t.Errorf("%s, want a lost append", result)
		}
	})
	t.Run("a list of yesterday", func(t *testing.T) {
		cut := false
		result, _ := p.transactions(t, serializable, func(seen Recorded) bool {
			// As another primary would that lacks the newest commits, while the clients go on.
			if seen.Confirmed >= 500 && !cut {
				cut = true
				p.exec(t, "UPDATE "+listTable+" SET value = regexp_replace(value, '(,[0-9]+){3}$', '') WHERE key LIKE '%:k1:%'")
			}
			return seen.Confirmed >= 1000
		}, nothing)
		if !told(result.Anomalies, serial.LostAppend, serial.IncompatibleOrder) {
			t.Errorf("%s, want a list that lost what was in it", result)
		}
	})
}

// A COMMIT that waits for a replica is given up by its client, and goes on waiting: nobody sees what it wrote.
func TestACommitThatIsGivenUpIsNotCancelled(t *testing.T) {
	p := postgresServer(t, "synchronous_standby_names=nobody")
	err := Exec(t.Context(), p.config, "SET synchronous_commit = local", "CREATE TABLE "+listTable+" (key text PRIMARY KEY, value text NOT NULL)")
	if err != nil {
		t.Fatal(err)
	}
	config := p.config.WithDefaults()
	config.DialMilliseconds, config.ReplyMilliseconds = 10_000, 1_000
	s := newSession(config)
	defer s.drop()
	s.made = true
	if err := s.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	txn := serial.Txn{Ops: []serial.Op{{Kind: serial.Append, Key: "k", Value: 1}}}
	err = s.transact(t.Context(), &txn, func() int64 { return 0 })
	if txn.Fate != serial.Unknown || Kind(err) != "commit: timeout" {
		t.Fatalf("the commit is %s: %v, want unknown after a timeout", txn.Fate, err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for s.withheld.Load() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the driver asked for no cancellation: then this client need not withhold any")
		}
		time.Sleep(time.Millisecond)
	}
	waiting := p.one(t, "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	if seen := p.one(t, "SELECT count(*)::text FROM "+listTable); waiting != "1" || seen != "0" {
		t.Errorf("%s commits wait and %s are seen, want one that waits", waiting, seen)
	}
	// The same, cancelled by another, is what the warning is for.
	again := serial.Txn{Ops: []serial.Op{{Kind: serial.Append, Key: "j", Value: 1}}}
	if err := s.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := s.conn.PgConn().PID()
	s.config.ReplyMilliseconds = 10_000
	done := make(chan error, 1)
	go func() { done <- s.transact(context.WithoutCancel(t.Context()), &again, func() int64 { return 0 }) }()
	for cancelled := false; !cancelled; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no second commit waits")
		}
		cancelled = p.one(t, "SELECT coalesce(bool_or(pg_cancel_backend(pid)), false)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $1", pid) == "true"
	}
	if err := <-done; again.Fate != serial.Unknown || !strings.Contains(fmt.Sprint(err), "warning 01000") {
		t.Errorf("the cancelled commit is %s: %v, want unknown by the warning", again.Fate, err)
	}
	if seen := p.one(t, "SELECT string_agg(key, ' ') FROM "+listTable); seen != "j" {
		t.Errorf("%s is seen, want what was cancelled, and not what was given up", seen)
	}
}

func TestWhenATransactionCertainlyDidNotHappen(t *testing.T) {
	for _, test := range []struct {
		err  error
		want bool
	}{
		{&pgconn.PgError{Code: "40001"}, true},
		{&pgconn.PgError{Code: "40P01"}, true},
		{&pgconn.PgError{Code: "57P01"}, false}, // the session was ended, in the middle of the commit
		{&pgconn.PgError{Code: "40003"}, false}, // the server says that it does not know
		{context.DeadlineExceeded, false},
		{net.ErrClosed, false},
	} {
		if got := neverCommitted(fmt.Errorf("commit: %w", test.err)); got != test.want {
			t.Errorf("a COMMIT answered with %v never happened: %t, want %t", test.err, got, test.want)
		}
	}
}

func TestElements(t *testing.T) {
	if got := elements("3,12,x,"); !slices.Equal(got, []int{3, 12, -1, -1}) {
		t.Errorf("%v, want what is no number to be one that nobody appended", got)
	}
}

func TestTransactionsWithoutAServerFail(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	config := RecordConfig{Config: Config{Address: address, Engine: PostgreSQL, User: "u", Database: "d", RetryMicroseconds: 1}}
	r := config.Begin("t")
	waitFor(t, r, func(seen Recorded) bool { return seen.Failures["connect: refused"] >= 10 })
	if seen := r.Stop(); seen.Confirmed+seen.Uncertain > 0 {
		t.Errorf("%+v, want failures alone", seen)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.Written(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the history of lists that cannot be read: %v", err)
	}
}
