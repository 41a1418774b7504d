package guard

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/failover"
)

// The guard's inherited files.
const (
	pageFD = 3
	pipeFD = 4
)

// Main is the guard's whole life. It ends when the agent's end of the pipe is closed; PID 1's end takes it along anyway.
func Main() error {
	p, err := mapPage(pageFD)
	if err != nil {
		return err
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("making the guard's timer: %w", err)
	}
	g := &process{page: p, timer: timer, pipe: pipeFD, kill: func() error { return unix.Kill(-1, unix.SIGKILL) }}
	p.alive.Store(1)
	for {
		if done, err := g.round(); done || err != nil {
			return err
		}
	}
}

type process struct {
	page  *page
	timer int
	pipe  int
	kill  func() error
}

// round sleeps until the instant on the page and kills if the page still says so.
func (g *process) round() (done bool, err error) {
	deadline := g.page.deadline.Load()
	if err := g.arm(deadline); err != nil {
		return false, err
	}
	woken, done, err := g.sleep()
	if done || err != nil || !woken {
		return done, err
	}
	now := Now()
	late := int64(now) - deadline
	for old := g.page.lateness.Load(); late > old && !g.page.lateness.CompareAndSwap(old, late); old = g.page.lateness.Load() {
	}
	if d := g.page.deadline.Load(); d == 0 || failover.Instant(d) > now {
		return false, nil // the agent moved it forward meanwhile
	}
	g.page.fired.Store(int64(now))
	if err := g.kill(); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fmt.Errorf("killing the engine: %w", err)
	}
	g.page.deadline.CompareAndSwap(deadline, 0)
	return false, nil
}

func (g *process) arm(deadline int64) error {
	spec := unix.ItimerSpec{}
	if deadline > 0 {
		spec.Value = unix.NsecToTimespec(deadline)
	}
	if err := unix.TimerfdSettime(g.timer, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		return fmt.Errorf("setting the guard's timer: %w", err)
	}
	return nil
}

// sleep waits for the timer (woken) or for the agent: a byte means look at the page again, an end of file the end.
func (g *process) sleep() (woken, done bool, err error) {
	fds := []unix.PollFd{{Fd: int32(g.timer), Events: unix.POLLIN}, {Fd: int32(g.pipe), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, -1); err != nil {
		if errors.Is(err, unix.EINTR) {
			return false, false, nil
		}
		return false, false, fmt.Errorf("waiting for the guard's timer: %w", err)
	}
	var buf [64]byte
	if fds[0].Revents != 0 {
		_, _ = unix.Read(g.timer, buf[:8])
		return true, false, nil
	}
	n, err := unix.Read(g.pipe, buf[:])
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
		return false, false, nil
	}
	return false, n <= 0, nil
}
