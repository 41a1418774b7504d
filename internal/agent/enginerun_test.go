package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/engine"
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

// An engine that is known to be gone is fenced, whether or not the kernel has told of its end; how it ended is told when that is known. What is
// heard of an earlier one is nothing.
func TestEngineThatIsKnownToBeGone(t *testing.T) {
	s := bareStage(t, "m-0", "m-1", true)
	gone := make(chan struct{})
	close(gone)
	s.engine.gone = gone
	s.shut["kill"] = true
	s.happens(func() { s.a.OnLease(s.api.lease, true) })
	s.until("it is fenced", func() bool { return s.a.fencing })
	if !strings.Contains(s.a.proc.lastError, "process 101 is gone") {
		t.Errorf("people read %q", s.a.proc.lastError)
	}
	s.happens(func() { s.a.OnExit(supervisor.Exit{PID: 101, Status: 9}) })
	if s.a.proc.lastError != "process 101 was killed by killed" {
		t.Errorf("people read %q, and the kernel has told more", s.a.proc.lastError)
	}
	s.shut["kill"] = false
	s.until("the next one runs", func() bool { return s.a.proc.pid != 0 })
	s.inOrder("start", "kill")
	fenced, pid := s.count("kill"), s.a.proc.pid
	var late func()
	s.a.World = latecomer{s, &late}
	s.happens(func() { s.a.lookOut(s.a.proc.gen, gone) })
	s.a.World = s
	s.a.proc.gen++
	s.happens(late)
	s.pass(time.Second)
	if s.count("kill") != fenced || s.a.proc.pid != pid {
		t.Error("the end of an earlier engine ended this one")
	}
}

// latecomer keeps what is to be told until the test tells it.
type latecomer struct {
	*stage
	late *func()
}

func (l latecomer) Beside(_ time.Duration, _ func(context.Context), then func()) { *l.late = then }

// An engine that cannot be started is tried again less and less often, also when it ran for long before, or never did.
func TestEngineThatCannotBeStartedIsTriedWithPauses(t *testing.T) {
	for name, ran := range map[string]time.Duration{"it never ran": 0, "it ran for long": time.Minute} {
		t.Run(name, func(t *testing.T) {
			s := bareStage(t, "m-1", "m-0", true)
			refusal := &engine.StuckError{Reason: engine.NotStarted, Err: errors.New("the image has no such program")}
			if ran == 0 {
				s.engine.refusal = refusal
			}
			s.happens(func() { s.a.OnLease(s.api.lease, true) })
			if ran > 0 {
				s.until("the engine runs", func() bool { return s.a.obs.Engine.State == failover.EngineRunning })
				s.pass(ran)
				s.engine.refusal = refusal
				s.happens(func() { s.a.OnExit(supervisor.Exit{PID: s.a.proc.pid}) })
			}
			before := s.engine.processes
			s.pass(30 * time.Second)
			// 50 ms, 100 ms, and so on up to 10 s.
			if n := s.engine.processes - before; n < 5 || n > 12 {
				t.Errorf("it was tried %d times in 30 s", n)
			}
			s.engine.refusal = nil
			s.until("it runs when it can", func() bool { s.pass(time.Second); return s.a.proc.pid != 0 })
		})
	}
}
