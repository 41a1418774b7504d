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

// Where the services of the cluster are counted each is named with its namespace, and the policy's own limit holds beside.
func TestTurnOfTheCluster(t *testing.T) {
	for name, c := range map[string]struct {
		group  string
		passes bool
	}{
		"another policy's": {"ns/other", true},
		"the same one's":   {"ns/p", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := sharing(t, turns.Turn{Service: "ns/another", Group: c.group, Epoch: 9})
			l := s.api.lease
			l.Terms.Turns, l.Terms.TurnsIn, l.Terms.TurnsOf, l.Terms.GroupTurns = 2, "operator/failovers.cluster", "ns/p", 1
			s.api.write(l)
			s.api.watch()
			s.shut["swap"] = c.passes // to look at it in the middle
			s.released("m-0", 1, 0)
			s.pass(200 * time.Millisecond)
			if !c.passes {
				s.never("promise request")
				return
			}
			s.did("take turn in operator/failovers.cluster for epoch 2, of 2, leaving 0")
			if len(s.api.turns) != 2 || s.api.turns[1].Service != "ns/m" {
				t.Errorf("turns that are taken: %+v", s.api.turns)
			}
			s.shut["swap"] = false
			s.until("it serves, and its turn is ended", func() bool { return s.a.obs.Serving() && len(s.api.turns) == 1 })
		})
	}
}
