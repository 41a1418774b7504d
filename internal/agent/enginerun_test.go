package agent

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/supervisor"
)

// What prepares an engine's data and ends well is no crash: the next process follows at once, however many there are. One that fails
// makes the next wait, longer each time.
func TestStepsThatEndWellMakeNobodyWait(t *testing.T) {
	for name, c := range map[string]struct {
		step   bool
		status unix.WaitStatus
		least  failover.Instant
		most   failover.Instant
	}{
		"steps that end well": {true, 0, 0, failover.Instant(100 * time.Millisecond)},
		"steps that fail":     {true, 1 << 8, failover.Instant(2 * time.Second), failover.Instant(time.Minute)},
		"an engine that ends": {false, 0, failover.Instant(2 * time.Second), failover.Instant(time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, "m-0", "m-1", true)
			s.engine.step = c.step
			runs := func() bool { return s.a.proc.pid != 0 }
			s.until("the engine runs", runs)
			begun := s.now
			for range 8 {
				s.happens(func() { s.a.OnExit(supervisor.Exit{PID: s.a.proc.pid, Status: c.status}) })
				s.until("the next one runs", runs)
			}
			if took := s.now - begun; took < c.least || took > c.most {
				t.Errorf("eight of them took %s, want %s to %s", time.Duration(took), time.Duration(c.least), time.Duration(c.most))
			}
		})
	}
}

// An engine that is known to be gone is fenced, whether or not the kernel has told of its end; what is heard of an earlier one is nothing.
func TestEngineThatIsKnownToBeGone(t *testing.T) {
	s := bareStage(t, "m-0", "m-1", true)
	s.engine.gone = make(chan struct{})
	close(s.engine.gone)
	s.happens(func() { s.a.OnLease(s.api.lease, true) })
	s.until("it was fenced and started anew", func() bool { return s.count("start") == 2 && s.a.proc.pid != 0 })
	s.inOrder("start", "kill")
	fenced := s.count("kill")
	gone := make(chan struct{})
	close(gone)
	s.happens(func() { s.a.lookOut(s.a.proc.gen-1, gone) })
	s.pass(time.Second)
	if s.count("kill") != fenced || s.a.proc.pid == 0 {
		t.Error("the end of an earlier engine ended this one")
	}
}
