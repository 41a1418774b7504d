// Package supervisor is what PID 1 of the engine's container must do: start the engine, reap every process that ends,
// and kill everything there is when the engine must not run any more.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/engine"
)

// Exit is the end of one child.
type Exit struct {
	PID    int
	Status unix.WaitStatus
}

// String says how it ended.
func (e Exit) String() string {
	if e.Status.Signaled() {
		return fmt.Sprintf("process %d was killed by %s", e.PID, e.Status.Signal())
	}
	return fmt.Sprintf("process %d ended with status %d", e.PID, e.Status.ExitStatus())
}

// Supervisor owns every child of PID 1. os/exec must not wait beside it.
type Supervisor struct {
	exited func(Exit)
	poke   chan os.Signal

	mu        sync.Mutex
	childless chan struct{} // closed by the reaper when no child is left; nil when nobody waits
}

// New starts reaping; exited is told of every child's end.
func New(exited func(Exit)) *Supervisor {
	s := &Supervisor{exited: exited, poke: make(chan os.Signal, 1)}
	signal.Notify(s.poke, unix.SIGCHLD)
	go s.reap()
	return s
}

func (s *Supervisor) reap() {
	for range s.poke {
		for s.reapOne() {
		}
	}
}

// reapOne reports whether there may be more to reap.
func (s *Supervisor) reapOne() bool {
	pid, status, again := s.wait()
	if pid > 0 {
		s.exited(Exit{PID: pid, Status: status})
	}
	return again
}

// wait asks the kernel once. It holds the lock: that there was no child before somebody began to wait for that says nothing.
func (s *Supervisor) wait() (pid int, status unix.WaitStatus, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
	if errors.Is(err, unix.ECHILD) && s.childless != nil {
		close(s.childless)
		s.childless = nil
	}
	if err != nil {
		return 0, status, errors.Is(err, unix.EINTR)
	}
	return pid, status, pid > 0
}

// Start starts a process as a child, in a process group of its own.
func (s *Supervisor) Start(p engine.Process) (int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("starting %s: %w", p.Path, err)
	}
	defer func() { _ = r.Close() }()
	env := p.Env
	if env == nil {
		env = os.Environ()
	}
	pid, err := syscall.ForkExec(p.Path, p.Args, &syscall.ProcAttr{
		Dir: p.Dir, Env: env, Files: []uintptr{r.Fd(), 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		_ = w.Close()
		return 0, fmt.Errorf("starting %s: %w", p.Path, err)
	}
	go func() { // small: it fits the pipe, but a child that never reads must not block us
		_, _ = w.Write(p.Stdin)
		_ = w.Close()
	}()
	return pid, nil
}

// Kill sends every process but the caller SIGKILL. None of them does anything of its own from then on; one may be reaped later,
// when the call that it is in has ended, and something may have forked meanwhile.
func (s *Supervisor) Kill() error {
	if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing every process of the engine: %w", err)
	}
	return nil
}

// KillAll kills every process but the caller and returns when each child is reaped. Killing one pid would not do:
// a PostgreSQL backend was seen to commit for 4 s after its postmaster's SIGKILL.
func (s *Supervisor) KillAll(ctx context.Context) error {
	done := make(chan struct{})
	s.mu.Lock()
	s.childless = done
	s.mu.Unlock()
	again := time.NewTicker(2 * time.Millisecond) // something may have forked between two kills
	defer again.Stop()
	for {
		if err := s.Kill(); err != nil {
			return err
		}
		select {
		case s.poke <- unix.SIGCHLD:
		default:
		}
		select {
		case <-done:
			return nil
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("reaping the engine's processes: %w", ctx.Err())
		}
	}
}
