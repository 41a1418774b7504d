package agent

import (
	"testing"
	"time"
)

// The engine is asked each heartbeat while anything goes on, and less often when all has been calm, but never so seldom that a few lost answers
// end its good health.
func TestProbesAreFewerWhenAllIsCalm(t *testing.T) {
	s := following(t)
	beat := s.a.obs.Lease.Terms.HeartbeatInterval()
	s.a.actedAt = s.now.Add(-2 * calmAfter)
	if got := s.a.probeInterval(); got != 2*beat {
		t.Errorf("calm: a probe each %s, want %s", got, 2*beat)
	}
	s.a.obs.Lease.Terms.EngineTimeoutMillis = 5
	if got := s.a.probeInterval(); got != beat {
		t.Errorf("calm, with a short time limit: a probe each %s, want %s", got, beat)
	}
	s.a.obs.Lease.Terms.EngineTimeoutMillis = 1000
	s.happens(func() { s.a.OnLink(&Link{Run: run("m-2"), Peer: s.peers["m-2"]}) })
	if got := s.a.probeInterval(); got != beat {
		t.Errorf("a member came back: a probe each %s, want %s", got, beat)
	}
}

// An engine is given its whole time limit to answer a probe, however long before the last answer was.
func TestEngineHasItsWholeTimeToAnswer(t *testing.T) {
	s := following(t)
	a := s.a
	limit := a.engineTimeout()
	a.obs.Engine.Healthy, a.proc.asked = true, s.now
	a.judgeEngine(s.now.Add(limit - time.Millisecond))
	if !a.obs.Engine.Healthy {
		t.Error("its health ended before its time to answer was over")
	}
	a.judgeEngine(s.now.Add(limit))
	if a.obs.Engine.Healthy {
		t.Error("its health did not end with its time to answer")
	}
	a.obs.Engine.Healthy, a.proc.asked = true, 0
	a.judgeEngine(s.now.Add(10 * limit))
	if !a.obs.Engine.Healthy {
		t.Error("nothing was asked, and its health ended")
	}
}
