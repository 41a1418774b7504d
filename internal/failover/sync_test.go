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
