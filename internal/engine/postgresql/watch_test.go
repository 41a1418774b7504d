package postgresql

import (
	"syscall"
	"testing"
	"time"

	"understudy.dev/understudy/internal/engine"
)

// gone is what is closed when this life of the member's server is known to have ended.
func (m *member) gone() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.proc.Gone
}

func (m *member) isGone() bool {
	select {
	case <-m.gone():
		return true
	default:
		return false
	}
}

const watching = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'understudy-agent' AND query = '' AND backend_type = 'client backend'"

// The end of a server's first process is known before the process is reaped, and is not taken from anything less.
func TestWatch(t *testing.T) {
	t.Parallel()
	m := newMember(t, 0).start().running()
	m.promote(engine.Quorum{})
	until(t, "the server is watched", func() bool { _, ok := m.report(); return ok && m.admin(watching) == "1" })
	m.admin("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'understudy-agent' AND query = '' AND backend_type = 'client backend'")
	m.mu.Lock()
	pid, ended := m.cmd.Process.Pid, m.ended
	m.mu.Unlock()
	// A first process that hangs lets everybody in as far as its socket's queue.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if m.PostgreSQL.refuses() {
		t.Error("a server that hangs counts as one that has ended")
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if m.isGone() {
		t.Fatal("a session that somebody ended counts as the server's end")
	}
	until(t, "it is watched again", func() bool { return m.admin(watching) == "1" })
	before := m.gone()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-before:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody learned of the server's end")
	}
	<-ended
}
