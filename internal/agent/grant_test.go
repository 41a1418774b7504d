package agent

import (
	"errors"
	"testing"
	"time"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// standing is a replica whose primary just released its right: it stands for epoch 2 and has asked for promises. The old
// primary answers nothing any more, so the candidate waits a little for its straggling promise.
func standing(t *testing.T) *stage {
	s := following(t)
	s.peers["m-0"].deaf = true
	s.released("m-0", 1, 0)
	s.did("promise request under 1 to m-2")
	return s
}

// granting is the same up to the swap, which hangs.
func granting(t *testing.T) *stage {
	s := following(t)
	s.shut["swap"] = true
	s.peers["m-0"].deaf = true
	s.released("m-0", 1, 0)
	s.until("the swap is on its way", func() bool { return len(s.api.swaps) == 1 })
	return s
}

// Promises count only under the version of the Lease that they were asked under: a Lease that changed in between, for whatever
// reason, means that they are collected again (rule SameVersion).
func TestPromisesOfAnotherVersionAreCollectedAgain(t *testing.T) {
	s := standing(t)
	if len(s.api.swaps) > 0 {
		t.Fatal("it did not wait for the old primary's own promise, so nothing can come between")
	}
	s.demand(1)
	s.until("it was granted", func() bool { return s.api.lease.Epoch == 2 })
	s.never("swap to epoch 2 under 1")
	s.inOrder("promise request under 1", "promise request under 2", "swap to epoch 2 under 2")
}

// The swap itself names the version of the promises, not the newest one that is known.
func TestGrantIsSwappedUnderThePromisesVersion(t *testing.T) {
	s := standing(t)
	asked := s.a.obs.Attempt.Version
	s.happens(func() {
		s.a.obs.Lease.Version = "77" // as if a change had come in after the decision
		terms := s.a.obs.Lease.Terms
		s.a.grant(s.now, failover.Action{Kind: failover.Grant, Epoch: 2, Note: string(failover.Released), Terms: &terms})
	})
	if len(s.api.swaps) == 0 || s.api.swaps[0].Version != asked || s.api.swaps[0].Epoch != 2 || s.api.swaps[0].Holder != s.a.Self {
		t.Errorf("swapped %+v, want epoch 2 of %s under version %s", s.api.swaps, s.a.Self, asked)
	}
}

// A swap that came to nothing is read back, and the attempt is over: another one asks for promises of its own.
func TestFailedGrantIsReadBackAndGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(s *stage)
		again bool // this member may try again
	}{
		"another member was faster": {func(s *stage) {
			l := s.api.lease
			l.Epoch, l.Holder = 2, run("m-2")
			s.api.write(l)
		}, false},
		"the terms changed": {func(s *stage) { s.api.write(s.api.lease) }, true},
		"it was denied":     {func(s *stage) { s.fails["swap"] = errors.New("denied") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := granting(t)
			first := s.a.obs.Attempt.ID
			asked := s.count("promise request")
			c.spoil(s)
			s.shut["swap"] = false
			s.did("read lease")
			if at := s.a.obs.Attempt; at != nil && at.ID == first {
				t.Errorf("the attempt goes on in phase %s", at.Phase)
			}
			if s.a.obs.Lease.Version != s.api.lease.Version {
				t.Errorf("it goes on from version %s, want %s as read back", s.a.obs.Lease.Version, s.api.lease.Version)
			}
			s.fails["swap"] = nil
			s.pass(time.Second)
			if won := s.a.Holds() == 2; won != c.again {
				t.Errorf("holds epoch 2: %t, want %t", won, c.again)
			}
			if c.again && s.count("promise request") == asked {
				t.Error("it was granted without new promises")
			}
			if !c.again {
				s.never("promote")
			}
		})
	}
}

// A grant whose answer was lost is one nevertheless, and is learned of by reading back or by the watch.
func TestUnansweredGrantIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		fail string
		how  func(s *stage)
	}{
		"by reading back":                         {"", func(*stage) {}},
		"by the watch, when that came to nothing": {"read lease", func(s *stage) { s.did("read lease fails"); s.api.watch() }},
	} {
		t.Run(name, func(t *testing.T) {
			s := granting(t)
			s.api.unanswered = true
			if c.fail != "" {
				s.fails[c.fail] = errTimeout
			}
			s.shut["swap"] = false
			c.how(s)
			s.until("epoch 2 is open", func() bool { return s.a.obs.Serving() && s.a.Holds() == 2 })
			s.inOrder("swap to epoch 2", "read lease", "heartbeat 2 to m-2", "promote")
			if n := s.count("swap to epoch 2 under 1"); n != 1 {
				t.Errorf("it was swapped %d times under version 1, want once", n)
			}
		})
	}
}

// When even reading back comes to nothing the attempt is over, and nothing is assumed of the swap: it is not opened.
func TestGrantOfWhichNothingIsKnownIsGivenUp(t *testing.T) {
	s := granting(t)
	s.fails["read lease"] = errTimeout
	s.api.unanswered = true
	s.shut["swap"] = false
	s.did("read lease fails")
	if at := s.a.obs.Attempt; at != nil && at.Phase == failover.PhaseGranting {
		t.Error("the attempt goes on")
	}
	s.pass(500 * time.Millisecond)
	s.never("promote")
	s.never("heartbeat 2")
}

// The better of two candidates prepares to follow nobody, the other one prepares to follow the winner.
func TestExpectsWhoIsToWin(t *testing.T) {
	for name, c := range map[string]struct{ theirs, expects int }{ // theirs: the offset of the one that asks, where ours is 100
		"the other is worse":  {50, 0},
		"the other is better": {150, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := following(t)
			s.engine.offset = 100
			s.until("its own offset is known", func() bool { return s.a.obs.Engine.Position.Offset == 100 })
			s.shut["swap"] = true
			s.peers["m-0"].deaf = true
			s.released("m-0", 1, 0)
			s.did("promise request under 1 to m-2")
			s.peers["m-2"].says(wire.Frame{PromiseRequest: &failover.Request{From: run("m-2"), To: s.a.Self, ID: 7, Epoch: 2, Version: "1",
				Holder: run("m-0"), Known: 1, Sent: s.now, Upstream: "10.0.0.9:5432",
				Rank:    failover.Rank{Eligible: true, Ordinal: 2, Position: failover.Position{DataEpoch: 1, Offset: int64(c.theirs)}},
				Release: &failover.Release{Run: run("m-0"), Epoch: 1, Final: true, Position: failover.Position{DataEpoch: 1}}}})
			s.did("promise 2 given true")
			if n := s.count("expect {Address:10.0.0.9:5432"); n != c.expects {
				t.Errorf("it prepared %d times to follow the one that asked, want %d", n, c.expects)
			}
		})
	}
}

// A candidate surely has what this member has only when both copied the data of the same primary, of the same history, and know how much of it.
func TestSuccessor(t *testing.T) {
	type world struct {
		synced, strayed bool
		own             failover.Position
		history         string // of this member
		r               failover.Request
	}
	for name, c := range map[string]struct {
		change func(w *world)
		want   engine.Successor
	}{
		"the same data":                {func(*world) {}, engine.Successor{Address: "a:1", History: "h/4", Offset: 120}},
		"another epoch's":              {func(w *world) { w.r.Rank.Position.DataEpoch = 5 }, engine.Successor{Address: "a:1"}},
		"of no epoch":                  {func(w *world) { w.own.DataEpoch, w.r.Rank.Position.DataEpoch = 0, 0 }, engine.Successor{Address: "a:1"}},
		"this one wrote it":            {func(w *world) { w.own.Whole = true }, engine.Successor{Address: "a:1"}},
		"this one was started on it":   {func(w *world) { w.own.Inexact = true }, engine.Successor{Address: "a:1"}},
		"the other was started on its": {func(w *world) { w.r.Rank.Position.Inexact = true }, engine.Successor{Address: "a:1"}},
		"the other's history is new":   {func(w *world) { w.r.History = "h/5" }, engine.Successor{Address: "a:1"}},
		"this one's history is new":    {func(w *world) { w.history = "h/5" }, engine.Successor{Address: "a:1"}},
		"no histories":                 {func(w *world) { w.history, w.r.History = "", "" }, engine.Successor{Address: "a:1"}},
		"this run copied nothing":      {func(w *world) { w.synced = false }, engine.Successor{Address: "a:1"}},
		"it copied another's since":    {func(w *world) { w.strayed = true }, engine.Successor{Address: "a:1"}},
	} {
		w := world{synced: true, own: failover.Position{DataEpoch: 4, Offset: 100}, history: "h/4", r: failover.Request{Upstream: "a:1", History: "h/4",
			Rank: failover.Rank{Position: failover.Position{DataEpoch: 4, Offset: 120}}}}
		c.change(&w)
		s := following(t)
		s.a.proc.synced, s.a.proc.strayed, s.a.obs.Engine.History = w.synced, w.strayed, w.history
		if got := s.a.successor(w.own, w.r); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
