package agent

import (
	"context"
	"testing"
	"time"
)

type fakePooler struct{ s *stage }

func (p fakePooler) Pause(context.Context) error  { return p.s.call("hold clients", "") }
func (p fakePooler) Resume(context.Context) error { return p.s.call("let clients", "") }

// pooled is a primary with poolers before it; that it began with letting their clients go on is not in the journal any more.
func pooled(t *testing.T) *stage {
	s := newStage(t, "m-0", "m-0", true)
	s.a.Pooler = fakePooler{s}
	s.opened()
	s.did("let clients")
	s.journal = nil
	return s
}

// Clients are held back before the engine is, until somebody serves.
func TestPoolersHoldClientsBackInAHandover(t *testing.T) {
	s := pooled(t)
	handed(s)
	s.did("released 1 to m-2")
	s.inOrder("hold clients", "pause", "kill", "released 1 to m-1")
	s.never("let clients")
	s.pass(poolerLatest + time.Second)
	s.did("let clients") // its successor did not come
}

// A handover does not depend on poolers: what they hold up ends after a second.
func TestHandoverGoesOnWithoutPoolers(t *testing.T) {
	s := pooled(t)
	s.fails["hold clients"] = errTimeout
	handed(s)
	s.did("released 1 to m-2")
	s.inOrder("hold clients", "pause", "kill", "released 1 to m-1")
}

// A handover that fails lets the clients go on, as often as that takes.
func TestPoolersLetClientsGoOnAfterAFailedHandover(t *testing.T) {
	s := pooled(t)
	s.fails["pause"], s.once["let clients"] = errTimeout, errTimeout
	replies := handed(s)
	s.until("it is answered", func() bool { return len(*replies) == 1 })
	s.pass(3 * time.Second)
	if n := s.count("let clients"); n != 2 || !s.a.obs.Serving() {
		t.Errorf("it tried to let them go on %d times and serves: %t; want twice, since the first time failed", n, s.a.obs.Serving())
	}
}
