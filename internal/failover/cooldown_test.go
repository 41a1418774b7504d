package failover

import (
	"testing"
	"time"
)

// cooling is a service whose second member took over a moment ago by itself, under a cooldown of a minute.
func cooling(t *testing.T) *theatre {
	th := curtain(t, 3)
	th.swap(func(l *Lease) { l.Terms.CooldownMillis = 60_000 })
	th.run(100 * time.Millisecond)
	th.crash("m-0")
	th.until("m-1 serves", time.Second, func() bool { return th.serving("m-1", 2) })
	th.boot("m-0")
	th.run(2 * time.Second)
	if got := th.lease.Terms.Unasked; got != 2 {
		t.Fatalf("the Lease says that epoch %d began by itself, want 2", got)
	}
	return th
}

func served(th *theatre) string {
	for name := range th.members {
		if th.serving(name, th.lease.Epoch) {
			return name
		}
	}
	return ""
}

// In the cooldown after a failover nobody takes over by itself; afterwards somebody does.
func TestCooldown(t *testing.T) {
	th := cooling(t)
	th.crash("m-1")
	th.run(55 * time.Second)
	if th.lease.Epoch != 2 {
		t.Fatalf("epoch %d was granted to %s in the cooldown", th.lease.Epoch, th.lease.Holder.Member)
	}
	th.until("somebody takes over when it is over", 10*time.Second, func() bool { return served(th) != "" })
}

// Who holds the epoch may come back in the cooldown: the members are the same.
func TestCooldownLetsThePrimaryComeBack(t *testing.T) {
	th := cooling(t)
	th.crash("m-1")
	th.boot("m-1")
	th.run(300 * time.Millisecond)
	for name, want := range map[string]bool{"m-0": true, "m-1": false, "m-2": true} {
		if cools := th.members[name].obs.coolsFor(th.now) > 0; cools != want {
			t.Errorf("%s is kept back: %t, want %t", name, cools, want)
		}
	}
}

// Nor does its return end the pause, and an epoch that begins with another member from a calm one has a pause of its own.
func TestReturningEndsNoCooldown(t *testing.T) {
	th := cooling(t)
	for _, c := range []struct {
		from          string
		unasked, want Epoch
	}{{"m-1", 2, 3}, {"m-1", 1, 1}, {"m-0", 1, 3}, {"m-0", 2, 3}} {
		o := th.members["m-1"].obs
		o.Lease.Terms.Unasked = c.unasked
		a := &Attempt{Epoch: 3, Holder: Run{Member: c.from}, Promises: map[string]Arrived{}}
		if got := o.GrantTerms(th.now, a).Unasked; got != c.want {
			t.Errorf("from %s, with epoch %d unasked for: %d, want %d", c.from, c.unasked, got, c.want)
		}
	}
}

// What somebody asks for is no failover by itself: it happens in the cooldown, ends it, and begins none.
func TestCooldownIsNotForHandovers(t *testing.T) {
	th := cooling(t)
	th.fence(th.members["m-1"], "m-2")
	th.until("m-2 serves", time.Second, func() bool { return th.serving("m-2", 3) })
	if got := th.lease.Terms.Unasked; got == 3 {
		t.Error("a handover counts as a failover by itself")
	}
	th.run(time.Second)
	th.crash("m-2")
	th.until("somebody takes over at once", 5*time.Second, func() bool { return served(th) != "" })
}

// A person, or the operator for one, ends it.
func TestCooldownEndsWhenItIsAcknowledged(t *testing.T) {
	th := cooling(t)
	th.crash("m-1")
	th.run(5 * time.Second)
	th.swap(func(l *Lease) { l.Terms.CooldownMillis = 0 })
	th.until("somebody takes over", 5*time.Second, func() bool { return served(th) != "" })
}
