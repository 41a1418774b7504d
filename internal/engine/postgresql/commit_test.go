package postgresql

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

var onlyB = engine.Quorum{Replicas: 1, Members: []string{"db-1.uid1"}}

// counts inserts a growing number, from a first one on, until the engine ends or it is stopped, and tells how many were acknowledged.
func (m *member) counts(first int) (stop func() int) {
	m.t.Helper()
	c := m.mustClient()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan int, 1)
	go func() {
		n := first
		for ; ctx.Err() == nil; n++ {
			if _, err := exec1(ctx, c, "INSERT INTO t VALUES ("+strconv.Itoa(n)+")"); err != nil {
				break
			}
		}
		result <- n - first
	}()
	return func() int { cancel(); return <-result }
}

// acknowledges waits until the primary acknowledged some commits of late.
func acknowledges(t *testing.T, m *member, rows int) {
	t.Helper()
	c := m.mustClient()
	until(t, "commits are acknowledged", func() bool {
		v, err := exec1(within(t), c, "SELECT count(*) FROM t")
		n, _ := strconv.Atoi(v)
		return err == nil && n >= rows
	})
}

// At each level what was acknowledged is on the replica that is cut, and on one whose engine was killed; and a commit waits for
// what the level says.
func TestCommitLevels(t *testing.T) {
	t.Parallel()
	for level, waitsForReplay := range map[string]bool{"remote_write": false, "": false, "remote_apply": true} {
		t.Run("level "+level, func(t *testing.T) {
			t.Parallel()
			set := func(c *agentconfig.PostgreSQL) { c.SynchronousCommit = level }
			a, b := newMember(t, 0, set).start().running(), newMember(t, 1, set).start().running()
			a.promote(engine.Quorum{})
			a.sql("CREATE TABLE t (n int)")
			b.follows(a)
			if err := a.Configure(within(t), onlyB); err != nil {
				t.Fatal(err)
			}
			if got := a.sql("SHOW synchronous_commit"); got != level && (level != "" || got != "on") {
				t.Errorf("synchronous_commit is %s", got)
			}
			wantReplay(t, a, b, waitsForReplay)

			// The replica's engine is killed under load: its files have what it acknowledged.
			stop := a.counts(1)
			acknowledges(t, a, 50)
			b.kill()
			acked := stop()
			b.start().running()
			b.wantRows(t, "after its engine was killed", acked)
			b.follows(a)

			// It is cut under load: the position that it answers with counts all that it acknowledged.
			a.sql("TRUNCATE t")
			stop = a.counts(1)
			acknowledges(t, a, 50)
			r, err := b.Detach(within(t), 0)
			if err != nil {
				t.Fatal(err)
			}
			acked = stop()
			if p := b.promote(engine.Quorum{}); p.Offset < r.Offset {
				t.Errorf("cut at %s, promoted at %s", lsn(r.Offset), lsn(p.Offset))
			}
			b.wantRows(t, "after the cut", acked)
		})
	}
}

// wantReplay checks whether a commit waits until its replica has replayed it.
func wantReplay(t *testing.T, a, b *member, waits bool) {
	t.Helper()
	until(t, "the replica is in the set", func() bool {
		return a.admin("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum' AND state = 'streaming'") == "1"
	})
	b.admin("SELECT pg_wal_replay_pause()::text")
	over := make(chan error, 1)
	c, ctx := a.mustClient(), within(t)
	go func() {
		_, err := exec1(ctx, c, "INSERT INTO t VALUES (0)")
		over <- err
	}()
	if waits {
		until(t, "the commit waits for replay alone", func() bool {
			return a.admin("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1" &&
				a.admin("SELECT (flush_lsn = pg_current_wal_flush_lsn())::text FROM pg_stat_replication WHERE state = 'streaming'") == "true"
		})
		b.admin("SELECT pg_wal_replay_resume()::text")
	}
	if err := <-over; err != nil {
		t.Errorf("with replay paused: %v", err)
	}
	b.admin("SELECT pg_wal_replay_resume()::text")
	a.sql("TRUNCATE t")
}

// wantRows waits until the numbers from 1 to acked are all there: a standby may still be at replaying them.
func (m *member) wantRows(t *testing.T, when string, acked int) {
	t.Helper()
	if acked < 50 {
		t.Fatalf("only %d commits were acknowledged", acked)
	}
	c, err := pgconn.Connect(within(t), fmt.Sprintf("host=%s port=%d user=%s dbname=app sslmode=disable", m.socketDir(), m.config.Port, superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(within(t)) }()
	query := fmt.Sprintf("SELECT count(DISTINCT n) FROM t WHERE n BETWEEN 1 AND %d", acked)
	until(t, fmt.Sprintf("%s %s has all %d rows", when, m.name, acked), func() bool {
		rows, err := exec1(within(t), c, query)
		return err == nil && rows == strconv.Itoa(acked)
	})
}

// A replica whose engine was killed far behind in replay tells no position before it has read all that it received.
func TestPositionAfterAKillCountsWhatWasReceived(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	b.admin("SELECT pg_wal_replay_pause()::text")
	a.sql("CREATE TABLE big AS SELECT n, repeat('x', 100) AS s FROM generate_series(1, 300000) AS n")
	had, _ := a.report()
	b.reaches(had.Offset)
	b.kill()
	b.start()
	until(t, "it tells its position", func() bool {
		r, ok := b.report()
		if ok && r.Offset < had.Offset {
			t.Fatalf("it had received up to %s, and says %s", lsn(had.Offset), lsn(r.Offset))
		}
		return ok
	})
}
