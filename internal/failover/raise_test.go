package failover

import (
	"testing"
	"time"
)

// primaryOf serves epoch 3 of a service, with sets of its own in the Lease, and has heard of nobody.
func primaryOf(members, quorum int, sets ...SyncSet) *Observation {
	o := NewObservation(Run{Member: "m-0", PodUID: "u", BootID: "b"}, 0, 0, Durable{PodUID: "u"})
	terms := testTerms(members)
	for i := range sets {
		sets[i].Epoch, sets[i].Primary, sets[i].PrimaryData = 3, "m-0", "d0"
	}
	terms.Quorum, terms.Opened, terms.Sets = quorum, 3, sets
	o.Lease = Lease{Epoch: 3, Holder: o.Self, Terms: terms}
	o.Tenure = newTenure(0, 3)
	o.Tenure.Opened = true
	o.Engine = Engine{State: EngineRunning, Writable: true, DataID: "d0", Quorum: quorum, Position: Position{DataEpoch: 3, Offset: 100}}
	return o
}

// heard is an acknowledgement of m-1.
func (o *Observation) heard(at Instant, pod, data string, offset int64) {
	o.Engine.At = at
	o.OnAcknowledgement(at, Acknowledgement{From: Run{Member: "m-1", PodUID: pod, BootID: "b"}, To: o.Self, Epoch: 3, Echo: 1, DataID: data, Healthy: true,
		Position: Position{DataEpoch: 3, Offset: offset}})
}

func (o *Observation) wantedSet() SyncSet { return o.setWanted(Instant(time.Hour), o.Lease.Terms)[0] }

// While writes were confirmed by nobody, or by fewer, only those who cannot be passed over have them. The Lease says that more confirm each write only when as many
// have what was acknowledged before that was so.
func TestRaisedQuorumWaitsForWhatWasAcknowledgedBefore(t *testing.T) {
	o := primaryOf(3, 1, SyncSet{Replicas: map[string]string{"m-1": "d1", "m-2": "d2"}})
	o.Engine.QuorumAt = 10
	for _, c := range []struct {
		at     Instant
		data   string
		offset int64
		want   int
		why    string
	}{
		{9, "d1", 100, 0, "the engine has not confirmed yet that each write waits"},
		{11, "d1", 99, 0, "it lacks the end of what was acknowledged before"},
		{12, "other", 100, 0, "it has not the data that the Lease names"},
		{13, "d1", 100, 1, "it has all that was acknowledged before"},
	} {
		if o.heard(c.at, "u", c.data, c.offset); o.wantedSet().Quorum != c.want {
			t.Errorf("W is to be %d, want %d: %s", o.wantedSet().Quorum, c.want, c.why)
		}
	}
	o.Engine.QuorumAt, o.Engine.Position.Offset = 20, 200 // told anew
	if o.wantedSet().Quorum != 0 {
		t.Error("what was seen before the engine was told anew counts, until somebody is heard")
	}
	if o.heard(21, "u", "d1", 150); o.wantedSet().Quorum != 0 {
		t.Error("what was acknowledged before the engine was told anew does not count")
	}
}

// A member's new pod has caught up. As long as the engine may take the old pod's word the Lease names the old pod's data.
func TestIdentityStaysWhileTheEngineCountsAnotherPod(t *testing.T) {
	o := primaryOf(3, 1, SyncSet{Replicas: map[string]string{"m-1": "d1", "m-2": "d2"}})
	o.heard(1, "new", "anew", 0)
	o.heard(2, "new", "anew", 100)
	o.heard(3, "new", "anew", 100)
	for pods, want := range map[string]string{"old": "d1", "new": "anew"} {
		o.Engine.Counts = map[string][]string{"m-1": {pods}}
		if got := o.wantedSet().Replicas["m-1"]; got != want {
			t.Errorf("the engine counts pod %s, and the Lease is to name %q, want %q", pods, got, want)
		}
	}
}

// A Lease is made anew by what its holder last said, and that may have let clients go with fewer replicas since.
func TestRestoredLeaseTakesNoReplicasWord(t *testing.T) {
	for serving, want := range map[bool]int{true: 0, false: 1} {
		o := primaryOf(3, 1, SyncSet{Replicas: map[string]string{"m-1": "d1", "m-2": "d2"}, Quorum: 1})
		view := OperatorView{Known: 3, Sure: true, Reports: map[string]MemberReport{"m-0": {Run: o.Self, Epoch: 3, Lease: o.Lease, Serving: serving}, "m-1": {Epoch: 3}}}
		step := DecideLease(view)
		if step.Write == nil || !step.Create || step.Write.Terms.Set().Quorum != want {
			t.Errorf("serving %t: %+v, want a Lease that says that %d replicas confirm each write", serving, step.Write, want)
		}
		if o.Lease.Terms.Set().Quorum != 1 {
			t.Error("what the member reported was changed")
		}
	}
}
