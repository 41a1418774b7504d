package agent

import (
	"context"
	"testing"
	"time"
)

type fakePooler struct{ s *stage }

func (p fakePooler) Pause(context.Context) error  { return p.s.call("hold clients", "") }
func (p fakePooler) Resume(context.Context) error { return p.s.call("let clients", "") }
func (p fakePooler) Renew(context.Context) error  { return p.s.call("renew clients", "") }

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

// Connections that lead through an ending agent to its successor are made anew before it closes them; also when a pooler does not answer it ends.
func TestPoolersMakeConnectionsAnewBeforeAnAgentEnds(t *testing.T) {
	for name, answer := range map[string]error{"poolers answer": nil, "they do not": errTimeout} {
		t.Run(name, func(t *testing.T) {
			s := pooled(t)
			s.fails["renew clients"] = answer
			s.pass(200 * time.Millisecond)
			s.happens(s.a.Leave)
			s.did("released 1")
			fenced := s.now
			s.heartbeat("m-1", 2)
			s.until("it ends", s.a.Ended)
			if n := s.count("renew clients"); answer == nil && n != 1 {
				t.Errorf("the poolers were told %d times", n)
			}
			if took := s.now.Sub(fenced); took < relayLinger {
				t.Errorf("it ended after %s, before every node knows the new route", took)
			}
			if answer == nil {
				s.inOrder("kill", "renew clients", "goodbye")
			}
		})
	}
}

// The connections of a former primary that stays are made anew, too: it will end some day.
func TestPoolersMakeConnectionsAnewAfterAHandover(t *testing.T) {
	s := pooled(t)
	handed(s)
	s.did("released 1 to m-2")
	l := s.api.lease
	l.Epoch, l.Holder = 2, run("m-2")
	s.api.write(l)
	s.api.watch()
	for range 15 {
		s.heartbeat("m-2", 2)
		s.pass(100 * time.Millisecond)
	}
	s.never("renew clients")
	for range 10 {
		s.heartbeat("m-2", 2)
		s.pass(100 * time.Millisecond)
	}
	s.did("renew clients")
}
