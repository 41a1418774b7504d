package postgresql

import (
	"syscall"
	"testing"
	"time"

	"understudy.dev/understudy/internal/engine"
)

const watchers = "FROM pg_stat_activity WHERE application_name = 'understudy-agent' AND query = '' AND backend_type = 'client backend'"

// The end of a server's first process is known from a session, and is not taken from anything less.
func TestWatch(t *testing.T) {
	t.Parallel()
	m := newMember(t, 0).start().running()
	m.promote(engine.Quorum{})
	watched := func() bool { _, ok := m.report(); return ok && m.admin("SELECT count(*) "+watchers) == "1" }
	until(t, "the server is watched", watched)
	m.mu.Lock()
	pid, ended, gone := m.cmd.Process.Pid, m.ended, m.proc.Gone
	m.halt = true // so that nothing but the watch tells of this life's end
	m.mu.Unlock()
	m.admin("SELECT pg_terminate_backend(pid, 5000) " + watchers)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if m.PostgreSQL.refuses() {
		t.Error("a server that hangs counts as one that has ended")
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	until(t, "it is watched again", watched)
	select {
	case <-gone:
		t.Fatal("a session that somebody ended counts as the server's end")
	default:
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody learned of the server's end")
	}
	<-ended
}

// A pause ends every session but the agent's: the one that watches goes on too, and nothing is watched for the life before.
func TestWatchGoesOnThroughAPause(t *testing.T) {
	t.Parallel()
	m := newMember(t, 0).start().running()
	m.promote(engine.Quorum{})
	until(t, "the server is watched", func() bool { _, ok := m.report(); return ok && m.watching.Load() != 0 })
	before := m.watching.Load()
	if _, err := m.Pause(within(t), time.Second); err != nil {
		t.Fatal(err)
	}
	if err := m.Resume(within(t)); err != nil {
		t.Fatal(err)
	}
	if now := m.watching.Load(); now != before {
		t.Errorf("the pause ended the watching session: backend %d, then %d", before, now)
	}
	m.PostgreSQL.mu.Lock()
	m.lifetime.watched = false
	m.PostgreSQL.mu.Unlock()
	m.watch(m.currentLife() - 1)
	m.PostgreSQL.mu.Lock()
	defer m.PostgreSQL.mu.Unlock()
	if m.lifetime.watched {
		t.Error("a session with the life before made somebody watch this one")
	}
}
