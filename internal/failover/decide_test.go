package failover

import (
	"testing"
	"time"
)

func TestBootstrapOpensOnAcknowledgements(t *testing.T) {
	th := curtain(t, 3)
	for _, m := range []string{"m-1", "m-2"} {
		if o := th.members[m].obs; o.Engine.Following.Member != "m-0" || !o.Engine.LinkUp {
			t.Errorf("%s follows %q, link up %t; want m-0", m, o.Engine.Following.Member, o.Engine.LinkUp)
		}
	}
	if th.lease.Terms.Opened != 1 {
		t.Errorf("opened in the Lease = %d, want 1", th.lease.Terms.Opened)
	}
}

func TestEngineCrashIsTakenOverWithoutAWait(t *testing.T) {
	th := curtain(t, 3)
	th.engineDies("m-0")
	took := th.until("m-1 serves", time.Second, func() bool { return th.serving("m-1", 2) })
	if took > 50*time.Millisecond {
		t.Errorf("took %s on virtual time; Released needs no wait", took)
	}
	if got := th.members["m-1"].obs.Tenure.Won.Evidence; got != Released {
		t.Errorf("evidence = %s, want Released", got)
	}
	th.until("m-0 follows m-1", time.Second, func() bool { return th.members["m-0"].obs.Engine.Following.Member == "m-1" })
}

func TestContainerCrashIsProcessGone(t *testing.T) {
	th := curtain(t, 3)
	th.crash("m-0")
	th.until("m-1 serves", time.Second, func() bool { return th.serving("m-1", 2) })
	if got := th.members["m-1"].obs.Tenure.Won.Evidence; got != ProcessGone {
		t.Errorf("evidence = %s, want ProcessGone", got)
	}
}

// A restarted container has the name, the pod and the disk of the holder, but not its run: it must win a new epoch
// (rule RunBound), and being empty it must not win it.
func TestRestartedHolderDoesNotServeItsEpoch(t *testing.T) {
	th := curtain(t, 3)
	th.crash("m-0")
	th.boot("m-0")
	th.until("m-1 serves", 2*time.Second, func() bool { return th.serving("m-1", 2) })
	if n := len(th.members["m-0"].wrote); n != 1 {
		t.Errorf("m-0 opened %d times, want only epoch 1", n)
	}
}

func TestSilentHolderIsWaitedOut(t *testing.T) {
	th := curtain(t, 3)
	th.isolate("m-0")
	took := th.until("somebody serves epoch 2", 10*time.Second, func() bool { return th.serving("m-1", 2) || th.serving("m-2", 2) })
	if took < 2700*time.Millisecond || took > 3500*time.Millisecond {
		t.Errorf("took %s; want about the lease of 3 s", took)
	}
	if th.members["m-0"].obs.Engine.Writable {
		t.Error("the isolated primary may still write")
	}
}

func TestHolderServesOnWithoutTheAPIServer(t *testing.T) {
	th := curtain(t, 3)
	th.api = false
	th.run(20 * time.Second)
	if !th.serving("m-0", 1) {
		t.Error("a healthy primary with its majority stopped because the API server was away")
	}
	th.engineDies("m-0")
	th.run(5 * time.Second)
	if th.serving("m-1", 2) || th.serving("m-2", 2) {
		t.Error("somebody took over without the arbiter")
	}
	th.api = true
	for _, a := range th.members {
		th.leaseTo(a, true)
	}
	th.until("somebody serves", 5*time.Second, func() bool { return th.serving("m-1", 2) || th.serving("m-2", 2) })
}

// One replica that lost its link to the primary cannot depose it: the others still hear it (rule PreVote).
func TestOneBrokenLinkDeposesNobody(t *testing.T) {
	th := curtain(t, 3)
	th.cut[[2]string{"m-0", "m-2"}], th.cut[[2]string{"m-2", "m-0"}] = true, true
	th.run(10 * time.Second)
	if !th.serving("m-0", 1) || th.lease.Epoch != 1 {
		t.Errorf("epoch %d, m-0 serving: %t; want epoch 1 and serving", th.lease.Epoch, th.serving("m-0", 1))
	}
	if p := th.members["m-2"].disk.Promise; p != 1 {
		t.Errorf("the suspecting member promised %d; asking first must leave no promise", p)
	}
}

// A member that promised for a takeover that never came is led back by the holder's next epoch.
func TestHolderRenumbersForAStrayPromise(t *testing.T) {
	th := curtain(t, 3)
	b := th.members["m-1"]
	th.persist(b, &Durable{PodUID: b.disk.PodUID, Promise: 2, Given: b.disk.Given})
	th.until("m-0 serves epoch 2", time.Second, func() bool { return th.serving("m-0", 2) })
	th.until("m-1 follows epoch 2", time.Second, func() bool { return b.obs.Engine.FollowingEpoch == 2 })
	if len(th.members["m-0"].wrote) != 1 {
		t.Error("it stopped in between")
	}
}

func TestHandoverGoesToTheTarget(t *testing.T) {
	th := curtain(t, 3)
	th.fence(th.members["m-0"], "m-2")
	th.until("m-2 serves", time.Second, func() bool { return th.serving("m-2", 2) })
}

func TestTargetThatDiesIsReplaced(t *testing.T) {
	th := curtain(t, 3)
	th.members["m-2"].dead[Begin] = true
	th.fence(th.members["m-0"], "m-2")
	th.until("m-1 serves", 3*time.Second, func() bool { return th.serving("m-1", 2) })
}

func TestModesThatForbidATakeover(t *testing.T) {
	for _, mode := range []Mode{ModeManual, ModeDryRun, ModePaused} {
		th := curtain(t, 3)
		th.swap(func(l *Lease) { l.Terms.Mode = mode })
		th.run(10 * time.Millisecond)
		th.engineDies("m-0")
		th.run(5 * time.Second)
		if th.lease.Epoch != 1 {
			t.Errorf("mode %s: epoch %d, want 1", mode, th.lease.Epoch)
		}
		th.swap(func(l *Lease) { l.Terms.Approved = 1 })
		th.run(5 * time.Second)
		if want := map[bool]Epoch{true: 1, false: 2}[mode == ModePaused]; th.lease.Epoch != want {
			t.Errorf("mode %s, and a person approved: epoch %d, want %d", mode, th.lease.Epoch, want)
		}
	}
}

func TestBestPositionWins(t *testing.T) {
	th := curtain(t, 3)
	th.members["m-2"].obs.Engine.Position.Offset = 500
	th.engineDies("m-0")
	th.until("m-2 serves", 2*time.Second, func() bool { return th.serving("m-2", 2) })
}

func TestEmptyReplicaIsNoCandidate(t *testing.T) {
	th := curtain(t, 3)
	for _, m := range []string{"m-1", "m-2"} {
		th.members[m].obs.Engine.Position = Position{}
		th.members[m].obs.Engine.Data = true
	}
	th.crash("m-0")
	th.run(5 * time.Second)
	if th.lease.Epoch != 1 {
		t.Errorf("epoch %d: a replica without the data took over though the old primary may still have it", th.lease.Epoch)
	}
	th.boot("m-0") // in memory, so it comes back empty: nobody has the data any more, and waiting brings nothing
	th.until("somebody serves with what is left", 10*time.Second, func() bool { return th.lease.Terms.Opened == 2 })
}

func TestSingleMemberComesBackByItself(t *testing.T) {
	th := curtain(t, 1)
	th.engineDies("m-0")
	th.until("m-0 serves epoch 2", 2*time.Second, func() bool { return th.serving("m-0", 2) })
	th.crash("m-0")
	th.boot("m-0")
	th.until("m-0 serves epoch 3", 2*time.Second, func() bool { return th.serving("m-0", 3) })
}

func TestForgetfulMemberWaits(t *testing.T) {
	th := curtain(t, 3)
	th.crash("m-2")
	th.members["m-2"].disk = Durable{PodUID: "pod-m-2", Forgotten: true}
	th.boot("m-2")
	th.run(2500 * time.Millisecond)
	if p := th.members["m-2"].disk; !p.Forgotten {
		t.Fatalf("it took part after 2.5 s: %+v; it must wait L = 3 s", p)
	}
	th.until("m-2 follows again", 2*time.Second, func() bool { return th.members["m-2"].obs.Engine.LinkUp })
}

func TestClockJumpStopsTheHolder(t *testing.T) {
	th := curtain(t, 3)
	th.members["m-0"].obs.ClockJumped = true
	th.until("m-0 stops", 100*time.Millisecond, func() bool { return !th.serving("m-0", 1) })
}

func TestShorterLeaseIsWaitedOutWithTheLongerOne(t *testing.T) {
	th := curtain(t, 3)
	short := th.lease.Terms
	short.LeaseMillis = 1500
	th.members["m-0"].policy = &short
	th.until("the Lease has the new L", time.Second, func() bool { return th.lease.Terms.LeaseMillis == 1500 })
	if th.lease.Terms.WaitMillis != 3000 {
		t.Errorf("waitMilliseconds = %d right after, want the old 3000", th.lease.Terms.WaitMillis)
	}
	th.until("the old L is forgotten", 5*time.Second, func() bool { return th.lease.Terms.WaitMillis == 1500 })
}

// The same run may win again after it released; its second release counts as the first one did.
func TestRunReleasesTwice(t *testing.T) {
	th := curtain(t, 3)
	th.engineDies("m-0")
	th.until("m-1 serves", time.Second, func() bool { return th.serving("m-1", 2) })
	th.run(300 * time.Millisecond)
	th.engineDies("m-1")
	th.until("m-0 serves", time.Second, func() bool { return th.serving("m-0", 3) })
	th.run(300 * time.Millisecond)
	th.engineDies("m-0")
	took := th.until("m-1 serves again", time.Second, func() bool { return th.serving("m-1", 4) })
	if won := th.members["m-1"].obs.Tenure.Won; won.Evidence != Released || took > 50*time.Millisecond {
		t.Errorf("evidence %s after %s, want Released at once", won.Evidence, took)
	}
}

// Two quick container kills in turn: what the confirming member gave to an earlier boot of the new holder's own pod is
// clear at once, for that boot has ended.
func TestEarlierBootOfTheNewHolderIsNotWaitedFor(t *testing.T) {
	th := curtain(t, 3)
	th.crash("m-0")
	th.run(50 * time.Millisecond)
	th.boot("m-0")
	th.until("m-1 serves", time.Second, func() bool { return th.serving("m-1", 2) })
	th.until("m-0 has copied", time.Second, func() bool { return th.members["m-0"].obs.Engine.LinkUp })
	th.run(200 * time.Millisecond)
	th.crash("m-1")
	took := th.until("m-0 serves", 5*time.Second, func() bool { return th.serving("m-0", 3) })
	if took > 50*time.Millisecond {
		t.Errorf("took %s, want no wait", took)
	}
}

func TestLaterBoot(t *testing.T) {
	run := func(uid, boot string) Run { return Run{Member: "m", PodUID: uid, BootID: boot} }
	for _, c := range []struct {
		later, earlier Run
		want           bool
	}{
		{run("u", BootID(2, "x")), run("u", BootID(1, "y")), true},
		{run("u", BootID(10, "x")), run("u", BootID(9, "y")), true},
		{run("u", BootID(1, "x")), run("u", BootID(2, "y")), false},
		{run("u", BootID(1, "x")), run("u", BootID(1, "y")), false},
		{run("v", BootID(2, "x")), run("u", BootID(1, "y")), false},
		{run("u", "x"), run("u", "y"), false},
		{run("u", BootID(2, "x")), run("u", "y"), false},
	} {
		if got := c.later.LaterThan(c.earlier); got != c.want {
			t.Errorf("%v later than %v: %t, want %t", c.later, c.earlier, got, c.want)
		}
	}
}

func TestSuspicionHasABeginning(t *testing.T) {
	th := curtain(t, 3)
	th.isolate("m-0")
	th.run(time.Second)
	o := th.members["m-1"].obs
	o.Attempt = nil
	at, ok := reasonToStand(th.now, o, &Decision{})
	if again, _ := reasonToStand(th.now.Add(5*time.Millisecond), o, &Decision{}); !ok || at != again || at >= th.now {
		t.Errorf("suspected since %d, asked later since %d (now %d); want one instant in the past", at, again, th.now)
	}
}

// Whoever wins must still have the data it won for: an engine that crashed between the grant and the opening comes back
// empty, and the others would erase themselves following it.
func TestWinnerThatLostItsDataGivesUp(t *testing.T) {
	th := curtain(t, 3)
	th.members["m-1"].dead[Open] = true
	th.engineDies("m-0")
	th.until("m-1 is granted epoch 2", time.Second, func() bool { return th.lease.Epoch == 2 })
	e := &th.members["m-1"].obs.Engine
	e.Position, e.Data = Position{}, false
	th.members["m-1"].dead[Open] = false
	th.until("m-2 serves", 2*time.Second, func() bool { return th.serving("m-2", 3) })
	if len(th.members["m-1"].wrote) != 0 {
		t.Error("m-1 opened without the data")
	}
}

// A jump of the clock stops the tenure it happened in and no later one.
func TestClockJumpIsForgottenWithTheTenure(t *testing.T) {
	th := curtain(t, 3)
	for _, a := range th.members {
		a.obs.ClockJumped = true
	}
	th.until("somebody serves epoch 2", 2*time.Second, func() bool { return th.serving("m-1", 2) || th.serving("m-2", 2) })
	th.run(time.Second)
	if th.lease.Epoch != 2 {
		t.Errorf("epoch %d: the jump outlived its tenure", th.lease.Epoch)
	}
}

// A grant whose fate nobody reports does not hold the member up for ever.
func TestLostGrantIsGivenUp(t *testing.T) {
	th := curtain(t, 3)
	th.members["m-1"].dead[Grant] = true
	th.engineDies("m-0")
	th.until("m-1 asks for the grant", time.Second, func() bool { a := th.members["m-1"].obs.Attempt; return a != nil && a.Phase == PhasePromise })
	th.members["m-1"].obs.NextPhase(th.now, PhaseGranting)
	th.run(2 * grantTimeout)
	if a := th.members["m-1"].obs.Attempt; a != nil && a.Phase == PhaseGranting {
		t.Error("it still waits for an answer that will not come")
	}
}

// A holder that hears of its successor answers it only after its own engine is dead.
func TestSupersededHolderAnswersAfterItsFence(t *testing.T) {
	th := curtain(t, 3)
	o := th.members["m-0"].obs
	v := o.OnHeartbeat(th.now, Heartbeat{From: th.members["m-1"].obs.Self, To: o.Self, Epoch: 2, Sent: th.now})
	if v.Refused == "" || v.Tell {
		t.Errorf("verdict %+v, want silence until it has released epoch 1", v)
	}
	th.until("m-0 stops", 50*time.Millisecond, func() bool { return o.Tenure == nil })
}

// A candidate that knows it is behind waits for the others longer than one that has all it heard of.
func TestCandidateThatIsBehindWaitsForABetterOne(t *testing.T) {
	th := curtain(t, 3)
	for _, m := range []string{"m-1", "m-2"} {
		th.members[m].obs.Heard.Position.Offset = 500
	}
	th.members["m-2"].obs.Engine.Position.Offset = 500
	th.slow["m-2"] = 40 * time.Millisecond // its answers, longer than a majority waits otherwise
	th.engineDies("m-0")
	th.until("m-2 serves", 2*time.Second, func() bool { return th.serving("m-2", 2) })
	if len(th.members["m-1"].wrote) != 0 {
		t.Error("m-1 took over although m-2 had more")
	}
}

// A replica that is further behind than the policy allows does not take over, though it is the only one left: unless it has caught up, or
// a person changes maxLagBytes, there are no writes.
func TestLaggingReplicaIsNoCandidate(t *testing.T) {
	th := curtain(t, 3)
	th.members["m-0"].obs.Engine.Position.Offset = 10 << 20
	th.run(500 * time.Millisecond) // heartbeats tell the others
	for _, m := range []string{"m-1", "m-2"} {
		th.members[m].obs.Engine.Position.Offset = 1 << 20
	}
	th.engineDies("m-0")
	th.run(5 * time.Second)
	if th.lease.Epoch != 1 {
		t.Fatalf("%s took over, 9 MiB behind where 1 is allowed", th.lease.Holder.Member)
	}
	if v := Verdict(th.now, th.members["m-1"].obs); v.Guard != "Lagging" {
		t.Errorf("m-1 is refused by %s: %s", v.Guard, v.Message)
	}
	th.swap(func(l *Lease) { l.Terms.MaxLagBytes = 20 << 20 })
	th.until("a replica takes over when the policy allows more", 5*time.Second, func() bool { return th.lease.Epoch == 2 })
}
