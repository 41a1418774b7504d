package postgresql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy.dev/understudy/internal/engine"
)

// ownSenders counts the processes that serve this program's connections for replication commands.
func (m *member) ownSenders() string {
	m.t.Helper()
	if !m.wakesIdleSenders() {
		return "0" // they cost nothing there and are kept
	}
	return m.admin("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND application_name = 'understudy-agent'")
}

// wantIdentified compares what a report says with what the server says when it is identified, before and after.
func (m *member) wantIdentified() {
	m.t.Helper()
	identified := func() place {
		c, err := m.dial(within(m.t))
		if err != nil {
			m.t.Fatal(err)
		}
		defer c.close()
		at, err := identify(within(m.t), c)
		if err != nil {
			m.t.Fatal(err)
		}
		return at
	}
	before := identified()
	r, ok := m.report()
	after := identified()
	if !ok || r.History != before.history() || r.History != after.history() || r.Offset < int64(before.LSN) || r.Offset > int64(after.LSN) {
		m.t.Errorf("%s: it reports %s at %d (%v), and is identified as %+v before and %+v after", m.name, r.History, r.Offset, ok, before, after)
	}
}

// While all is calm a member is looked at without a connection for replication commands, and what is seen is what the server says to one, on
// each timeline.
func TestCalmLooksTakeNoSender(t *testing.T) {
	t.Parallel()
	a, b := newMember(t, 0).start().running(), newMember(t, 1).start().running()
	a.promote(engine.Quorum{})
	a.sql("CREATE TABLE t (n int)")
	b.follows(a)
	for round := range 2 {
		pr, _ := a.report()
		b.reaches(pr.Offset)
		stop := a.writes()
		for _, m := range []*member{a, b} {
			until(t, m.name+" has no sender of ours", func() bool { _, ok := m.report(); return ok && m.ownSenders() == "0" })
			for range 20 {
				if r, ok := m.report(); !ok || (m == b && !r.LinkUp) {
					t.Fatalf("%s: %+v, %v", m.name, r, ok)
				}
			}
			if n := m.ownSenders(); n != "0" {
				t.Errorf("round %d: calm looks at %s made %s senders", round, m.name, n)
			}
			m.wantIdentified()
		}
		stop()
		if round == 1 {
			break
		}
		pr, _ = a.report()
		b.reaches(pr.Offset)
		a.kill()
		if _, err := b.Detach(within(t), 0); err != nil {
			t.Fatal(err)
		}
		b.wantIdentified()
		b.promote(engine.Quorum{})
		b.wantIdentified()
		a.start().running().follows(b)
		a, b = b, a
	}
}

// Superusers may take even the connections that are reserved. Whoever looks then still learns where the server is.
func TestFullServerIsStillSeen(t *testing.T) {
	t.Parallel()
	m := newMember(t, 0).start().running()
	m.promote(engine.Quorum{})
	m.probing.mu.Lock()
	m.probing.drop()
	m.probing.mu.Unlock()
	var taken []*conn
	defer func() {
		for _, c := range taken {
			c.close()
		}
	}()
	var err error
	for range 40 {
		var c *conn
		if c, err = m.dialAs(within(t), ""); err != nil {
			break
		}
		taken = append(taken, c)
	}
	if stateOf(err) != tooManyConnections {
		t.Fatalf("%d superusers connected, and the next found: %v", len(taken), err)
	}
	if r, ok := m.report(); !ok || !r.Primary || r.Offset == 0 {
		t.Errorf("a full server is seen as %+v, %v", r, ok)
	}
}

// What a superuser has set for clients, or for the role as which the agent orders, keeps the agent neither out nor from asking a standby.
func TestSettingsOfTheSuperuser(t *testing.T) {
	t.Parallel()
	a, b := newMember(t, 0).start().running(), newMember(t, 1).start().running()
	a.promote(engine.Quorum{})
	b.follows(a)
	a.admin("ALTER ROLE postgres SET default_transaction_isolation = 'serializable'; SELECT 1")
	a.admin("ALTER ROLE postgres SET session_preload_libraries = 'nowhere'; SELECT 1")
	a.admin("ALTER ROLE postgres SET local_preload_libraries = 'nowhere'; SELECT 1")
	pr, _ := a.report()
	b.reaches(pr.Offset)
	b.kill()
	b.start().running().follows(a)
	if _, err := b.Detach(within(t), 0); err != nil {
		t.Error(err)
	}
	b.promote(engine.Quorum{})
}

// The connection for replication commands is made anew when it broke, serves one life of the server only, and nobody waits for its turn longer
// than his own time.
func TestWALSession(t *testing.T) {
	t.Parallel()
	m := newMember(t, 0).start().running()
	life := m.currentLife()
	ask := func() (string, error) {
		row, err := m.wal.one(within(t), life, "IDENTIFY_SYSTEM")
		if err != nil {
			return "", err
		}
		return row[0], nil
	}
	system, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	m.admin(fmt.Sprintf("SELECT pg_terminate_backend(%d, 5000)", m.wal.conn.pg.PID()))
	if again, err := ask(); err != nil || again != system {
		t.Errorf("after its backend ended: %q, %v", again, err)
	}
	if err := m.wal.begin(within(t)); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := m.wal.one(short, life, "IDENTIFY_SYSTEM"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it is somebody else's turn: %v", err)
	}
	m.wal.end()
	m.kill()
	m.start().running()
	if _, err := ask(); err == nil {
		t.Error("a question that was meant for the server before was answered by the next one")
	}
	life = m.currentLife()
	if again, err := ask(); err != nil || again != system {
		t.Errorf("the next server: %q, %v", again, err)
	}
}

// SQL does not tell which timeline a standby replays. Once pg_wal has a later one's history, or before this life was seen to receive, it is
// identified instead.
func TestPlaceIsToldBySQLOnlyWhileNoTimelineCanHaveCome(t *testing.T) {
	t.Parallel()
	a, b := newMember(t, 0).start().running(), newMember(t, 1).start().running()
	a.promote(engine.Quorum{})
	b.follows(a)
	until(t, "it receives", func() bool { r, ok := b.report(); return ok && r.LinkUp })
	told := func() bool {
		t.Helper()
		c, err := b.dial(within(t))
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		rows, err := c.query(within(t), lookQuery)
		if err != nil {
			t.Fatal(err)
		}
		_, ok := b.placeOf(c.life, rows[0])
		return ok
	}
	if !told() {
		t.Error("it receives, and is identified")
	}
	if _, err := b.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	if !told() {
		t.Error("it received until it was cut, and is identified")
	}
	file := filepath.Join(b.data(), "pg_wal", "0000000A.history")
	if err := os.WriteFile(file, []byte("1\t0/3000000\tno recovery target specified\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if told() {
		t.Error("a later timeline may be replayed, and it is not identified")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	b.kill()
	b.start().running()
	if r, ok := b.report(); !ok || r.LinkUp {
		t.Fatalf("%+v, %v", r, ok)
	}
	if told() {
		t.Error("this life never received, and it is not identified")
	}
}
