package agent

import (
	"testing"
	"time"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/supervisor"
	"understudy.dev/understudy/internal/wire"
)

// told lets a member say that it promised the epoch after the one that is served: the primary takes that one for itself.
func (s *stage) told(member string) {
	p := s.peers[member]
	e := s.a.obs.Tenure.Epoch
	p.promise = e + 1
	p.says(wire.Frame{Acknowledgement: &failover.Acknowledgement{From: p.link.Run, To: s.a.Self, Epoch: e, Sent: s.now, Promise: e + 1}})
}

// A renumbered primary tells nobody of its new epoch before the epoch of its data is on disk, however it learned that the
// Lease has it.
func TestRenumberedHoldsHeartbeatsBackUntilItsDataIsClaimed(t *testing.T) {
	for name, learn := range map[string]func(s *stage){
		"by the answer": func(s *stage) { s.told("m-1") },
		"by reading back what had no answer": func(s *stage) {
			s.api.unanswered = true
			s.told("m-1")
		},
		"by the watch, before the answer": func(s *stage) {
			s.shut["read lease"], s.api.unanswered = true, true
			s.told("m-1")
			s.api.watch()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serving(t, true)
			s.shut["save data"] = true
			learn(s)
			s.until("the Lease has epoch 2", func() bool { return s.a.obs.Lease.Epoch == 2 })
			s.pass(500 * time.Millisecond)
			s.never("heartbeat 2")
			if s.count("kill") > 0 || !s.a.obs.Serving() {
				t.Fatal("a disk that is slow for half a second ended the primary")
			}
			s.shut["save data"] = false
			s.did("heartbeat 2 to m-2")
			s.inOrder("save data 2", "heartbeat 2")
			s.pass(5 * time.Second) // longer than the lease: the new epoch is acknowledged
			if s.a.Holds() != 2 {
				t.Errorf("it holds epoch %d, want 2", s.a.Holds())
			}
			s.never("kill")
		})
	}
}

// A disk that does not return at all: nobody hears of the primary, so its right ends by the acknowledgements it has.
func TestRenumberedStopsWhenItsDiskHangs(t *testing.T) {
	s := serving(t, true)
	armed := s.guard.until
	s.shut["save data"] = true
	s.told("m-1")
	s.did("kill")
	s.never("heartbeat 2")
	if limit := armed.Add(200 * time.Millisecond); s.now > limit {
		t.Errorf("it stopped %s after the last acknowledgement of its old epoch was over", s.now.Sub(limit))
	}
}

func TestRenumberedFencesWhenItsDataCannotBeClaimed(t *testing.T) {
	s := serving(t, true)
	s.fails["save data"] = errDisk
	s.told("m-1")
	s.until("it gave epoch 2 up", func() bool { return s.a.obs.Ended == 2 })
	s.never("heartbeat 2")
	s.inOrder("save data 2 fails", "kill", "released 2 to m-1")
}

// An engine that keeps nothing has nothing to claim.
func TestRenumberedWithoutPersistenceGoesOnAtOnce(t *testing.T) {
	s := serving(t, false)
	s.shut["save data"] = true
	s.told("m-1")
	s.did("heartbeat 2 to m-1")
	s.never("kill")
}

// The engine accepts no write of an epoch before the epoch of its data is on disk.
func TestOpensAfterItsDataIsClaimed(t *testing.T) {
	s := newStage(t, "m-0", "m-0", true)
	s.shut["save data"] = true
	s.did("heartbeat 1 to m-2")
	s.pass(time.Second)
	s.never("promote")
	s.shut["save data"] = false
	s.did("promote")
	s.inOrder("save data 1", "promote")
	s.until("it serves", func() bool { return s.a.obs.Serving() })
	s.never("kill")
}

// A probe may find the engine promoted, in a history of its own, before the order to promote it has returned. That is no history
// that nobody named, and no reason to give up what is about to open. Its two questions may also be answered before and after: a standby in a
// history of its own (1 of 200 kills of PostgreSQL's engine, and its old primary's restart was waited for).
func TestProbeInTheMiddleOfAPromotion(t *testing.T) {
	for name, primary := range map[string]bool{"promoted": true, "half promoted": false} {
		t.Run(name, func(t *testing.T) { probedInPromotion(t, primary) })
	}
}

func probedInPromotion(t *testing.T, primary bool) {
	s := newStage(t, "m-0", "m-0", true)
	s.shut["promote"] = true
	s.engine.history = "old"
	s.did("save data 1")
	s.a.proc.synced, s.a.proc.history = true, "old"
	s.a.obs.Engine.Position.DataEpoch = 1
	s.engine.primary, s.engine.history = primary, "new"
	s.pass(time.Second)
	if p := s.a.obs.Engine.Position; p.Inexact {
		t.Errorf("it no longer knows how much it has: %+v", p)
	}
	s.shut["promote"] = false
	s.until("it serves", func() bool { return s.a.obs.Serving() })
	s.never("kill")
}

func TestDoesNotOpenWhatItCouldNotClaim(t *testing.T) {
	s := newStage(t, "m-0", "m-0", true)
	s.fails["save data"] = errDisk
	s.until("it gave epoch 1 up", func() bool { return s.a.obs.Ended == 1 })
	s.never("promote")
	s.inOrder("save data 1 fails", "kill", "released 1 to m-1")
}

// While the disk is slow the Lease may come to name somebody else: then what was claimed is not opened any more.
func TestDoesNotOpenWhatWasOvertakenDuringTheClaim(t *testing.T) {
	s := newStage(t, "m-0", "m-0", true)
	s.shut["save data"] = true
	s.did("heartbeat 1 to m-2")
	s.pass(100 * time.Millisecond)
	l := s.api.lease
	l.Epoch, l.Holder = 2, run("m-2")
	s.api.write(l)
	s.api.watch()
	s.did("kill")
	s.shut["save data"] = false
	s.pass(2 * time.Second)
	s.did("save data 1")
	s.never("promote")
	if s.a.doing.is(failover.Open) {
		t.Error("it would never open anything again")
	}
}

// A primary that is ending is told of the promises that its successor collects. It takes no epoch for them, and writes nothing into the
// Lease: either would cost the successor its promises (4 of 172 kills of an engine, each of which took the old primary's restart).
func TestEndingPrimaryLeavesTheLeaseAlone(t *testing.T) {
	s := serving(t, true)
	s.shut["kill"] = true
	written := len(s.api.swaps)
	s.happens(func() { s.a.OnExit(supervisor.Exit{PID: s.a.proc.pid}) })
	s.told("m-1")
	s.told("m-2")
	s.pass(300 * time.Millisecond)
	for _, l := range s.api.swaps[written:] {
		t.Errorf("it writes epoch %d of %s into the Lease", l.Epoch, l.Holder.Member)
	}
	s.shut["kill"] = false
	s.until("it is fenced", func() bool { return s.a.obs.Tenure == nil })
	if s.api.lease.Epoch != 1 {
		t.Errorf("the Lease has epoch %d", s.api.lease.Epoch)
	}
}
