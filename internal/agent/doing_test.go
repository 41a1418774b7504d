package agent

import (
	"errors"
	"testing"
	"time"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/supervisor"
)

// The pause after an order that was refused outlives the engine that refused it. It must not end what the next engine is told: that would be told twice
// from then on, for ever, and each time begin anew what the other had found out.
func TestPauseOfAnEarlierEngineEndsNothing(t *testing.T) {
	s := replica(t)
	s.fails["follow"] = errors.New("connection refused")
	for range 80 {
		s.heartbeat("m-0", 1)
		s.pass(100 * time.Millisecond)
	}
	before := s.count("follow")
	s.until("it is refused once more", func() bool { return s.count("follow") > before })
	if s.a.proc.followPause < time.Second {
		t.Fatalf("the pause is %s", s.a.proc.followPause)
	}
	s.happens(func() { s.a.OnExit(supervisor.Exit{PID: s.a.proc.pid}) })
	delete(s.fails, "follow")
	s.shut["follow"] = true
	s.until("the next engine is told", func() bool { s.heartbeat("m-0", 1); return s.a.doing.is(failover.Follow) && s.a.orders.busy })
	for range 40 {
		s.heartbeat("m-0", 1)
		s.pass(100 * time.Millisecond)
	}
	s.shut["follow"] = false
	told := s.count("follow")
	s.pass(100 * time.Millisecond)
	if n := s.count("follow") - told; n != 1 {
		t.Errorf("the engine was told %d times whom to follow", n)
	}
}
