package postgresql

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

// pair is a primary with a table and a replica that has it.
func pair(t *testing.T, q engine.Quorum) (a, b *member) {
	t.Helper()
	a, b = newMember(t, 0).start().running(), newMember(t, 1).start().running()
	a.promote(engine.Quorum{})
	a.sql("CREATE TABLE t (n int)")
	b.follows(a)
	if q.Replicas > 0 {
		if err := a.Configure(within(t), q); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func TestFailoverAndRewindOfTheOldPrimary(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	a.sql("INSERT INTO t VALUES (1)")
	r, _ := a.report()
	b.reaches(r.Offset)
	if _, err := b.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	a.sql("INSERT INTO t SELECT generate_series(1000, 3000)") // what b never had
	before, _ := a.report()
	began := time.Now()
	p := b.promote(engine.Quorum{})
	t.Logf("promoted in %s", time.Since(began))
	b.sql("INSERT INTO t VALUES (2)")

	a.crash()
	until(t, "a is a standby again", func() bool { r, ok := a.report(); return ok && !r.Primary })
	if r, _ := a.report(); r.Offset < before.Offset {
		t.Errorf("after its crash a has %d, had %d", r.Offset, before.Offset)
	}
	a.follows(b)
	ran := stepNames(a.ran())
	if got := fmt.Sprint(ran[len(ran)-2:]); got != "[Rewind Server]" {
		t.Errorf("it rejoined by %v", ran)
	}
	r, _ = b.report()
	a.reaches(r.Offset)
	if got := a.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM t"); got != "1,2" {
		t.Errorf("after the rewind it has %s", got)
	}
	if r, _ := a.report(); r.History != p.History {
		t.Errorf("its history is %s, the primary's %s", r.History, p.History)
	}
	wantLost(t, a, before.Offset, p.Offset)
}

// wantLost checks what a member says it lost, of what it had and the next primary began after.
func wantLost(t *testing.T, m *member, had, next int64) {
	t.Helper()
	l, err := m.Lost()
	if err != nil || l == nil {
		t.Fatalf("what was lost: %+v, %v", l, err)
	}
	from, _ := parseLSN(l.From)
	to, _ := parseLSN(l.To)
	if int64(from) > next || int64(to) < had || l.Bytes != int64(to-from) || l.Bytes < 50000 {
		t.Errorf("lost %+v; it had %s, and the new primary began at %s", l, lsn(had), lsn(next))
	}
	if len(l.Segments) == 0 {
		t.Fatal("nothing was kept")
	}
	want := engine.Kept{Had: engine.Had{Epoch: 7, Primary: true}, Bytes: l.Bytes, Dir: l.Dir, First: l.Segments[0], Last: l.Segments[len(l.Segments)-1],
		FileBytes: l.KeptBytes, Complete: true}
	if k, err := m.Kept(); err != nil || *k != want {
		t.Errorf("kept %+v, %v; want %+v", k, err, want)
	}
	for _, name := range l.Segments {
		if info, err := os.Stat(filepath.Join(l.Dir, name)); err != nil || info.Size() != l.KeptBytes/int64(len(l.Segments)) {
			t.Errorf("kept %v, %v", info, err)
		}
	}
}

// The primary has let go of the WAL that a replica needs: it copies.
func TestReplicaThatWasAwayForTooLongCopies(t *testing.T) {
	t.Parallel()
	little := func(c *agentconfig.PostgreSQL) {
		for _, k := range []string{"min_wal_size", "max_wal_size"} {
			c.Parameters[k] = "32MB"
		}
		c.Parameters["wal_keep_size"], c.Parameters["max_slot_wal_keep_size"] = "0", "16MB"
	}
	a, b := newMember(t, 0, little).start().running(), newMember(t, 1, little).start().running()
	a.promote(engine.Quorum{})
	b.follows(a)
	b.kill()
	for range 40 { // segments, of 1 MB each
		a.admin("SELECT pg_switch_wal() FROM (SELECT pg_logical_emit_message(false, '', 'x')) AS x")
	}
	c, err := a.dial(within(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	until(t, "the primary lets go of what the slot held", func() bool {
		if _, err := c.query(within(t), "CHECKPOINT"); err != nil {
			t.Fatal(err)
		}
		return a.admin("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'understudy_db_1'") == "lost"
	})
	b.start().running().follows(a)
	b.wantStages(runServer, runCopy, runServer, runServer, runCopy, runServer)
}

// Data that was brought along lacks the members' role, and gets it when it becomes the primary's.
func TestImportedData(t *testing.T) {
	t.Parallel()
	a := newMember(t, 0).start().running()
	a.promote(engine.Quorum{})
	a.sql("CREATE TABLE t AS SELECT 1")
	until(t, "the members' role can go", func() bool {
		c, err := a.dial(within(t))
		if err != nil {
			return false
		}
		defer c.close()
		_, err = c.query(within(t), "DROP OWNED BY "+replicator+"; DROP ROLE "+replicator)
		return err == nil
	})
	a.kill()
	if err := os.RemoveAll(a.disk.note("")); err != nil {
		t.Fatal(err)
	}
	a.start().running()
	if r, ok := a.report(); !ok || !r.HasData {
		t.Errorf("what was brought along counts as nothing: %+v", r)
	}
	a.promote(engine.Quorum{})
	b := newMember(t, 1).start().running().follows(a)
	if got := b.admin("SELECT count(*) FROM pg_database WHERE datname = 'app'"); got != "1" {
		t.Errorf("%s databases were copied", got)
	}
}

// A rewind that fails is followed by a copy.
func TestRewindThatFailsIsFollowedByACopy(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	if _, err := b.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	a.sql("INSERT INTO t VALUES (1)")
	b.promote(engine.Quorum{})
	a.crash()
	until(t, "a is a standby again", func() bool { r, ok := a.report(); return ok && !r.Primary })
	a.mu.Lock()
	a.sabotage = func(proc *engine.Process) {
		for i, arg := range proc.Args {
			if arg == "--target-pgdata="+a.data() {
				proc.Args[i] = "--target-pgdata=/proc/none"
			}
		}
	}
	a.mu.Unlock()
	a.follows(b)
	ran := stepNames(a.ran())
	if got := fmt.Sprint(ran[len(ran)-3:]); got != "[Rewind Copy Server]" {
		t.Errorf("it rejoined by %v", ran)
	}
	if got := a.sql("SELECT count(*) FROM t"); got != "0" {
		t.Errorf("%s rows", got)
	}
}

// Killed while its data is rewound, it never serves that data, and copies.
func TestInterruptedRewind(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	if _, err := b.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	a.sql("INSERT INTO t SELECT generate_series(1, 1000)")
	b.promote(engine.Quorum{})
	a.crash()
	until(t, "a is a standby again", func() bool { r, ok := a.report(); return ok && !r.Primary })
	// The rewind does all its work, and is killed before that is recorded.
	reached := a.disk.path("reached")
	a.mu.Lock()
	a.sabotage = func(proc *engine.Process) {
		if args := proc.Args; strings.HasSuffix(args[5], "pg_rewind") {
			proc.Args = slices.Concat(args[:5], []string{"sh", "-c", `"$@"; touch ` + reached + `; exec sleep 1000`, "x"}, args[5:])
		}
	}
	a.mu.Unlock()
	if err := a.follow(within(t), b.address); err != nil {
		t.Fatal(err)
	}
	until(t, "the data is rewound", func() bool { return exists(reached) })
	a.kill()
	if s, _, err := a.disk.state(); !s.Torn || s.RewindDone != unknown {
		t.Fatalf("%+v, %v", s, err)
	}
	a.start().follows(b)
	ran := stepNames(a.ran())
	if got := fmt.Sprint(ran[len(ran)-3:]); got != "[Rewind Copy Server]" {
		t.Errorf("it rejoined by %v", ran)
	}
	if exists(a.disk.note(tornFile)) {
		t.Error("the data counts as torn")
	}
}

func TestSynchronousCommitWaits(t *testing.T) {
	t.Parallel()
	names := []string{"db-1.uid1", "db-2.uid2"}
	a, b := pair(t, engine.Quorum{Replicas: 1, Members: names})
	a.sql("INSERT INTO t VALUES (1)") // b acknowledges
	b.kill()
	// Without a replica a commit waits, and the agent's own probe does not.
	var committed atomic.Bool
	c := a.mustClient()
	over := make(chan error, 1)
	go func() {
		_, err := exec1(context.Background(), c, "INSERT INTO t VALUES (2)")
		committed.Store(err == nil)
		over <- err
	}()
	other := a.mustClient()
	until(t, "the commit waits", func() bool {
		v, err := exec1(within(t), other, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
		return err == nil && v == "1"
	})
	a.PostgreSQL.mu.Lock()
	a.wroteAt = time.Time{}
	a.PostgreSQL.mu.Unlock()
	if r, ok := a.report(); !ok || !r.Primary {
		t.Errorf("a probe without replicas: %+v, %t", r, ok)
	}
	if committed.Load() {
		t.Error("the commit was acknowledged without a replica")
	}
	if got, _ := exec1(within(t), other, "SELECT count(*) FROM t"); got != "1" {
		t.Errorf("others see %s rows", got)
	}
	b.start().running().follows(a)
	if err := <-over; err != nil {
		t.Error("the commit was not acknowledged when the replica was back:", err)
	}
	// Fewer are enough: nobody waits any more.
	b.kill()
	if err := a.Configure(within(t), engine.Quorum{}); err != nil {
		t.Fatal(err)
	}
	a.sql("INSERT INTO t VALUES (3)")
}

// A standby is promoted with its quorum: the very first commit waits.
func TestPromotionBeginsWithItsQuorum(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	a.kill()
	b.promote(engine.Quorum{Replicas: 1, Members: []string{"db-0.uid0"}})
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if _, err := exec1(ctx, b.mustClient(), "INSERT INTO t VALUES (1)"); err == nil {
		t.Error("a commit was acknowledged without a replica")
	}
	if err := b.Configure(within(t), engine.Quorum{Replicas: 2, Members: []string{"db-0.uid0"}}); err == nil {
		t.Error("a quorum that can never be was accepted")
	}
	a.start().running().follows(b)
	b.sql("INSERT INTO t VALUES (2)")
	if got := b.admin("SELECT sync_state FROM pg_stat_replication WHERE application_name = 'db-0.uid0'"); got != "quorum" {
		t.Errorf("the replica's state is %q", got)
	}
}

// The slot of a member holds WAL back on the primary alone, and is there on the next one.
func TestSlots(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	const held = "SELECT coalesce(string_agg(slot_name || CASE WHEN restart_lsn IS NULL THEN '' ELSE '+' END, ' ' ORDER BY slot_name), '') FROM pg_replication_slots"
	want := func(m *member, want string) {
		t.Helper()
		got := ""
		until(t, m.name+" has its slots: "+want, func() bool {
			_, _ = m.report()
			got = m.admin(held)
			return got == want
		})
	}
	want(a, "understudy_db_1+ understudy_db_2+")
	want(b, "understudy_db_0 understudy_db_2")
	if _, err := b.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	b.promote(engine.Quorum{})
	a.crash()
	until(t, "a is a standby again", func() bool { r, ok := a.report(); return ok && !r.Primary })
	a.follows(b)
	want(b, "understudy_db_0+ understudy_db_2+")
	want(a, "understudy_db_1 understudy_db_2")
}

// A new primary with much to write takes its time for its first checkpoint, and until then its control file names the timeline of
// its predecessor. The old primary rewinds to it all the same, and its server starts.
func TestRewindBeforeTheFirstCheckpoint(t *testing.T) {
	t.Parallel()
	a, b := pair(t, engine.Quorum{})
	a.sql("CREATE TABLE big AS SELECT n, repeat('x', 200) AS s FROM generate_series(1, 50000) AS n")
	r, _ := a.report()
	b.reaches(r.Offset)
	if _, err := b.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	a.sql("INSERT INTO t VALUES (1000)") // what b never had
	p := b.promote(engine.Quorum{})
	b.sql("INSERT INTO t VALUES (2)")
	if early := b.admin("SELECT timeline_id FROM pg_control_checkpoint()"); strings.HasSuffix(p.History, "/"+early) {
		t.Skip("the first checkpoint was over at once: nothing to be seen")
	}
	a.crash()
	until(t, "a is a standby again", func() bool { r, ok := a.report(); return ok && !r.Primary })
	a.follows(b)
	if got := fmt.Sprint(a.ran()); strings.Contains(got, string(runCopy)) {
		t.Errorf("it rejoined by %v: a rewind was enough", got)
	}
}

// A stricter set ends the senders of replicas, so that none goes by the set before. A copy that another member makes goes on: no set names it, and begun anew again and
// again it would be given up.
func TestStricterSetEndsNoCopy(t *testing.T) {
	t.Parallel()
	a := newMember(t, 0).start().running()
	a.promote(engine.Quorum{})
	b := newMember(t, 1)
	b.spoil("pg_basebackup", func(args []string) []string { return append(args, "--max-rate=1M") })
	b.start().running()
	if err := b.follow(within(t), a.address); err != nil {
		t.Fatal(err)
	}
	copies := func() string {
		return a.admin("SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_replication WHERE state = 'backup'")
	}
	until(t, "b copies", func() bool { return copies() != "" })
	before := copies()
	if err := a.Configure(within(t), engine.Quorum{Replicas: 1, Members: []string{"db-2.uid2"}}); err != nil {
		t.Fatal(err)
	}
	if after := copies(); after != before {
		t.Errorf("the copy of sender %s is now that of %q", before, after)
	}
}
