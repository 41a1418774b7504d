package guard

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"understudy.dev/understudy/internal/failover"
)

// Handle is the agent's side of the guard.
type Handle struct {
	page *page
	file *os.File
	pipe *os.File // our end
	pid  atomic.Int64
}

// PID of the running guard, 0 if there is none.
func (h *Handle) PID() int { return int(h.pid.Load()) }

// Ended notes that the guard was reaped.
func (h *Handle) Ended() { h.pid.Store(0) }

// New makes the shared page; Start starts a guard on it.
func New() (*Handle, error) {
	p, file, err := newPage()
	if err != nil {
		return nil, err
	}
	return &Handle{page: p, file: file}, nil
}

// Start starts a guard process from the given binary and returns when it sleeps on the page. Whoever reaps the
// agent's children sees its end by PID.
func (h *Handle) Start(self string) error {
	h.page.deadline.Store(0)
	h.page.alive.Store(0)
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("starting the guard: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("starting the guard: %w", err)
	}
	pid, err := syscall.ForkExec(self, []string{"understudy-agent", "guard"}, &syscall.ProcAttr{
		Env:   []string{"GOMAXPROCS=1", "GOGC=off"},
		Files: []uintptr{null.Fd(), 1, 2, h.file.Fd(), r.Fd()},
	})
	_, _ = r.Close(), null.Close()
	if err != nil {
		_ = w.Close()
		return fmt.Errorf("starting the guard %s: %w", self, err)
	}
	if h.pipe != nil {
		_ = h.pipe.Close()
	}
	h.pipe = w
	h.pid.Store(int64(pid))
	for range 2000 {
		if h.page.alive.Load() == 1 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	h.Ended()
	return fmt.Errorf("starting the guard: process %d did not report within 2 s", pid)
}

// Arm lets the engine write until the instant. From the first call on the engine dies at that instant unless a later
// one was set.
func (h *Handle) Arm(until failover.Instant) {
	if old := h.page.deadline.Swap(int64(until)); (old == 0 || int64(until) < old) && h.pipe != nil {
		_, _ = h.pipe.Write([]byte{1}) // it sleeps without a timer, or for too long: wake it
	}
}

// Disarm says that no engine may write.
func (h *Handle) Disarm() { h.page.deadline.Store(0) }

// Fired is the instant of the last kill, 0 if there was none.
func (h *Handle) Fired() failover.Instant { return failover.Instant(h.page.fired.Load()) }

// Lateness is the largest delay the guard has seen.
func (h *Handle) Lateness() time.Duration { return time.Duration(h.page.lateness.Load()) }
