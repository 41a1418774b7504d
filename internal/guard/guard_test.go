package guard

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/failover"
)

// stage is a guard whose kill is counted instead of done.
func stage(t *testing.T) (*process, *Handle, *atomic.Int32) {
	t.Helper()
	h, err := New()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	h.pipe = w
	timer, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, 0)
	if err != nil {
		t.Fatal(err)
	}
	kills := &atomic.Int32{}
	t.Cleanup(func() { _ = r.Close() })
	return &process{page: h.page, timer: timer, pipe: int(r.Fd()), kill: func() error { kills.Add(1); return nil }}, h, kills
}

// play runs the guard until its agent's end of the pipe is closed.
func play(t *testing.T, g *process) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		for {
			if done, err := g.round(); done || err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen within 5 s", what)
		}
	}
}

func TestKillsAtTheInstantAndNotBefore(t *testing.T) {
	g, h, kills := stage(t)
	ended := play(t, g)
	until := Now().Add(50 * time.Millisecond)
	h.Arm(until)
	eventually(t, "the kill", func() bool { return kills.Load() == 1 })
	if fired := h.Fired(); fired < until {
		t.Errorf("it killed %s too early", until.Sub(fired))
	}
	_ = h.pipe.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestMovedInstantIsHonoured(t *testing.T) {
	g, h, kills := stage(t)
	ended := play(t, g)
	start := Now()
	h.Arm(start.Add(30 * time.Millisecond))
	last := start
	for i := range 20 {
		last = start.Add(time.Duration(i+10) * 10 * time.Millisecond)
		h.Arm(last)
	}
	eventually(t, "the kill", func() bool { return kills.Load() == 1 })
	if fired := h.Fired(); fired < last {
		t.Errorf("it killed %s before the instant it was moved to", last.Sub(fired))
	}
	_ = h.pipe.Close()
	<-ended
}

func TestDisarmedGuardKillsNothing(t *testing.T) {
	g, h, kills := stage(t)
	ended := play(t, g)
	h.Arm(Now().Add(20 * time.Millisecond))
	h.Disarm()
	later := Now().Add(80 * time.Millisecond)
	eventually(t, "the first instant", func() bool { return Now() > later-failover.Instant(30*time.Millisecond) })
	h.Arm(later)
	eventually(t, "the second kill", func() bool { return kills.Load() > 0 })
	if n, fired := kills.Load(), h.Fired(); n != 1 || fired < later {
		t.Errorf("%d kills, the last one %s before the second instant; the first was disarmed", n, later.Sub(fired))
	}
	_ = h.pipe.Close()
	<-ended
}

// An instant that is moved back counts too: a primary that might go on for ever may be put under a lease again.
func TestEarlierInstantIsHonoured(t *testing.T) {
	g, h, kills := stage(t)
	ended := play(t, g)
	h.Arm(failover.Forever)
	sleeps := Now().Add(20 * time.Millisecond)
	eventually(t, "the guard to sleep", func() bool { return Now() > sleeps })
	until := Now().Add(30 * time.Millisecond)
	h.Arm(until)
	eventually(t, "the kill", func() bool { return kills.Load() == 1 })
	if fired := h.Fired(); fired < until {
		t.Errorf("it killed %s too early", until.Sub(fired))
	}
	_ = h.pipe.Close()
	<-ended
}
