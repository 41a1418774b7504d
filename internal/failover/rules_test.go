package failover

import (
	"testing"
	"time"
)

// What the rules below are there for is not that two write at once, so no random schedule of the simulator shows it. Each is
// played once with the rule and once without it, and the two must differ. All other rules: simulator/rules_test.go.

func differs(t *testing.T, rule Rule, bad func(th *theatre) bool, members int) {
	t.Helper()
	if bad(curtain(t, members)) {
		t.Error("it happens with the rule in force")
	}
	if !bad(curtain(t, members).lacking(rule)) {
		t.Error("it does not happen without the rule: the test shows nothing")
	}
}

func (th *theatre) cutBoth(a, b string) {
	th.cut[[2]string{a, b}], th.cut[[2]string{b, a}] = true, true
}

// PreVote: one broken link between a replica and the primary must not move the epoch, since everybody else hears the primary.
func TestRulePreVote(t *testing.T) {
	differs(t, PreVote, func(th *theatre) bool {
		th.cutBoth("m-0", "m-2")
		th.run(5 * time.Second)
		return th.lease.Epoch > 1
	}, 3)
}

// FenceOnHolderOnly: a promise that somebody gave for a takeover that never came must not stop a primary.
func TestRuleFenceOnHolderOnly(t *testing.T) {
	differs(t, FenceOnHolderOnly, func(th *theatre) bool {
		b := th.members["m-1"]
		th.persist(b, &Durable{PodUID: b.disk.PodUID, Promise: 2, Given: b.disk.Given})
		th.run(3 * time.Second)
		return len(th.members["m-0"].wrote) > 1 || !th.members["m-0"].obs.Serving()
	}, 3)
}

// HearsBothWays: a primary whose heartbeats arrive but who hears no answer is not well, and whoever notices must say so.
func TestRuleHearsBothWays(t *testing.T) {
	differs(t, HearsBothWays, func(th *theatre) bool {
		th.cut[[2]string{"m-2", "m-0"}] = true
		th.run(2 * time.Second)
		return !th.members["m-2"].obs.Suspects(th.now)
	}, 3)
}

// APIVoteWaits: with two members and one broken link the primary renews at the API server; the other one must neither take
// over nor promise anything.
func TestRuleAPIVoteWaits(t *testing.T) {
	differs(t, APIVoteWaits, func(th *theatre) bool {
		th.cutBoth("m-0", "m-1")
		th.run(6 * time.Second)
		if !th.serving("m-0", 1) {
			t.Error("the primary stopped though the API server acknowledges it")
		}
		return th.members["m-1"].disk.Promise > 1
	}, 2)
}

// ClockJump: when the wall clock jumped against the lease's clock nobody knows whether the lease still holds.
func TestRuleClockJump(t *testing.T) {
	differs(t, ClockJump, func(th *theatre) bool {
		th.members["m-0"].obs.ClockJumped = true
		th.run(50 * time.Millisecond)
		return th.members["m-0"].obs.Ended != 1
	}, 3)
}

// With two members the API server is the third voter: either may be lost.
func TestTwoMembersSurviveOne(t *testing.T) {
	th := curtain(t, 2)
	th.crash("m-1")
	th.run(10 * time.Second)
	if !th.serving("m-0", 1) {
		t.Error("the primary stopped when its only peer died")
	}
	renewed := th.lease.Terms.Renewed
	th.boot("m-1")
	th.until("m-1 follows", 10*time.Second, func() bool { return th.members["m-1"].obs.Engine.LinkUp })
	th.run(2 * time.Second)
	at := th.lease.Terms.Renewed
	th.run(5 * time.Second)
	if renewed == 0 || th.lease.Terms.Renewed != at {
		t.Errorf("renewed %d times alone and %d times in 5 s together; want some and none", renewed, th.lease.Terms.Renewed-at)
	}
	th.crash("m-0")
	th.until("m-1 serves", 2*time.Second, func() bool { return th.serving("m-1", 2) })
}

// Suspicion follows the pace of the heartbeats, between the policy's time and the lease.
func TestSuspicionAdapts(t *testing.T) {
	o := NewObservation(Run{Member: "m-1", PodUID: "p", BootID: "1.x"}, 1, 1, Durable{})
	o.Lease = Lease{Epoch: 1, Terms: testTerms(3)}
	beats := func(gaps ...time.Duration) time.Duration {
		o.Heard = Heard{Epoch: 1}
		now := Instant(time.Second)
		for range 20 {
			for _, g := range gaps {
				now = now.Add(g)
				o.Heard.Pace.beat(now)
			}
		}
		return o.suspectAfter()
	}
	const ms = time.Millisecond
	if d := beats(100 * ms); d != 800*ms {
		t.Errorf("steady heartbeats: suspected after %s, want the policy's 800 ms", d)
	}
	if d := beats(100*ms, 100*ms, 600*ms); d <= 800*ms || d > 3000*ms {
		t.Errorf("unsteady heartbeats: suspected after %s, want more than 800 ms and at most the lease", d)
	}
	if d := beats(100*ms, 5000*ms); d != 3000*ms {
		t.Errorf("very unsteady heartbeats: suspected after %s, want the lease of 3 s", d)
	}
	before := o.SuspectIn(Instant(time.Second))
	o.OnStall(700 * ms)
	if got := o.SuspectIn(Instant(time.Second)) - before; got != 700*ms {
		t.Errorf("a member that did not run for 700 ms itself waits %s longer; want as long", got)
	}
}

// A heartbeat that was overtaken by one of a later epoch, on another connection, says nothing any more: what it tells of the
// primary's data is of the older epoch (found by seed 60,693 of 100,000).
func TestOvertakenHeartbeat(t *testing.T) {
	th := curtain(t, 3)
	a, b := th.members["m-0"], th.members["m-1"]
	late := a.obs.Heartbeat(th.now, b.obs.Self, "m-0")
	late.History = "of epoch 1"
	next := late
	next.Epoch, next.Sent, next.Open, next.History = 2, late.Sent.Add(time.Millisecond), false, ""
	b.obs.OnHeartbeat(th.now, next)
	if v := b.obs.OnHeartbeat(th.now, late); v.Refused == "" {
		t.Error("a heartbeat of epoch 1 was taken after one of epoch 2")
	}
	if h := b.obs.Heard; h.Open || h.History != "" {
		t.Errorf("open %v and history %q of epoch 1 are taken for those of epoch %d", h.Open, h.History, h.Epoch)
	}
}

// switched compares a story with the rule and without it, while the rules of base, which stand behind it, are off in both.
func switched(t *testing.T, rule, base Rule, members int, bad func(th *theatre) bool) {
	t.Helper()
	play := func(without Rule) bool {
		th := curtain(t, members).lacking(without)
		th.counting = true
		return bad(th)
	}
	if play(base) {
		t.Error("it happens with the rule in force")
	}
	if !play(base | rule) {
		t.Error("it does not happen without the rule: the test shows nothing")
	}
}

// cutOff cuts a member off the API server too.
func (th *theatre) cutOff(name string) {
	th.isolate(name)
	th.cut[[2]string{name, "api"}], th.cut[[2]string{"api", name}] = true, true
}

func (th *theatre) mend(a, b string) {
	delete(th.cut, [2]string{a, b})
	delete(th.cut, [2]string{b, a})
}

// StartIsLastAck: a voter that restarts has acknowledged something just before, and does not remember when.
func TestRuleStartIsLastAck(t *testing.T) {
	switched(t, StartIsLastAck, 0, 3, func(th *theatre) bool {
		th.cutBoth("m-0", "m-2") // its own acknowledgements are long over
		th.run(2500 * time.Millisecond)
		th.cutOff("m-0")
		th.crash("m-1")
		th.boot("m-1")
		th.run(4 * time.Second)
		return th.two > 0
	})
}

// PromiseDurable: a voter that lost its disk has acknowledged something just before and does not know it, so it waits.
func TestRulePromiseDurable(t *testing.T) {
	switched(t, PromiseDurable, 0, 3, func(th *theatre) bool {
		th.cutBoth("m-0", "m-2")
		th.run(2500 * time.Millisecond)
		th.cutOff("m-0")
		th.crash("m-1")
		th.members["m-1"].disk = Durable{PodUID: th.members["m-1"].disk.PodUID, Forgotten: true}
		th.boot("m-1")
		th.run(4 * time.Second)
		return th.two > 0
	})
}

// SameVersion: what was promised under one version of the Lease was promised of its members, of their pods and of its holder. Since
// votes belong to pods (OneVote) nothing else is known to go wrong without it; it is a second line.
func TestRuleSameVersion(t *testing.T) {
	differs(t, SameVersion, func(th *theatre) bool {
		th.cutOff("m-0")
		a := th.members["m-1"]
		th.until("m-1 has promises", 5*time.Second, func() bool { return a.obs.Attempt != nil && len(a.obs.Attempt.Promises) == 2 })
		old := a.obs.Attempt
		th.swap(func(l *Lease) { l.Terms.MaxLagBytes++ })
		th.run(5 * time.Millisecond)
		return a.obs.Attempt == old
	}, 3)
}

// PromiseForbidsFollowing: who promised acknowledges nothing lower, or the old primary goes on while the new one opens. That
// acknowledgements carry the age of the last lower one, and that one opens only on such, stands behind it.
func TestRulePromiseForbidsFollowing(t *testing.T) {
	switched(t, PromiseForbidsFollowing, OpenOnAcks|AckAge, 3, func(th *theatre) bool {
		th.cutOff("m-0")
		th.until("m-2 promises", 2*time.Second, func() bool { return th.members["m-2"].disk.Promise == 2 })
		th.mend("m-0", "m-2")
		th.run(4 * time.Second)
		return th.two > 0
	})
}

// ReleasedFinal: its word that it gave an epoch up is evidence for ever, so it must not take that epoch up again.
func TestRuleReleasedFinal(t *testing.T) {
	switched(t, ReleasedFinal, 0, 3, func(th *theatre) bool {
		th.swap(func(l *Lease) { l.Terms.Mode = ModeManual })
		th.run(100 * time.Millisecond)
		th.members["m-0"].obs.Engine.Persistent = true
		th.engineDies("m-0")
		th.run(100 * time.Millisecond)
		th.swap(func(l *Lease) { l.Terms.MaxLagBytes++ }) // anything that makes it read the Lease again
		th.run(300 * time.Millisecond)
		th.cutOff("m-0")
		th.swap(func(l *Lease) { l.Terms.Mode = ModeAutomatic })
		th.run(time.Second)
		return th.two > 0
	})
}

// DataEpoch: m-2 has a long end of epoch 1 that nobody confirmed, m-1 what was confirmed in epoch 2. Offsets do not tell.
func TestRuleDataEpoch(t *testing.T) {
	switched(t, DataEpoch, 0, 3, func(th *theatre) bool {
		set := func(e Epoch) SyncSet {
			return SyncSet{Epoch: e, Primary: "m-0", PrimaryData: "d0", Replicas: map[string]string{"m-1": "d1", "m-2": "d2"}, Quorum: 1}
		}
		for name, id := range map[string]string{"m-0": "d0", "m-1": "d1", "m-2": "d2"} {
			th.members[name].obs.Engine.DataID = id
		}
		th.crash("m-0")
		th.swap(func(l *Lease) { l.Epoch, l.Terms.Quorum, l.Terms.Sets = 2, 1, []SyncSet{set(1), set(2)} })
		th.members["m-1"].obs.Engine.Position = Position{DataEpoch: 2, Offset: 100}
		th.members["m-2"].obs.Engine.Position = Position{DataEpoch: 1, Offset: 500}
		th.run(10 * time.Second)
		if th.lease.Epoch < 3 {
			t.Fatalf("nobody took over: epoch %d", th.lease.Epoch)
		}
		return th.lease.Holder.Member == "m-2"
	})
}

// JointVoters: 1 → 2 members. m-0, which cannot see the change, serves on by its own vote, and of the new list m-1 and the API
// server are a majority. The rule is in what the operator writes: the new list beside the old one, not in its place.
func TestRuleJointVoters(t *testing.T) {
	two := func(joint bool) int {
		th := newTheatre(t, 2)
		th.lease.Terms = testTerms(1)
		th.counting = true
		th.run(50 * time.Millisecond)
		th.swap(func(l *Lease) { l.Epoch, l.Holder = 1, th.members["m-0"].obs.Self })
		th.until("m-0 serves", time.Second, func() bool { return th.serving("m-0", 1) })
		th.cutOff("m-0")
		th.members["m-1"].obs.Engine.Position.DataEpoch = 1
		th.swap(func(l *Lease) {
			if l.Terms.Next = testTerms(2).Members; !joint {
				l.Terms.Members, l.Terms.Next = l.Terms.Next, nil
			}
		})
		th.run(8 * time.Second)
		return th.two
	}
	if n := two(true); n > 0 {
		t.Errorf("two wrote at once for %d ms with both lists in force", n)
	}
	if two(false) == 0 {
		t.Error("it does not happen when the new list replaces the old one: the test shows nothing")
	}
}
