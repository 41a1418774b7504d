package postgresql

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"understudy.dev/understudy/internal/engine"
)

// A rewound server needs WAL of the primary before it can be read. When that primary dies first, the next one gives it; and
// meanwhile it follows under a name that counts for nobody.
func TestCatchUpIsLedToTheNextPrimary(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	c := newMember(t, 2).start().running().follows(a)
	r, _ := a.report()
	for _, m := range []*member{b, c} {
		m.reaches(r.Offset)
		if _, err := m.Detach(within(t), 0); err != nil {
			t.Fatal(err)
		}
	}
	a.sql("INSERT INTO t SELECT generate_series(1000, 1500)") // lost
	b.promote(engine.Quorum{})
	c.follows(b)
	a.crash()
	until(t, "a is a standby again", func() bool { r, ok := a.report(); return ok && !r.Primary })

	gate := a.disk.path("gate")
	a.mu.Lock()
	a.sabotage = func(proc *engine.Process) { // the primary is written to during the rewind; the server waits at the gate
		if strings.HasSuffix(proc.Path, "/postgres") {
			wait := `until [ -e ` + gate + ` ]; do sleep 0.01; done; exec "$@"`
			proc.Args = slices.Concat([]string{"sh", "-c", wait, "gate", proc.Path}, proc.Args[1:])
			proc.Path = "/bin/sh"
		}
	}
	a.mu.Unlock()
	stop := b.writes()
	if err := a.follow(within(t), b.address); err != nil {
		t.Fatal(err)
	}
	until(t, "a is rewound", func() bool { return exists(a.disk.note(catchFile)) })
	stop()
	r, _ = b.report()
	c.reaches(r.Offset)
	b.kill()
	if _, err := c.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	c.promote(engine.Quorum{})
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	loading := false
	until(t, "a is readable", func() bool {
		if _, ok := a.report(); ok {
			return true
		}
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		if err := a.follow(ctx, c.address); err != nil && strings.Contains(err.Error(), "still loading") {
			loading = true
		}
		return false
	})
	if !loading {
		t.Error("the server was readable at once, so this proved nothing")
	}
	a.follows(c)
	if got := c.admin("SELECT string_agg(application_name, ' ') FROM pg_stat_replication WHERE state = 'streaming'"); got != "db-0.uid0" {
		t.Errorf("it follows as %q", got)
	}
	if got, want := a.sql("SELECT count(*) FROM t"), c.sql("SELECT count(*) FROM t"); got != want {
		t.Errorf("%s rows, want %s", got, want)
	}
}

// The link by which a rewound server catches up is no link of a replica's, also while whoever holds it has not noticed that it is over: who took it
// for one would never tell the member to follow, and nobody could read from it.
func TestLinkOfACatchUpIsNone(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	r, _ := a.report()
	b.reaches(r.Offset)
	if _, err := b.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	a.sql("INSERT INTO t SELECT generate_series(1000, 1500)") // lost
	b.promote(engine.Quorum{})
	a.crash()
	until(t, "a is a standby again", func() bool { r, ok := a.report(); return ok && !r.Primary })
	if err := a.follow(within(t), b.address); err != nil {
		t.Fatal(err)
	}
	startup := 0
	until(t, "a catches up", func() bool {
		c, err := a.dial(within(t))
		if err != nil {
			return false
		}
		defer c.close()
		row, err := c.one(within(t), "SELECT a.pid FROM pg_stat_activity AS a, pg_stat_wal_receiver AS w WHERE backend_type = 'startup' AND w.status = 'streaming' "+
			"AND pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()")
		if err == nil {
			startup, err = strconv.Atoi(row[0])
		}
		return err == nil
	})
	if err := syscall.Kill(startup, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "the catch-up is over", func() bool { _, ok := a.report(); return ok })
	if got := a.admin("SELECT status FROM pg_stat_wal_receiver"); got != streaming {
		t.Fatalf("the receiver is %q, so this proves nothing", got)
	}
	if r, _ := a.report(); r.LinkUp || r.Upstream != "" {
		t.Errorf("it was told nobody, and says that it follows %q (%v)", r.Upstream, r.LinkUp)
	}
	if err := syscall.Kill(startup, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	a.follows(b)
	until(t, "it is readable", func() bool { c, err := a.client(); return err == nil && c.Close(within(t)) == nil })
}

// A primary that is killed before its first checkpoint can be read again before it has replayed what it wrote, and seems to have no
// more than the next one. It is compared only when it has.
func TestFollowWaitsForTheReplay(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	c := newMember(t, 2).start().running().follows(a)
	r, _ := a.report()
	for _, m := range []*member{b, c} {
		m.reaches(r.Offset)
	}
	a.kill()
	pid, err := strconv.Atoi(b.admin("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.promote(engine.Quorum{Replicas: 1, Members: []string{"db-2.uid2"}})
	c.follows(b)
	b.sql("INSERT INTO t VALUES (1)")
	r, _ = b.report()
	c.reaches(r.Offset)
	if _, err := c.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	b.sql("SET synchronous_commit = local; INSERT INTO t VALUES (2)") // lost
	b.mu.Lock()
	b.sabotage = func(proc *engine.Process) { // it replays no commit until this is taken away
		if strings.HasSuffix(proc.Path, "/postgres") {
			proc.Args = append(proc.Args, "-c", "recovery_min_apply_delay=1h")
		}
	}
	b.mu.Unlock()
	b.crash()
	c.promote(engine.Quorum{})
	until(t, "b can be read", func() bool {
		if b.stageNow() != runServer {
			return false
		}
		conn, err := b.dial(within(t))
		if err != nil {
			return false
		}
		conn.close()
		return true
	})
	err = b.follow(within(t), c.address)
	if !errors.Is(err, engine.ErrLoading) {
		t.Errorf("told to follow before it knows what it has: %v, want %v", err, engine.ErrLoading)
	}
	if got := b.admin("SHOW primary_conninfo"); got != "" {
		t.Errorf("it follows with %s", got)
	}
}
