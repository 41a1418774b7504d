package postgresql

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy.dev/understudy/internal/engine"
)

func TestBootstrapAndPromote(t *testing.T) {
	t.Parallel()
	m := fromNothing(t, 0).start()
	until(t, "it runs", func() bool {
		r, err := m.Probe(within(t))
		if err == nil && r.HasData {
			t.Errorf("data that is being made is told of as the service's: %+v", r)
		}
		return err == nil && !r.Loading
	})
	r, _ := m.report()
	if r.Primary || r.HasData || r.LinkUp || r.Upstream != "" || r.Offset == 0 || !strings.HasSuffix(r.History, "/1") {
		t.Errorf("an empty member reports %+v", r)
	}
	if _, err := m.client(); err == nil {
		t.Error("a client was let in before the promotion")
	}
	m.wantStages(runInit, runBootstrap, runServer)
	p := m.promote(engine.Quorum{})
	if !strings.HasSuffix(p.History, "/2") {
		t.Errorf("the promotion began no history of its own: %+v", p)
	}
	m.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
	if got := m.sql("SELECT count(*) FROM t"); got != "1" {
		t.Errorf("read %s rows", got)
	}
	// Killed, it comes back as a standby with its data, and lets nobody in; also when a kubelet gave the data to the group.
	if err := os.Chmod(m.data(), 0o770|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	m.crash()
	until(t, "it is a standby again", func() bool { r, ok := m.report(); return ok && !r.Primary })
	if r, _ := m.report(); !r.HasData || r.Offset < p.Offset || r.History != p.History {
		t.Errorf("after a crash: %+v, was %+v", r, p)
	}
	if _, err := m.client(); err == nil {
		t.Error("a client was let in after the crash")
	}
}

func TestFollowStreamsAndDetachCuts(t *testing.T) {
	t.Parallel()
	a, b := newMember(t, 0).start().running(), newMember(t, 1).start().running()
	a.promote(engine.Quorum{})
	a.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
	b.follows(a)
	b.wantStages(runServer, runCopy, runServer)
	pr, _ := a.report()
	b.reaches(pr.Offset)
	br, _ := b.report()
	if !br.HasData || br.History != pr.History {
		t.Errorf("follows with %+v, the primary has %+v", br, pr)
	}
	until(t, "it is readable", func() bool { c, err := b.client(); return err == nil && c.Close(within(t)) == nil })
	if got := b.sql("SELECT count(*) FROM t"); got != "1" {
		t.Errorf("read %s rows", got)
	}
	until(t, "the data from before is gone", func() bool { return !exists(b.disk.path(oldDir)) })

	if got := a.admin("SELECT string_agg(application_name, ' ') FROM pg_stat_replication WHERE state = 'streaming'"); got != "db-1.uid1" {
		t.Errorf("the primary knows its replica as %q", got)
	}
	cut, err := b.Detach(within(t), 0)
	if err != nil || cut.Upstream != "" || cut.LinkUp || cut.Primary {
		t.Fatalf("detached: %+v, %v", cut, err)
	}
	a.sql("INSERT INTO t SELECT generate_series(1, 1000)")
	until(t, "the primary has no standby", func() bool {
		return a.admin("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "0"
	})
	if r, ok := b.report(); !ok || r.Offset != cut.Offset {
		t.Errorf("after the cut at %d it has %+v", cut.Offset, r)
	}
	if got := b.sql("SELECT count(*) FROM t"); got != "1" {
		t.Errorf("%s rows arrived after the cut", got)
	}
	// What it missed is streamed when it follows again, without another copy.
	b.follows(a)
	pr, _ = a.report()
	b.reaches(pr.Offset)
	b.wantStages(runServer, runCopy, runServer)
}

// The first process alone hangs: who is connected goes on, and nobody else is let in.
func TestHungPostmaster(t *testing.T) {
	t.Parallel()
	m := newMember(t, 0).start().running()
	m.promote(engine.Quorum{})
	m.PostgreSQL.mu.Lock()
	m.knockedAt = time.Time{}
	m.PostgreSQL.mu.Unlock()
	if _, ok := m.report(); !ok {
		t.Fatal("it does not answer")
	}
	first := m.postmaster()
	if err := syscall.Kill(first, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(first, syscall.SIGCONT) }()
	until(t, "the probe finds it", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := m.Probe(ctx)
		return err != nil && strings.Contains(err.Error(), "lets anybody in")
	})
}
