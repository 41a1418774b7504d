package postgresql

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"understudy.dev/understudy/internal/engine"
)

// A replica that is told to follow a server which is about to be promoted streams from it before it is, and goes on over the same
// connection afterwards.
func TestFollowsBeforeThePromotion(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	c := newMember(t, 2).start().running().follows(a)
	a.sql("INSERT INTO t VALUES (1)")
	r, _ := a.report()
	b.reaches(r.Offset)
	c.reaches(r.Offset)
	a.kill()
	for _, m := range []*member{b, c} {
		if _, err := m.Detach(within(t), 0); err != nil {
			t.Fatal(err)
		}
	}
	told := time.Now()
	if err := c.Follow(within(t), b.address); err != nil {
		t.Fatal("following a server before its promotion:", err)
	}
	t.Logf("following took %s", time.Since(told))
	until(t, "it streams from a standby", func() bool {
		r, ok := c.report()
		return ok && r.LinkUp && r.Upstream == b.address
	})
	const receiver = "SELECT pid FROM pg_stat_wal_receiver"
	early, began := c.admin(receiver), time.Now()
	b.promote(engine.Quorum{Replicas: 1, Members: []string{"db-2.uid2"}})
	promoted := time.Since(began)
	b.sql("INSERT INTO t VALUES (2)") // c acknowledges
	t.Logf("promoted in %s, first commit after %s", promoted, time.Since(began))
	if now := c.admin(receiver); now != early {
		t.Errorf("the promotion cost it its connection: receiver %s, then %s", early, now)
	}
	r, _ = b.report()
	c.reaches(r.Offset)
	if ran := c.ran(); len(ran) > 4 {
		t.Errorf("it did not simply go on: %v", ran)
	}
}

// A connection that was made beforehand is the one that Follow uses. One that nobody asks for ends by itself, as does one to a
// server that is not followed after all.
func TestExpected(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	for _, m := range []*member{a, b} {
		m.running()
	}
	const senders = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'db-1.%' AND application_name LIKE '%" + rejoining + "'"
	open := func(want string) {
		t.Helper()
		until(t, want+" connections beforehand", func() bool { return a.admin(senders) == want })
	}
	b.Expect(a.address, -1)
	open("1")
	b.Expect("127.0.0.1:1", -1)
	open("0")
	if c := b.takeExpected(within(t), a.address); c != nil {
		t.Error("it took a connection to another server for one to this")
	}
	b.Expect(a.address, -1)
	open("1")
	c := b.takeExpected(within(t), a.address)
	if c == nil {
		t.Fatal("the connection that was made beforehand is not used")
	}
	if again := b.takeExpected(within(t), a.address); again != nil {
		t.Error("it was given away twice")
	}
	c.close()
	open("0")
	b.Expect(a.address, -1)
	open("1")
	open("0") // after expectFor
}

// A replica that was told that the next primary has what it has goes on from it without a question. What keeps it from streaming is found out a moment
// later; and one that has more asks at once.
func TestGoesOnUnasked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(b *member)
		less  int64 // how much less the next primary has than this one
		asks  bool
	}{
		"it has as much":           {nil, 0, false},
		"it has more":              {nil, -100, false},
		"it has less":              {nil, 1, true},
		"it lacks the slot for it": {func(b *member) { b.admin("SELECT pg_drop_replication_slot('understudy_db_2')") }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, engine.Quorum{})
			m := newMember(t, 2).start().running().follows(a)
			a.sql("INSERT INTO t VALUES (1)")
			r, _ := a.report()
			b.reaches(r.Offset)
			m.reaches(r.Offset)
			until(t, "the next primary has a slot for it", func() bool {
				return b.admin("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'understudy_db_2'") == "1"
			})
			err := b.with(within(t), &b.orders, func(c *conn) error {
				_, err := c.query(within(t), "ALTER SYSTEM SET log_connections = on")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			b.admin("SELECT pg_reload_conf()")
			until(t, "connections are logged", func() bool { return b.admin("SHOW log_connections") == "on" })
			a.kill()
			var own engine.Report
			for _, each := range []*member{b, m} {
				if own, err = each.Detach(within(t), 0); err != nil {
					t.Fatal(err)
				}
			}
			if c.spoil != nil {
				c.spoil(b)
			}
			m.Expect(b.address, own.Offset-c.less)
			if err := m.Follow(within(t), b.address); err != nil {
				t.Fatal(err)
			}
			b.promote(engine.Quorum{Replicas: 1, Members: []string{"db-2.uid2"}})
			b.sql("INSERT INTO t VALUES (2)") // m acknowledges
			log, err := os.ReadFile(b.log.Name())
			if err != nil {
				t.Fatal(err)
			}
			if asked := strings.Contains(string(log), "application_name=db-2.uid2"+rejoining); asked != c.asks {
				t.Errorf("it asked what the next primary has: %t, want %t", asked, c.asks)
			}
			if ran := m.ran(); len(ran) > 4 {
				t.Errorf("it did not simply go on: %v", ran)
			}
		})
	}
}

// letIn opens the door to members as the first half of a promotion does.
func (m *member) letIn() {
	m.t.Helper()
	err := m.with(within(m.t), &m.orders, func(c *conn) error { return m.setDoor(within(m.t), c, open) })
	if err != nil {
		m.t.Fatal(err)
	}
}

// A replica that has more than the server that is about to be promoted waits for the promotion, and is then compared with it.
func TestMoreThanTheNextPrimaryHas(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	c := newMember(t, 2).start().running().follows(a)
	r, _ := a.report()
	b.reaches(r.Offset)
	if _, err := b.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	a.sql("INSERT INTO t SELECT generate_series(1, 1000)") // c alone has it
	r, _ = a.report()
	c.reaches(r.Offset)
	a.kill()
	if _, err := c.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	b.letIn()
	if err := c.Follow(within(t), b.address); err == nil {
		t.Error("it follows a standby that has less than it")
	}
	b.promote(engine.Quorum{})
	b.sql("INSERT INTO t VALUES (-1)")
	c.follows(b)
	r, _ = b.report()
	c.reaches(r.Offset)
	until(t, "it is readable", func() bool { conn, err := c.client(); return err == nil && conn.Close(within(t)) == nil })
	if got := c.sql("SELECT string_agg(n::text, ',') FROM t"); got != "-1" {
		t.Errorf("it has %s", got)
	}
}

// What a promotion needs is in force since the link was cut, and is not loaded again; with another quorum it is.
func TestPreparedPromotion(t *testing.T) {
	t.Parallel()
	quorum := engine.Quorum{Replicas: 1, Members: []string{"db-2.uid2"}}
	for _, prepared := range []engine.Quorum{quorum, {Replicas: 1, Members: []string{"db-0.uid0"}}, {}} {
		a, b, c := newMember(t, 0).start().running(), newMember(t, 1).start().running(), newMember(t, 2).start().running()
		a.promote(engine.Quorum{})
		b.follows(a)
		c.follows(a)
		a.kill()
		b.ExpectPromotion(prepared)
		if _, err := b.Detach(within(t), 0); err != nil {
			t.Fatal(err)
		}
		before := b.generation
		b.promote(quorum)
		if same := b.generation == before; same != prepared.Equal(quorum) {
			t.Errorf("prepared for %+v and promoted with %+v, it loaded its configuration again: %t", prepared, quorum, !same)
		}
		if got := b.admin("SHOW synchronous_standby_names"); got != `ANY 1 ("db-2.uid2")` {
			t.Errorf("prepared for %+v, commits wait for %s", prepared, got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := exec1(ctx, b.mustClient(), "CREATE TABLE early (n int)")
		cancel()
		if err == nil {
			t.Error("a commit was acknowledged that no replica has")
		}
		c.follows(b)
		b.sql("CREATE TABLE later (n int)")
	}
}
