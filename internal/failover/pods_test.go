package failover

import (
	"testing"
	"time"
)

// anew replaces a member's pod. Nobody is told that the one before ended.
func (th *theatre) anew(name string) {
	a := th.members[name]
	run := a.obs.Self
	for _, b := range th.members {
		if b != a && b.alive {
			b.obs.OnDisconnected(run)
			b.obs.OnDisconnected(run)
		}
	}
	a.disk = Durable{PodUID: a.disk.PodUID + "-anew", Forgotten: true}
	a.boots = 0
	th.boot(name)
}

func (th *theatre) named(name string) bool {
	return th.lease.PodOf(name) == th.members[name].obs.Self.PodUID
}

// A pod that was replaced gets its member's vote by the holder's write, and the service then survives the holder.
func TestVoteMovesToTheNewPod(t *testing.T) {
	th := curtain(t, 3)
	if !th.named("m-1") || !th.named("m-2") {
		t.Fatalf("the Lease names %+v, not the pods that answered the first holder", th.lease.Terms.Members)
	}
	th.anew("m-2")
	if th.named("m-2") {
		t.Fatal("the vote moved without a write")
	}
	th.until("the vote moves", 10*time.Second, func() bool { return th.named("m-2") })
	version := th.version
	th.run(5 * time.Second)
	if th.version != version {
		t.Errorf("%d more writes of the Lease while all is well", th.version-version)
	}
	th.crash("m-0")
	th.until("somebody takes over", 10*time.Second, func() bool { return th.lease.Epoch == 2 })
}

// While the pod that has the vote acknowledges, another pod of its name is left aside.
func TestVoteStaysWithThePodThatAnswers(t *testing.T) {
	th := curtain(t, 3)
	holder := th.members["m-0"].obs
	other := Run{Member: "m-2", PodUID: "another", BootID: "1.x"}
	for range 100 {
		th.run(50 * time.Millisecond)
		holder.OnAcknowledgement(th.now, Acknowledgement{From: other, To: holder.Self, Epoch: 1, Echo: th.now - 1, Sent: 1, Healthy: true})
		if c := holder.Tenure.Acks["m-2"]; c.Run == other {
			t.Fatal("the other pod's word took the place of the one that has the vote")
		}
	}
	if !th.named("m-2") {
		t.Errorf("the vote moved to %s", th.lease.PodOf("m-2"))
	}
}

// A service of which every pod was made anew, without anybody who saw the old ones end, begins when all answer.
func TestWholeServiceMadeAnew(t *testing.T) {
	th := curtain(t, 3)
	for _, m := range []string{"m-0", "m-1", "m-2"} {
		th.members[m].alive = false
	}
	th.anew("m-0")
	th.anew("m-1")
	th.run(20 * time.Second)
	if th.lease.Epoch != 1 {
		t.Fatal("two of three took over, although the third and one of the old pods may be a majority")
	}
	th.anew("m-2")
	th.until("somebody takes over", 20*time.Second, func() bool { return th.lease.Epoch == 2 })
}

// The new pod of a silent holder's name has no vote against it until something proves that the old one ended.
func TestNewPodOfTheHolder(t *testing.T) {
	th := curtain(t, 3)
	old := th.members["m-0"].obs.Self
	th.members["m-2"].alive = false
	th.anew("m-0")
	th.run(20 * time.Second)
	if th.lease.Epoch != 1 {
		t.Fatal("m-1 took over with the vote of the new pod of the holder's own name")
	}
	th.members["m-1"].obs.OnProof(th.now, Evidence{Kind: ContainerTerminated, Run: old})
	th.until("m-1 takes over", 5*time.Second, func() bool { return th.lease.Epoch == 2 })
}

func TestOutvotes(t *testing.T) {
	for _, c := range []struct {
		members int
		votes   string // s sure, d doubtful, - none; the last of two members' is the API server's
		want    bool
	}{
		{3, "ss-", true}, {3, "sd-", false}, {3, "sds", true}, {3, "ddd", true}, {3, "s--", false}, {3, "dd-", false},
		{2, "s-s", true}, {2, "d-s", false}, {2, "dss", true}, {2, "ds-", false},
		{1, "s", true}, {1, "d", false},
		{5, "sss--", true}, {5, "ssd--", false}, {5, "ssdd-", true}, {5, "dddd-", true}, {5, "ddd--", false},
	} {
		terms := testTerms(c.members)
		got := terms.outvotes(func(m string) ballot {
			i := len(c.votes) - 1
			if m != APIServer {
				i = int(m[len(m)-1] - '0')
			}
			return map[byte]ballot{'s': sure, 'd': doubtful, '-': noVote}[c.votes[i]]
		})
		if got != c.want {
			t.Errorf("%d members, votes %s: outvoted %t, want %t", c.members, c.votes, got, c.want)
		}
	}
}

// Of a holder that is proven to have ended nobody's second vote makes a writer, so any pod's vote counts.
func TestNewPodVotesAgainstADeadHolder(t *testing.T) {
	th := curtain(t, 3)
	th.anew("m-2")
	th.run(time.Second)
	if th.named("m-2") {
		t.Fatal("the vote moved before the pod may vote: the test shows nothing")
	}
	th.crash("m-0")
	th.until("somebody takes over", 10*time.Second, func() bool { return th.lease.Epoch == 2 })
}

// What the operator told one member alone reaches the one that may win with that member's requests.
func TestProofTravelsWithRequests(t *testing.T) {
	th := curtain(t, 3)
	from, to := th.members["m-1"].obs, th.members["m-2"].obs
	proof := Evidence{Kind: ContainerTerminated, Run: th.lease.Holder}
	from.OnProof(th.now, proof)
	from.OnProof(th.now, Evidence{Kind: ProcessGone, Run: th.lease.Holder})
	from.Begin(th.now, 1, th.now)
	to.OnPreVote(th.now, from.Request(th.now, to.Self))
	if kind, ok := to.noWait(th.now, th.lease.Holder, 1); !ok || kind != ContainerTerminated {
		t.Errorf("m-2 has evidence %q, %t", kind, ok)
	}
	if _, told := to.Proofs, len(to.Proofs) > 1; told {
		t.Error("what m-1 saw of the network is taken for what m-2 saw")
	}
}
