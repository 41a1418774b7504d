package postgresql

import (
	"context"
	"os"
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
	b.Expect(engine.Successor{Address: a.address})
	open("1")
	b.Expect(engine.Successor{Address: "127.0.0.1:1"})
	open("0")
	if c := b.takeExpected(within(t), a.address); c != nil {
		t.Error("it took a connection to another server for one to this")
	}
	b.Expect(engine.Successor{Address: a.address})
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
	b.Expect(engine.Successor{Address: a.address})
	open("1")
	open("0") // after expectFor
}

// A replica that was told that the next primary has what it has goes on from it without a question. What keeps it from streaming is found out a moment
// later.
func TestGoesOnUnasked(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(b *member){
		"the next primary has all that it needs": func(*member) {},
		"it lacks the slot":                      func(b *member) { b.admin("SELECT pg_drop_replication_slot('understudy_db_2')") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, m, own := cutPair(t)
			spoil(b)
			m.Expect(engine.Successor{Address: b.address, History: own.History, Offset: own.Offset})
			if !m.unasked(b.address) {
				t.Error("it asks the next primary, which has what it has itself")
			}
			if err := m.Follow(within(t), b.address); err != nil {
				t.Fatal(err)
			}
			if m.unasked(b.address) {
				t.Error("what it knew of the next primary is still used after it was told to follow")
			}
			b.promote(engine.Quorum{Replicas: 1, Members: []string{"db-2.uid2"}})
			b.sql("INSERT INTO t VALUES (2)") // m acknowledges
			if ran := m.ran(); len(ran) > 4 {
				t.Errorf("it did not simply go on: %v", ran)
			}
		})
	}
}

// Whoever is not sure asks.
func TestAsksWhenItIsNotSure(t *testing.T) {
	t.Parallel()
	b, m, own := cutPair(t)
	for name, c := range map[string]struct {
		next  engine.Successor
		spoil func() (undo func())
		want  bool
	}{
		"it has as much":                 {engine.Successor{Address: b.address, History: own.History, Offset: own.Offset}, nil, true},
		"it has a little more":           {engine.Successor{Address: b.address, History: own.History, Offset: own.Offset + goesOnWithin}, nil, true},
		"it has much more":               {engine.Successor{Address: b.address, History: own.History, Offset: own.Offset + goesOnWithin + 1}, nil, false},
		"it has less":                    {engine.Successor{Address: b.address, History: own.History, Offset: own.Offset - 1}, nil, false},
		"nobody knows what it has":       {engine.Successor{Address: b.address, Offset: own.Offset}, nil, false},
		"its history is another":         {engine.Successor{Address: b.address, History: own.History + "1", Offset: own.Offset}, nil, false},
		"it is another one":              {engine.Successor{Address: "127.0.0.1:1", History: own.History, Offset: own.Offset}, nil, false},
		"this member's data is nobody's": {engine.Successor{Address: b.address, History: own.History, Offset: own.Offset}, m.noted(emptyFile), false},
		"that is of an earlier life": {engine.Successor{Address: b.address, History: own.History, Offset: own.Offset}, func() func() {
			m.PostgreSQL.mu.Lock()
			defer m.PostgreSQL.mu.Unlock()
			m.expected.life--
			return func() {}
		}, false},
	} {
		m.Expect(c.next)
		undo := func() {}
		if c.spoil != nil {
			undo = c.spoil()
		}
		if got := m.unasked(b.address); got != c.want {
			t.Errorf("%s: it goes on unasked: %t, want %t", name, got, c.want)
		}
		undo()
	}
	m.Expect(engine.Successor{Address: b.address, History: own.History, Offset: own.Offset})
	if _, err := m.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	if m.unasked(b.address) {
		t.Error("what it knew of the next primary outlives the next cut")
	}
}

// cutPair are two replicas of a primary that is gone, and what the second one has.
func cutPair(t *testing.T) (b, m *member, own engine.Report) {
	t.Helper()
	a, b := pair(t, engine.Quorum{})
	m = newMember(t, 2).start().running().follows(a)
	a.sql("INSERT INTO t VALUES (1)")
	r, _ := a.report()
	b.reaches(r.Offset)
	m.reaches(r.Offset)
	until(t, "it receives, and the next primary has a slot for it", func() bool {
		r, ok := m.report()
		return ok && r.LinkUp && b.admin("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'understudy_db_2'") == "1"
	})
	a.kill()
	for _, each := range []*member{b, m} {
		var err error
		if own, err = each.Detach(within(t), 0); err != nil {
			t.Fatal(err)
		}
	}
	return b, m, own
}

func (m *member) unasked(address string) (unasked bool) {
	m.t.Helper()
	err := m.with(within(m.t), &m.orders, func(c *conn) error {
		var err error
		unasked, err = m.goesOnUnasked(within(m.t), c, address)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return unasked
}

// noted makes a note for a while.
func (m *member) noted(note string) func() func() {
	return func() func() {
		if err := os.WriteFile(m.disk.note(note), nil, 0o600); err != nil {
			m.t.Fatal(err)
		}
		return func() { _ = os.Remove(m.disk.note(note)) }
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
