package failover

import (
	"testing"
	"time"
)

// stopping is a service whose primary said that it fences itself, and takes long to do so.
func stopping(t *testing.T, change func(*Terms)) *theatre {
	th := curtain(t, 3)
	th.swap(func(l *Lease) { change(&l.Terms) })
	for name, a := range th.members {
		a.obs.Engine.DataID, a.obs.Engine.Persistent = "d"+name[2:], true
		a.obs.Engine.Position = Position{DataEpoch: 1, Offset: 100, Whole: name == "m-0"}
	}
	th.run(300 * time.Millisecond)
	old := th.members["m-0"]
	old.dead[Fence] = true
	th.engineDies("m-0")
	word := Stopping{Run: old.obs.Self, Epoch: 1}
	// The one that hears it alone asks the other, and tells it.
	th.send(old, "m-1", func(b *actor) { b.obs.OnStopping(th.now, word) })
	return th
}

// While a primary ends, the others promise; the grant waits for its Released, which is evidence, as its announcement is not.
func TestPromisesAreMadeWhileThePrimaryEnds(t *testing.T) {
	th := stopping(t, func(*Terms) {})
	th.until("both have promised epoch 2", 20*time.Millisecond, func() bool {
		return th.members["m-1"].disk.Promise == 2 && th.members["m-2"].disk.Promise == 2
	})
	th.run(100 * time.Millisecond)
	if th.lease.Epoch != 1 {
		t.Fatalf("epoch %d was granted while the old primary may still write", th.lease.Epoch)
	}
	th.fence(th.members["m-0"], "")
	if took := th.until("m-1 serves", time.Second, func() bool { return th.serving("m-1", 2) }); took > 20*time.Millisecond {
		t.Errorf("it served %s after Released, with the promises made before", took)
	}
	if got := th.members["m-1"].obs.Tenure.Won.Evidence; got != Released {
		t.Errorf("evidence = %s, want Released", got)
	}
}

// A primary that goes on when isolated is proven gone by its word alone: that is waited for, and not for ever.
func TestReleasedIsWaitedFor(t *testing.T) {
	th := stopping(t, func(t *Terms) { t.Partition = PreferAvailability })
	th.run(500 * time.Millisecond)
	if a := th.members["m-1"].obs.Attempt; th.lease.Epoch != 1 || a == nil || a.Phase != PhasePromise {
		t.Fatalf("epoch %d, attempt %+v, want one that waits for Released", th.lease.Epoch, a)
	}
	th.until("it is given up", 3*time.Second, func() bool { return th.members["m-1"].obs.Attempt == nil })
	th.fence(th.members["m-0"], "")
	th.until("somebody serves", 3*time.Second, func() bool { return th.serving(th.lease.Holder.Member, 2) })
}

// Where every write waits for the quorum and that is cut, nothing more is waited for.
func TestCutQuorumWaitsForNoReleased(t *testing.T) {
	th := stopping(t, func(t *Terms) {
		t.Quorum, t.EveryWaits, t.Opened = 1, true, 1
		t.Sets = []SyncSet{{Epoch: 1, Primary: "m-0", PrimaryData: "d0", Replicas: map[string]string{"m-1": "d1", "m-2": "d2"}, Quorum: 1}}
	})
	th.members["m-0"].obs.Engine.Writable = false // what it would still write, nobody confirms
	th.until("somebody serves", 30*time.Millisecond, func() bool { return th.serving("m-1", 2) || th.serving("m-2", 2) })
}

// What a run said of an epoch says nothing of its next one, nor of another run's.
func TestStoppingIsOfOneEpoch(t *testing.T) {
	th := curtain(t, 3)
	b, old := th.members["m-1"], th.members["m-0"].obs.Self
	b.obs.OnStopping(th.now, Stopping{Run: old, Epoch: 7})
	b.obs.OnStopping(th.now, Stopping{Run: th.members["m-2"].obs.Self, Epoch: 1})
	if b.obs.Stopping != nil {
		t.Fatalf("it believes %+v, epoch 1 being m-0's", b.obs.Stopping)
	}
	b.obs.OnStopping(th.now, Stopping{Run: old, Epoch: 1})
	th.swap(func(l *Lease) { l.Epoch = 2 })
	th.run(5 * time.Millisecond)
	if b.obs.Stopping != nil {
		t.Errorf("it still believes %+v in epoch 2", b.obs.Stopping)
	}
}
