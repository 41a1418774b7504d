package agent

import (
	"strings"
	"testing"
	"time"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// deaf makes members answer nothing, or answer again.
func (s *stage) deaf(yes bool) {
	for _, p := range s.peers {
		p.deaf = yes
	}
}

// confirmed is a stage whose agent holds epoch 1, has promised it on disk, and opens it as soon as its peers answer.
func confirmed(t *testing.T) *stage {
	s := unled(t)
	s.deaf(true)
	lead(s)
	s.until("the promise of epoch 1 is on disk and the engine runs", func() bool {
		return s.a.obs.Durable.Promise == 1 && s.a.obs.Engine.State == failover.EngineRunning && !s.a.disk.busy && !s.a.orders.busy
	})
	return s
}

// opened lets the peers answer until the epoch is open and the Lease says so.
func (s *stage) opened() {
	s.deaf(false)
	s.until("the epoch is open", func() bool { return s.a.obs.Serving() && s.api.lease.Terms.Opened == s.a.obs.Tenure.Epoch })
	s.pass(500 * time.Millisecond)
}

// An epoch that cannot be claimed or opened, since too much waits already, is given up. It must not look as if it were done, and
// not as if it were under way for ever.
func TestFullQueueOfAnOpening(t *testing.T) {
	for name, queue := range map[string]func(s *stage) *lane{
		"the claim's disk":    func(s *stage) *lane { return &s.a.disk },
		"the engine's orders": func(s *stage) *lane { return &s.a.orders },
	} {
		t.Run(name, func(t *testing.T) {
			s := confirmed(t)
			s.fill(queue(s))
			asked := s.now
			s.deaf(false)
			s.until("it gave epoch 1 up", func() bool { return s.a.obs.Ended == 1 })
			s.never("promote")
			s.inOrder("kill", "released 1 to m-1")
			for _, f := range s.peers["m-1"].sent {
				if f.Heartbeat != nil && f.Heartbeat.Open {
					t.Error("it said that it is open")
				}
			}
			if s.a.doing.is(failover.Open) {
				t.Error("it would never open anything again")
			}
			if took := s.now.Sub(asked); took > 500*time.Millisecond {
				t.Errorf("it took %s: by the lease and not by the refusal", took)
			}
		})
	}
}

func TestFullDiskQueueOfARenumbering(t *testing.T) {
	s := serving(t, true)
	s.fill(&s.a.disk)
	asked := s.now
	s.told("m-1")
	s.until("it gave epoch 2 up", func() bool { return s.a.obs.Ended == 2 })
	s.never("heartbeat 2")
	s.inOrder("kill", "released 2 to m-1")
	if took := s.now.Sub(asked); took > 500*time.Millisecond {
		t.Errorf("it took %s: by the lease and not by the refusal", took)
	}
}

// What is only put off is tried again when the queue has room.
func TestFullQueueIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		play  func(t *testing.T) *stage
		queue func(a *Agent) *lane
		begin func(s *stage) // while the queue is full
		kind  failover.ActionKind
		want  string // in the journal, once there is room
	}{
		{"a promise", unled, disk, lead, failover.Remember, "save promise 1"},
		{"the engine's start", unled, orders, lead, failover.StartEngine, "start"},
		{"who to follow", replica, orders, func(s *stage) { s.heartbeat("m-0", 1) }, failover.Follow, "follow"},
		{"that it is no member any more", following, orders, strike, failover.Detach, "detach"},
		{"how many replicas a write needs", func(t *testing.T) *stage { return serving(t, true) }, orders, func(s *stage) { s.demand(1) },
			failover.Configure, "configure 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.play(t)
			before := s.count(c.want)
			room := s.fill(c.queue(s.a))
			c.begin(s)
			s.pass(300 * time.Millisecond)
			if s.count(c.want) != before {
				t.Fatal("it was done although the queue was full")
			}
			room()
			asked := s.now
			s.until(c.want, func() bool { return s.count(c.want) > before })
			s.until("it is done", func() bool { return !s.a.doing.is(c.kind) })
			if took := s.now.Sub(asked); took > 2*time.Second {
				t.Errorf("it took %s: not before all was begun anew for another reason", took)
			}
		})
	}
}

func disk(a *Agent) *lane   { return &a.disk }
func orders(a *Agent) *lane { return &a.orders }

// unled is an agent that has not read the Lease yet; lead lets it.
func unled(t *testing.T) *stage { return bareStage(t, "m-0", "m-0", true) }
func lead(s *stage)             { s.happens(func() { s.a.OnLease(s.api.lease, true) }) }

// replica is an agent whose engine runs and which has not heard of the primary m-0 yet, and following one that follows it.
func replica(t *testing.T) *stage {
	s := newStage(t, "m-1", "m-0", true)
	s.until("the engine runs", func() bool { return s.a.obs.Engine.State == failover.EngineRunning && !s.a.orders.busy })
	return s
}

func following(t *testing.T) *stage {
	s := replica(t)
	for range 3 {
		s.heartbeat("m-0", 1)
		s.pass(100 * time.Millisecond)
	}
	if s.a.obs.Engine.Following != run("m-0") || !s.a.obs.Engine.LinkUp {
		t.Fatalf("it does not follow: %+v", s.a.obs.Engine)
	}
	return s
}

// heartbeat arrives from an open primary that hears this member's acknowledgements.
func (s *stage) heartbeat(from string, epoch failover.Epoch) {
	p := s.peers[from]
	p.says(wire.Frame{Heartbeat: &failover.Heartbeat{From: p.link.Run, To: s.a.Self, Epoch: epoch, Sent: s.now, LeaseMillis: 3000, WaitMillis: 3000,
		Partition: failover.PreferConsistency, Echo: s.now.Add(-time.Millisecond), Position: failover.Position{DataEpoch: epoch, Offset: s.engine.offset},
		Open: true, Upstream: "10.0.0.9:6379", LeaseVersion: s.api.lease.Version}})
}

// strike takes this member off the Lease's list.
func strike(s *stage) {
	l := s.api.lease
	l.Terms.Members = []failover.MemberEntry{{Name: "m-0", Voter: true}, {Name: "m-2", Voter: true}}
	s.api.write(l)
	s.api.watch()
}

// demand changes how many replicas must be there for a write.
func (s *stage) demand(n int) {
	l := s.api.lease
	l.Terms.MinReplicasToWrite = n
	s.api.write(l)
	s.api.watch()
}

// A candidate is told that there will be no promise; silence would cost it the whole wait for one.
func TestFullQueueRefusesAPromise(t *testing.T) {
	for name, queue := range map[string]func(a *Agent) *lane{"the disk's": disk, "the engine's": orders} {
		t.Run(name, func(t *testing.T) {
			s := following(t)
			s.fill(queue(s.a))
			s.released("m-0", 1, 0)
			p := s.peers["m-2"]
			p.says(wire.Frame{PromiseRequest: &failover.Request{From: p.link.Run, To: s.a.Self, ID: 9, Epoch: 2, Known: 1, Holder: run("m-0"),
				Version: s.api.lease.Version}})
			s.did("promise 2 given false to m-2")
			s.never("promise 2 given true")
		})
	}
}

// released arrives: the run fenced itself at an offset.
func (s *stage) released(from string, epoch failover.Epoch, offset int64) {
	p := s.peers[from]
	p.says(wire.Frame{Released: &failover.Release{Run: p.link.Run, Epoch: epoch, Final: true,
		Position: failover.Position{DataEpoch: epoch, Offset: offset}}})
}

// What the engine did not take, or was too busy to be told, is still what the policy wants.
func TestConfigureIsCarriedOutInTheEnd(t *testing.T) {
	for name, change := range map[string]func(s *stage){
		"when the policy changes while it is promoted": func(s *stage) {
			s.shut["promote"] = true
			s.deaf(false)
			s.until("it is being promoted", func() bool { return s.a.doing.is(failover.Open) })
			s.demand(2)
			s.shut["promote"] = false
		},
		"after an engine that refused once": func(s *stage) {
			s.opened()
			s.fails["configure"] = errTimeout
			s.demand(2)
			s.did("configure 2 fails")
			delete(s.fails, "configure")
		},
		"when the policy changes again meanwhile": func(s *stage) {
			s.opened()
			s.shut["configure"] = true
			s.demand(1)
			s.demand(2)
			s.shut["configure"] = false
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := confirmed(t)
			change(s)
			s.until("the engine waits for two replicas", func() bool { return s.engine.min == 2 })
		})
	}
}

// Clients of a synchronous primary that is cut off wait for a replica's word. When it hears that another one has taken over, nobody may be told that their writes
// are safe: the next Lease says nothing of how many replicas this engine waits for, and the fence follows.
func TestWhoWaitsIsNotLetGoByTheNextLease(t *testing.T) {
	s := serving(t, true)
	l := s.api.lease
	l.Terms.Quorum, l.Terms.EveryWaits = 1, true
	l.Terms.Sets = []failover.SyncSet{{Epoch: 1, Primary: "m-0", PrimaryData: s.a.obs.Engine.DataID, Replicas: map[string]string{"m-1": "", "m-2": ""}, Quorum: 1}}
	s.api.write(l)
	s.api.watch()
	s.until("the engine waits for one replica", func() bool { return s.engine.min == 1 })
	l = s.api.lease
	l.Epoch, l.Holder = 2, run("m-1")
	l.Terms.Sets = append(l.Terms.Sets, failover.SyncSet{Epoch: 2, Primary: "m-1", Replicas: map[string]string{"m-0": "", "m-2": ""}, Quorum: 1})
	s.api.write(l)
	s.api.watch()
	s.until("it is fenced", func() bool { return s.count("kill") > 0 && !s.a.obs.Engine.Writable })
	s.never("configure 0")
}

// An engine that was told to wait for nobody, and did not answer, may wait for nobody: the Lease must not say that it waits for one before it has been told so again.
func TestLoweredQuorumThatFailsIsNoQuorum(t *testing.T) {
	s := serving(t, true)
	s.engine.offset = 10
	demand := func(quorum int, sets []failover.SyncSet) {
		l := s.api.lease
		l.Terms.Quorum, l.Terms.Sets = quorum, sets
		s.api.write(l)
		s.api.watch()
	}
	inForce := func() int {
		if set := s.api.lease.Terms.Set(); set != nil {
			return set.Quorum
		}
		return 0
	}
	demand(1, nil)
	s.until("the Lease has a set in which one replica confirms", func() bool { return s.engine.min == 1 && inForce() == 1 })
	s.fails["configure"] = errTimeout
	demand(0, nil)
	s.until("the engine did not answer", func() bool { return s.count("configure 0 fails") > 0 })
	demand(1, nil)
	s.pass(3 * time.Second)
	if got := inForce(); got != 0 {
		t.Errorf("the Lease says that %d replicas confirm each write, and the engine was last told that none need", got)
	}
	delete(s.fails, "configure")
	s.until("one replica confirms again", func() bool { return inForce() == 1 })
	if last := s.lastIndex("configure 1"); last < s.lastIndex("configure 0 fails") {
		t.Errorf("the engine was not told to wait again:\n%s", strings.Join(s.journal, "\n"))
	}
}
