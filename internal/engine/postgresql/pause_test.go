package postgresql

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"understudy.dev/understudy/internal/engine"
)

func TestPauseHoldsEveryCommit(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	ctx, stop := context.WithCancel(context.Background())
	var acknowledged atomic.Int64
	over := make(chan struct{})
	const writers = 4
	for range writers {
		go func() { // comes back at once whenever it is thrown out
			defer func() { over <- struct{}{} }()
			for ctx.Err() == nil {
				c, err := a.client()
				for err == nil && ctx.Err() == nil {
					if _, err = exec1(ctx, c, "INSERT INTO t VALUES (1)"); err == nil {
						acknowledged.Add(1)
					}
				}
				if c != nil {
					_ = c.Close(ctx)
				}
			}
		}()
	}
	until(t, "clients write", func() bool { return acknowledged.Load() > 50 })
	final, err := a.Pause(within(t), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	at := acknowledged.Load()
	b.reaches(final.Offset)
	const transactions = "SELECT pg_snapshot_xmax(pg_current_snapshot())" // the position moves by itself now and then
	began := a.admin(transactions)
	for range 20 {
		if r, ok := a.report(); !ok || !r.Primary {
			t.Fatalf("during the pause: %+v, %t", r, ok)
		}
	}
	if now := a.admin(transactions); now != began {
		t.Errorf("transactions wrote during the pause: %s, then %s", began, now)
	}
	// Those that were told of a commit just before may count it late, one each at most.
	if n := acknowledged.Load(); n > at+writers {
		t.Errorf("%d commits were acknowledged in the pause", n-at)
	}
	if err := a.Resume(within(t)); err != nil {
		t.Fatal(err)
	}
	at = acknowledged.Load()
	until(t, "clients write again", func() bool { return acknowledged.Load() > at+50 })
	// Nobody resumes: it does so by itself.
	if _, err := a.Pause(within(t), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	at = acknowledged.Load()
	until(t, "clients write again by themselves", func() bool { return acknowledged.Load() > at+50 })
	stop()
	for range writers {
		<-over
	}
	rows, _ := strconv.ParseInt(a.sql("SELECT count(*) FROM t"), 10, 64)
	if n := acknowledged.Load(); rows < n {
		t.Errorf("%d commits were acknowledged and %d rows are there", n, rows)
	}
}

// A client that was let in before the pause and is still logging in comes too late: no view shows it, and it is found.
func TestPauseFindsWhoIsStillLoggingIn(t *testing.T) {
	t.Parallel()
	a := newMember(t, 0).start().running()
	a.promote(engine.Quorum{})
	asked, goOn := make(chan struct{}), make(chan struct{})
	result := make(chan error, 1)
	go func() {
		c, _ := pgconn.ParseConfig("host=127.0.0.1 port=" + strconv.Itoa(a.config.Port) + " dbname=app sslmode=disable")
		c.User, c.Password = a.config.Owner, ownerPassword
		c.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, n net.Conn) (net.Conn, error) {
			return &slowConn{Conn: n, asked: asked, goOn: goOn}, nil
		}
		conn, err := pgconn.ConnectConfig(context.Background(), c)
		if err == nil {
			_, err = exec1(context.Background(), conn, "CREATE TABLE late (n int)")
		}
		result <- err
	}()
	<-asked
	if _, err := a.Pause(within(t), time.Minute); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if err := <-result; err == nil {
		t.Error("who was logging in when the pause began has committed in it")
	}
}

// slowConn holds its second message, which is the login's answer, back.
type slowConn struct {
	net.Conn
	asked, goOn chan struct{}
	writes      int
}

func (c *slowConn) Write(b []byte) (int, error) {
	if c.writes++; c.writes == 2 {
		close(c.asked)
		<-c.goOn
	}
	return c.Conn.Write(b)
}

// Writes go on while the link is cut: after Detach has said where it stands, nothing more arrives.
func TestDetachUnderLoad(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan struct{})
	var written atomic.Int64
	c := a.mustClient()
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			if _, err := exec1(context.Background(), c, "INSERT INTO t VALUES (1)"); err == nil {
				written.Add(1)
			}
		}
	}()
	defer func() { stop(); <-over }()
	for range 5 {
		at := written.Load()
		until(t, "it is written", func() bool { return written.Load() > at+20 })
		cut, err := b.Detach(within(t), 0)
		if err != nil {
			t.Fatal(err)
		}
		at = written.Load()
		until(t, "more is written", func() bool { return written.Load() > at+50 })
		if r, ok := b.report(); !ok || r.Offset != cut.Offset || r.History != cut.History {
			t.Fatalf("cut at %+v, and now %+v", cut, r)
		}
		b.follows(a)
	}
}
