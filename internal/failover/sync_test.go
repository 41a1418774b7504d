package failover

import (
	"testing"
	"time"
)

// The old primary, whose engine died, answers a new holder first, and has a little more than anybody confirmed. The new holder
// waits for the others instead of giving its epoch up: one of them makes the quorum without it.
func TestOldPrimaryAnswersFirst(t *testing.T) {
	th := curtain(t, 3)
	replicas := map[string]string{"m-1": "d1", "m-2": "d2"}
	th.swap(func(l *Lease) {
		l.Terms.Quorum, l.Terms.Sets = 1, []SyncSet{{Epoch: 1, Primary: "m-0", PrimaryData: "d0", Replicas: replicas, Quorum: 1}}
	})
	for name, a := range th.members {
		a.obs.Engine.DataID, a.obs.Engine.Persistent = "d"+name[2:], true
		a.obs.Engine.Position = Position{DataEpoch: 1, Offset: 100, Whole: name == "m-0"}
	}
	th.run(100 * time.Millisecond)
	th.members["m-0"].dead[StartEngine] = true // it takes a while
	th.engineDies("m-0")
	th.until("somebody is granted epoch 2", time.Second, func() bool { return th.lease.Epoch == 2 })
	for _, replica := range []string{"m-1", "m-2"} {
		th.slow[replica] = 30 * time.Millisecond // whichever won, the other answers late
	}
	th.until("somebody serves", 2*time.Second, func() bool { return th.lease.Epoch > 1 && th.serving(th.lease.Holder.Member, th.lease.Epoch) })
	if th.lease.Epoch != 2 {
		for _, l := range th.log {
			t.Log(l)
		}
		t.Errorf("it took epoch %d until one opened, want 2", th.lease.Epoch)
	}
}

// Without volumes, when every member of the set lost its data, waiting brings nothing back: once all have answered, one of them
// takes over with what there is. As long as one does not answer, it may still have the data.
func TestSynchronousTotalLoss(t *testing.T) {
	th := curtain(t, 3)
	replicas := map[string]string{"m-1": "d1", "m-2": "d2"}
	th.swap(func(l *Lease) {
		l.Terms.Quorum, l.Terms.Opened, l.Terms.Sets = 1, 1, []SyncSet{{Epoch: 1, Primary: "m-0", PrimaryData: "d0", Replicas: replicas, Quorum: 1}}
	})
	th.run(100 * time.Millisecond)
	for name := range th.members {
		th.crash(name)
	}
	back := func(name string) {
		th.boot(name)
		th.run(50 * time.Millisecond)
		th.members[name].obs.Engine.DataID = "new-" + name
	}
	back("m-1")
	back("m-2")
	th.run(20 * time.Second)
	if th.lease.Epoch != 1 {
		t.Fatalf("epoch %d while m-0, which may have the data, has not answered", th.lease.Epoch)
	}
	back("m-0")
	th.until("somebody serves", 10*time.Second, func() bool { return th.lease.Epoch > 1 && th.serving(th.lease.Holder.Member, th.lease.Epoch) })
}

// One of two replicas, of which one must confirm, leaves. It may have confirmed what the other never got: it counts until the
// other has everything, in the next epoch's set too (rule LeaversCount).
func TestRuleLeaversCount(t *testing.T) {
	run := func(m string) Run { return Run{Member: m, PodUID: "u", BootID: "b"} }
	holder := func(without Rule) *Observation {
		o := primaryOf(2, 1, SyncSet{Replicas: map[string]string{"m-1": "d1", "m-2": "d2"}, Quorum: 1})
		o.Without = without
		return o
	}
	counts := func(o *Observation) int { return len(o.setWanted(Instant(time.Hour), o.Lease.Terms)[0].Replicas) }
	heard := func(o *Observation, from string, at Instant, offset int64) {
		o.Engine.At = at
		o.OnAcknowledgement(at, Acknowledgement{From: run(from), To: o.Self, Epoch: 3, Echo: 1, DataID: "d" + from[2:],
			Position: Position{DataEpoch: 3, Offset: offset}})
	}
	o := holder(0)
	long := Instant(2 * o.Lease.Terms.WaitDuration())
	heard(o, "m-1", 1, 50)
	if counts(o) != 2 {
		t.Error("who left was dropped at once")
	}
	heard(o, "m-1", long, 50)
	if counts(o) != 2 {
		t.Error("who left was dropped while the other lacks half of what was confirmed")
	}
	heard(o, "m-2", long+1, 100)
	heard(o, "m-1", long+2, 100)
	if counts(o) != 2 {
		t.Error("who left still answers, so it may confirm more, and was dropped")
	}
	o.Engine.Counts = map[string][]string{"m-1": {"u"}, "m-2": {"u"}}
	heard(o, "m-1", 3*long, 100)
	if counts(o) != 2 {
		t.Error("the engine takes the word of who left, who was dropped from the Lease")
	}
	delete(o.Engine.Counts, "m-2")
	heard(o, "m-1", 5*long, 100)
	if counts(o) != 1 {
		t.Error("who left counts for ever")
	}
	for without, want := range map[Rule]int{0: 2, LeaversCount: 1} {
		sets := holder(without).nextSet(4, holder(without).Lease.Terms)
		if got := len(sets[len(sets)-1].Replicas); got != want {
			t.Errorf("without rules %b the next epoch's set names %d replicas, want %d", without, got, want)
		}
	}
}

// Where every write waits for the quorum, a silent primary that lost it can confirm nothing more: nobody waits for its lease.
// Where writes are answered before that, or the policy wants no such evidence, the lease is waited out.
func TestQuorumCutWaitsForNoLease(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Terms)
		least  time.Duration
		most   time.Duration
	}{
		"every write waits":          {func(*Terms) {}, 700 * time.Millisecond, 1100 * time.Millisecond},
		"writes are answered before": {func(t *Terms) { t.EveryWaits = false }, 2700 * time.Millisecond, 3500 * time.Millisecond},
		"not accepted": {func(t *Terms) { t.Accepted = []EvidenceKind{Released, ProcessGone, LeaseExpired} },
			2700 * time.Millisecond, 3500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			th := curtain(t, 3)
			th.swap(func(l *Lease) {
				l.Terms.Quorum, l.Terms.EveryWaits, l.Terms.Opened = 1, true, 1
				l.Terms.Sets = []SyncSet{{Epoch: 1, Primary: "m-0", PrimaryData: "d0", Replicas: map[string]string{"m-1": "d1", "m-2": "d2"}, Quorum: 1}}
				c.change(&l.Terms)
			})
			for name, a := range th.members {
				a.obs.Engine.DataID, a.obs.Engine.Persistent, a.obs.Engine.Quorum = "d"+name[2:], true, 1
				a.obs.Engine.Position = Position{DataEpoch: 1, Offset: 100, Whole: name == "m-0"}
			}
			th.run(300 * time.Millisecond)
			th.isolate("m-0")
			took := th.until("somebody serves epoch 2", 10*time.Second, func() bool { return th.serving("m-1", 2) || th.serving("m-2", 2) })
			if took < c.least || took > c.most {
				t.Errorf("took %s, want %s to %s", took, c.least, c.most)
			}
		})
	}
}

// What is not waited for is what went to a primary of a set that was counted; an epoch of which no set tells is waited out.
func TestCutOffIsOfACountedSet(t *testing.T) {
	o := NewObservation(Run{Member: "m-1", PodUID: "u", BootID: "b"}, 1, 0, Durable{PodUID: "u"})
	o.Lease.Terms = testTerms(3)
	o.Lease.Terms.EveryWaits, o.Lease.Terms.Quorum, o.Lease.Terms.Opened = true, 1, 2
	o.Lease.Terms.Sets = []SyncSet{{Epoch: 2, Primary: "m-0", Quorum: 1}, {Epoch: 3, Primary: "m-2"}}
	o.Tenure = newTenure(0, 4)
	for _, c := range []struct {
		what     string
		evidence EvidenceKind
		epoch    Epoch
		want     bool
	}{
		{"the set of that epoch was cut", QuorumCut, 2, true},
		{"that epoch's primary waits for nobody", QuorumCut, 3, false},
		{"no set tells of that epoch", QuorumCut, 1, false},
		{"the grant rests on something else", LeaseExpired, 2, false},
	} {
		o.Tenure.Won = &Attempt{Evidence: c.evidence}
		if got := o.clearAt(0, []LowerAcknowledgement{{Run: Run{Member: "m-0"}, Epoch: c.epoch, Remaining: time.Second}}) == 0; got != c.want {
			t.Errorf("%s: nothing is waited for: %t, want %t", c.what, got, c.want)
		}
	}
}

// A service that runs asynchronously is asked to be synchronous, or to have nobody wait any more: its primary says so in the Lease, with a set of which
// nobody need confirm anything until its engine waits for that.
func TestModeOfARunningService(t *testing.T) {
	o := primaryOf(2, 0)
	want := o.Lease.Terms
	want.Quorum = 1
	next := termsWanted(Instant(time.Hour), o, &want)
	if next == nil || next.Quorum != 1 || len(next.Sets) != 1 {
		t.Fatalf("asked to be synchronous, it writes %+v", next)
	}
	if set := next.Sets[0]; set.Epoch != 3 || set.Primary != "m-0" || set.PrimaryData != "d0" || set.Quorum != 0 || len(set.Replicas) != 1 || set.Replicas["m-1"] != "" {
		t.Errorf("the set is %+v, want one that names m-1's data by nothing and needs nobody yet", set)
	}
	o = primaryOf(2, 0)
	o.Engine.Quorum = 1 // it became asynchronous a moment ago, and its engine is to be told in this very decision
	if next = termsWanted(Instant(time.Hour), o, &want); next == nil || len(next.Sets) != 1 || next.Sets[0].Quorum != 0 {
		t.Errorf("its engine is about to wait for nobody, and it writes %+v", next)
	}
	o = primaryOf(2, 1, SyncSet{Replicas: map[string]string{"m-1": "d1"}, Quorum: 1})
	want = o.Lease.Terms
	want.Quorum = 0
	if next = termsWanted(Instant(time.Hour), o, &want); next == nil || next.Quorum != 0 || len(next.Sets) != 0 {
		t.Errorf("asked to be asynchronous, it writes %+v", next)
	}
}

// A write that says that one replica confirms has no answer yet, and meanwhile none is left, so that the policy would go on with nobody: until a later version of
// the Lease is seen, the engine lets no client go whose write only it has.
func TestQuorumOfAWriteInDoubt(t *testing.T) {
	self := Run{Member: "m-0", PodUID: "u", BootID: "b"}
	o := NewObservation(self, 0, 0, Durable{PodUID: "u"})
	terms := testTerms(3)
	terms.Quorum, terms.OnTooFew = 1, ContinueWriting
	set := SyncSet{Epoch: 1, Primary: "m-0", PrimaryData: "d0", Replicas: map[string]string{"m-1": "d1", "m-2": "d2"}}
	terms.Sets = []SyncSet{set}
	lease := Lease{Version: "7", Epoch: 1, Holder: self, Terms: terms}
	o.OnLease(0, lease, true)
	o.Tenure.Opened = true
	raised := set
	raised.Quorum = 1
	terms.Sets = []SyncSet{raised}
	o.OnWriting(terms)
	now := Instant(time.Hour) // of nobody was anything heard for long
	if target, engine := o.QuorumTarget(now), o.engineQuorum(now); target != 0 || engine != 1 {
		t.Errorf("while the write is in doubt the policy wants %d and the engine is to wait for %d, want 0 and 1", target, engine)
	}
	lease.Version = "8" // another's write came first: ours can never be
	o.OnLease(now, lease, true)
	if engine := o.engineQuorum(now); engine != 0 {
		t.Errorf("the engine is to wait for %d when the write was overtaken, want 0", engine)
	}
}
