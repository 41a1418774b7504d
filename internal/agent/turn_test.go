package agent

import (
	"testing"
	"time"

	"understudy.dev/understudy/internal/turns"
)

// sharing is a replica of a service under a policy that lets one service fail over at once; held are the turns that are taken.
func sharing(t *testing.T, held ...turns.Turn) *stage {
	s := following(t)
	l := s.api.lease
	l.Terms.Turns, l.Terms.TurnsIn = 1, "failovers.policy.p"
	s.api.write(l)
	s.api.turns = held
	for i := range held {
		s.api.turns[i].At = s.Wall()
	}
	s.api.watch()
	return s
}

// A turn is taken before promises are asked for, and ended when clients reach the new primary.
func TestTurnIsTakenAndEnded(t *testing.T) {
	s := sharing(t)
	s.released("m-0", 1, 0)
	s.until("it serves", func() bool { return s.a.obs.Serving() && s.a.record == nil })
	s.inOrder("take turn in failovers.policy.p for epoch 2, of 1, leaving 0", "promise request", "swap to epoch 2", "end turn of epoch 2")
	if len(s.api.turns) > 0 {
		t.Errorf("turns that are left: %v", s.api.turns)
	}
}

// While another service fails over, nobody is asked for a promise.
func TestTurnIsWaitedFor(t *testing.T) {
	s := sharing(t, turns.Turn{Service: "another", Epoch: 9})
	s.released("m-0", 1, 0)
	s.pass(500 * time.Millisecond)
	s.never("promise request")
	s.happens(func() { s.api.turns = nil })
	s.until("it is granted", func() bool { return s.api.lease.Epoch == 2 })
}

// A register that cannot be asked holds nobody up.
func TestTurnsThatNobodyCounts(t *testing.T) {
	s := sharing(t, turns.Turn{Service: "another", Epoch: 9})
	s.fails["take turn"] = errTimeout
	s.released("m-0", 1, 0)
	s.until("it is granted", func() bool { return s.api.lease.Epoch == 2 })
}
