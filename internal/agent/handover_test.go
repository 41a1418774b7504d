package agent

import (
	"testing"
	"time"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// handed is a primary that was asked to hand over to m-1, with the replies to that.
func handed(s *stage) *[]wire.HandoverReply {
	replies := &[]wire.HandoverReply{}
	s.happens(func() {
		s.a.beginHandover("m-1", func(r wire.HandoverReply) { *replies = append(*replies, r) })
	})
	return replies
}

// Until the fence whatever goes wrong leaves the primary what it was, with its writes let go on.
func TestHandoverThatFailsBeforeTheFenceGoesOn(t *testing.T) {
	for name, spoil := range map[string]func(s *stage){
		"the engine does not hold back writes": func(s *stage) { s.fails["pause"] = errTimeout },
		"the target stays behind":              func(s *stage) { s.engine.offset, s.peers["m-1"].has = 50, 49 },
		"the target answers nothing":           func(s *stage) { s.peers["m-1"].deaf = true },
		"the epoch is renumbered meanwhile": func(s *stage) {
			s.engine.offset, s.peers["m-1"].has = 50, 49
			s.After(50*time.Millisecond, func() { s.peers["m-1"].has = 50 })
			s.After(10*time.Millisecond, func() { s.told("m-2") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serving(t, true)
			spoil(s)
			replies := handed(s)
			s.did("resume")
			s.until("it is answered", func() bool { return len(*replies) == 1 })
			if r := (*replies)[0]; !r.Refused || r.Reason != "HandoverFailed" {
				t.Errorf("reply %+v, want a refusal: HandoverFailed", r)
			}
			beats, epoch := s.count("heartbeat"), s.api.lease.Epoch
			s.pass(5 * time.Second)
			if s.a.Holds() != epoch || !s.a.obs.Serving() || s.count("heartbeat") == beats {
				t.Errorf("it holds epoch %d, serving %t; want epoch %d and heartbeats", s.a.Holds(), s.a.obs.Serving(), epoch)
			}
			s.never("kill")
			s.never("released")
			if s.a.handover != nil {
				t.Error("it would refuse the next handover")
			}
		})
	}
}

// The last word of a run says what its target confirmed, and comes after the fence.
func TestHandoverReleasesAtTheFinalPosition(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(s *stage)
		final bool
	}{
		"at once":                                {func(*stage) {}, true},
		"after a fence that came to nothing":     {func(s *stage) { s.once["kill"] = errTimeout }, true},
		"after the engine may have let go again": {func(s *stage) { s.shut["kill"] = true; s.After(5*time.Second, func() { s.shut["kill"] = false }) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := serving(t, true)
			s.engine.offset, s.peers["m-1"].has = 50, 49
			replies := handed(s)
			s.pass(50 * time.Millisecond)
			c.spoil(s)
			s.peers["m-1"].has = 50
			s.did("released 1 to m-2")
			s.inOrder("pause", "position request", "kill", "released 1 to m-1")
			want := failover.Release{Run: s.a.Self, Epoch: 1, Position: failover.Position{DataEpoch: 1, Offset: 50}, Final: c.final, Target: "m-1"}
			if got := s.releasedTo("m-2"); got != want {
				t.Errorf("released %+v, want %+v", got, want)
			}
			if last := s.lastIndex("kill"); s.journal[last] != "kill" || last > s.index("released 1") {
				t.Errorf("it spoke before everything was killed: %v", s.journal[last:])
			}
			if len(*replies) != 1 || (*replies)[0].Refused || (*replies)[0].Target != "m-1" {
				t.Errorf("replies %+v, want one that names m-1", *replies)
			}
		})
	}
}

// The operator may ask for a target that cannot take over in the instant in which the pod is ended: another one can.
func TestEndingPrimaryRefusesATargetAndHandsOverToAnother(t *testing.T) {
	s := serving(t, true)
	s.peers["m-1"].unfit = true
	s.pass(200 * time.Millisecond)
	s.happens(s.a.Leave)
	replies := handed(s)
	s.until("it ends", s.a.Ended)
	if len(*replies) != 1 || !(*replies)[0].Refused || (*replies)[0].Reason != "NoCandidate" {
		t.Errorf("replies %+v, want one refusal: NoCandidate", *replies)
	}
	if r := s.releasedTo("m-2"); r.Target != "m-2" || !r.Final {
		t.Errorf("released %+v, want a handover to m-2", r)
	}
}

// Of targets that are nearly equal the one where the primary is wanted goes first.
func TestPreferredTargets(t *testing.T) {
	at := func(offset int64, preferred bool, ordinal int) failover.Rank {
		return failover.Rank{Eligible: true, Position: failover.Position{DataEpoch: 1, Offset: offset}, Preferred: preferred, Ordinal: ordinal}
	}
	for name, c := range map[string]struct {
		a, b failover.Rank
		want bool
	}{
		"preferred and equal":      {at(100, true, 2), at(100, false, 1), true},
		"preferred, a little less": {at(100, true, 2), at(4000, false, 1), true},
		"preferred, much less":     {at(100, true, 2), at(8<<20, false, 1), false},
		"both preferred":           {at(100, true, 1), at(4000, true, 2), false},
		"neither, and more":        {at(4000, false, 2), at(100, false, 1), true},
	} {
		if goesBefore(c.a, c.b) != c.want || goesBefore(c.b, c.a) == c.want {
			t.Errorf("%s: goes first: %t, the other way round: %t", name, goesBefore(c.a, c.b), goesBefore(c.b, c.a))
		}
	}
}

// However a request and the end of the pod meet, the right changes hands once.
func TestHandoverAndEnd(t *testing.T) {
	ask := func(s *stage, replies *[]wire.HandoverReply, target string) {
		s.happens(func() { s.a.beginHandover(target, func(r wire.HandoverReply) { *replies = append(*replies, r) }) })
	}
	for name, c := range map[string]struct {
		play   func(s *stage, replies *[]wire.HandoverReply)
		target string
		reason string // of the refusal
	}{
		"asked, and ended at once": {func(s *stage, r *[]wire.HandoverReply) { ask(s, r, "m-2"); s.happens(s.a.Leave) }, "m-2", ""},
		"asked, and ended a while later": {func(s *stage, r *[]wire.HandoverReply) {
			ask(s, r, "m-2")
			s.did("released 1 to m-2")
			s.happens(s.a.Leave)
		}, "m-2", ""},
		"ended, and asked in the calm before": {func(s *stage, r *[]wire.HandoverReply) {
			s.happens(s.a.Leave)
			s.pass(leaveSettle / 2)
			ask(s, r, "m-2")
		}, "m-2", ""},
		"ended, and asked for another while it hands over": {func(s *stage, r *[]wire.HandoverReply) {
			s.engine.offset, s.peers["m-1"].has = 50, 49
			s.happens(s.a.Leave)
			s.did("pause")
			ask(s, r, "m-2")
			s.peers["m-1"].has = 50
		}, "m-1", wire.HandoverUnderWay},
		"ended, and asked for the same": {func(s *stage, r *[]wire.HandoverReply) {
			s.engine.offset, s.peers["m-1"].has = 50, 49
			s.happens(s.a.Leave)
			s.did("pause")
			ask(s, r, "m-1")
			s.peers["m-1"].has = 50
		}, "m-1", ""},
		"ended, and asked when it has released": {func(s *stage, r *[]wire.HandoverReply) {
			s.happens(s.a.Leave)
			s.did("released 1 to m-1")
			ask(s, r, "m-2")
		}, "m-1", wire.NotPrimary},
	} {
		t.Run(name, func(t *testing.T) {
			s := serving(t, true)
			s.pass(200 * time.Millisecond)
			replies := &[]wire.HandoverReply{}
			c.play(s, replies)
			s.until("it ends", s.a.Ended)
			if n := s.count("pause"); n != 1 {
				t.Errorf("writes were held back %d times, want one handover", n)
			}
			if r := s.releasedTo("m-1"); r.Target != c.target {
				t.Errorf("released to %q, want %q", r.Target, c.target)
			}
			if len(*replies) != 1 || (*replies)[0].Refused != (c.reason != "") || (*replies)[0].Reason != c.reason {
				t.Errorf("replies %+v, want the reason %q", *replies, c.reason)
			}
		})
	}
}

func (s *stage) releasedTo(member string) failover.Release {
	for _, f := range s.peers[member].sent {
		if f.Released != nil {
			return *f.Released
		}
	}
	s.t.Fatalf("nothing was released to %s", member)
	return failover.Release{}
}

// A primary that is ended and that nobody can succeed now stops nevertheless, and leaves its word where whoever comes later finds it.
func TestEndingPrimaryWithoutATargetReleasesInTheLease(t *testing.T) {
	for name, spoil := range map[string]func(s *stage){
		"no replica may take over": func(s *stage) { s.peers["m-1"].unfit, s.peers["m-2"].unfit = true, true },
		"the handover fails":       func(s *stage) { s.fails["pause"] = errTimeout },
	} {
		t.Run(name, func(t *testing.T) {
			s := serving(t, true)
			spoil(s)
			s.pass(200 * time.Millisecond)
			s.happens(s.a.Leave)
			s.until("it ends", s.a.Ended)
			if l := s.api.lease; l.Terms.Released != 1 || l.Epoch != 1 || l.Holder != s.a.Self {
				t.Errorf("the Lease has epoch %d of %s, released %d; want 1 of %s, released 1", l.Epoch, l.Holder, l.Terms.Released, s.a.Self)
			}
			if n := s.count("pause"); n > 1 {
				t.Errorf("it began %d handovers, want one at most: then it stops", n)
			}
			last := s.api.swaps[len(s.api.swaps)-1]
			if last.Terms.Released != 1 || s.index("kill") > s.lastIndex("swap") || s.lastIndex("swap") > s.index("goodbye") {
				t.Errorf("want the kill, then the write, then the end:\n%v", s.journal[max(0, len(s.journal)-20):])
			}
		})
	}
}

// Nothing is written where it is not needed, and an API server that is away keeps nobody from ending.
func TestEndingPrimaryWritesNoMoreThanItMust(t *testing.T) {
	t.Run("a successor was heard of", func(t *testing.T) {
		s := serving(t, true)
		swaps := len(s.api.swaps)
		s.happens(s.a.Leave)
		s.did("released 1")
		s.heartbeat("m-1", 2) // before the Lease's watch says so
		s.until("it ends", s.a.Ended)
		if len(s.api.swaps) != swaps {
			t.Errorf("it wrote the Lease: %+v", s.api.swaps[swaps:])
		}
	})
	t.Run("the API server is away", func(t *testing.T) {
		s := serving(t, true)
		s.peers["m-1"].unfit, s.peers["m-2"].unfit = true, true
		s.fails["swap"], s.fails["read lease"] = errTimeout, errTimeout
		s.pass(200 * time.Millisecond)
		s.happens(s.a.Leave)
		s.until("it ends", s.a.Ended)
		s.inOrder("kill", "released 1", "read lease fails", "goodbye")
	})
}

// A node that has not learned of the new route yet leads clients to the old address for a while, and the pod ends no sooner: whether it hears of its successor
// from the Lease or from the successor itself.
func TestEndingPrimaryLingersForLateClients(t *testing.T) {
	for name, hears := range map[string]func(s *stage){
		"from the Lease": func(s *stage) {
			l := s.api.lease
			l.Epoch, l.Holder = 2, s.peers["m-1"].link.Run
			s.api.write(l)
			s.a.OnLease(s.api.lease, true)
		},
		"from the successor": func(s *stage) { s.heartbeat("m-1", 2) },
	} {
		t.Run(name, func(t *testing.T) {
			s := serving(t, true)
			s.pass(200 * time.Millisecond)
			handed(s)
			s.did("released 1 to m-1")
			s.happens(s.a.Leave)
			s.happens(func() { hears(s) })
			s.pass(relayLinger - 200*time.Millisecond)
			if s.a.Ended() {
				t.Fatal("it ended while clients still came")
			}
			s.until("it ends", s.a.Ended)
		})
	}
}

// An engine that is to end in a moment is not started again to follow its successor before clients have been led there.
func TestHandoverOfAPodThatLeaves(t *testing.T) {
	for _, leaves := range []bool{true, false} {
		s := serving(t, true)
		s.pass(200 * time.Millisecond)
		starts := s.count("start")
		s.happens(func() {
			s.a.onHandoverRequest(s.peers["m-1"].link, wire.Handover{ID: "1", Epoch: 1, Target: "m-1", Leaves: leaves})
		})
		s.did("released 1 to m-1")
		s.happens(func() { s.heartbeat("m-1", 2) })
		s.pass(relayFor - 200*time.Millisecond)
		if again := s.count("start") > starts; again == leaves {
			t.Errorf("its pod leaves: %t, and the engine was started again: %t", leaves, again)
		}
		s.pass(time.Second)
		if s.count("start") == starts {
			t.Error("the engine was not started again, and nobody ended the pod")
		}
	}
}
