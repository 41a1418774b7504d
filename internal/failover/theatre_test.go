package failover

import (
	"fmt"
	"testing"
	"time"
)

// theatre plays several members on virtual time with the code that ships: Decide and the rules of Observation. Messages
// arrive after one millisecond, disks and engines are instant. It is small on purpose: a test reads as a story.
type theatre struct {
	t       *testing.T
	now     Instant
	members map[string]*actor
	lease   Lease
	api     bool // the API server answers
	queue   []event
	version int
	cut     map[[2]string]bool       // from → to
	slow    map[string]time.Duration // what a member sends takes so much longer
	log     []string
	without Rule                 // switched off for all of them
	ended   int                  // turns that came to nothing
	turn    func(leave int) bool // says whether a service that asks has its turn; nil: nobody answers
	// counting: two writers at once are counted in two and do not end the test.
	counting bool
	two      int
}

type event struct {
	at Instant
	do func()
}

type actor struct {
	name    string
	obs     *Observation
	alive   bool
	policy  Policy
	disk    Durable
	dead    map[ActionKind]bool // actions this actor does not carry out
	boots   int
	ids     int64
	offset  int64
	wrote   []Epoch // epochs in which it acknowledged writes
	opened  Instant
	guardAt Instant
	asked   []int // turns that it left free, each time it asked for one
}

func testTerms(n int) Terms {
	t := Terms{LeaseMillis: 3000, WaitMillis: 3000, HeartbeatMillis: 100, SuspectMillis: 800, EngineTimeoutMillis: 1000,
		Partition: PreferConsistency, Mode: ModeAutomatic, MaxLagBytes: 1 << 20,
		Accepted: []EvidenceKind{Released, ProcessGone, ContainerTerminated, QuorumCut, LeaseExpired}}
	for i := range n {
		t.Members = append(t.Members, MemberEntry{Name: fmt.Sprintf("m-%d", i), Voter: true})
	}
	return t
}

func newTheatre(t *testing.T, n int) *theatre {
	th := &theatre{t: t, now: 1_000_000_000, members: map[string]*actor{}, api: true, cut: map[[2]string]bool{}, slow: map[string]time.Duration{}}
	th.lease = Lease{Version: "1", Terms: testTerms(n)}
	th.version = 1
	for i := range n {
		name := fmt.Sprintf("m-%d", i)
		th.members[name] = &actor{name: name, disk: Durable{PodUID: "pod-" + name, Forgotten: true}, dead: map[ActionKind]bool{}}
		th.boot(name)
	}
	return th
}

// lacking switches a rule off for all members from now on.
func (th *theatre) lacking(r Rule) *theatre {
	th.without = r
	for _, a := range th.members {
		a.obs.Without = r
	}
	return th
}

// curtain is a theatre whose first member serves epoch 1 and is followed by the others.
func curtain(t *testing.T, n int) *theatre {
	th := newTheatre(t, n)
	th.run(50 * time.Millisecond)
	th.swap(func(l *Lease) { l.Epoch, l.Holder = 1, th.members["m-0"].obs.Self })
	th.until("m-0 serves", time.Second, func() bool { return th.serving("m-0", 1) })
	th.run(300 * time.Millisecond)
	return th
}

func (th *theatre) boot(name string) {
	a := th.members[name]
	a.boots++
	a.alive = true
	self := Run{Member: name, PodUID: a.disk.PodUID, BootID: BootID(int64(a.boots), "x")}
	ord := int(name[len(name)-1] - '0')
	a.obs = NewObservation(self, ord, th.now, a.disk)
	a.obs.Engine = Engine{State: EngineStopped, Data: true}
	a.obs.Without = th.without
	th.leaseTo(a, true)
	for _, b := range th.members {
		if b != a && b.alive && b.obs != nil {
			th.connect(a, b)
		}
	}
}

func (th *theatre) connect(a, b *actor) {
	for _, p := range [][2]*actor{{a, b}, {b, a}} {
		p[0].obs.OnConnected(p[1].obs.Self)
		p[0].obs.OnConnected(p[1].obs.Self)
	}
}

// crash ends a member's container: its peers see the end of file and then a refused port.
func (th *theatre) crash(name string) {
	a := th.members[name]
	run := a.obs.Self
	a.alive = false
	for _, b := range th.members {
		if b != a && b.alive {
			th.after(time.Millisecond, func() {
				b.obs.OnDisconnected(run)
				b.obs.OnDisconnected(run)
				b.obs.OnProof(th.now, Evidence{Kind: ProcessGone, Run: run})
			})
		}
	}
}

// engineDies ends a member's engine only: its agent fences and says Released.
func (th *theatre) engineDies(name string) {
	a := th.members[name]
	a.obs.Engine.State = EngineStopped
}

func (th *theatre) isolate(name string) {
	for other := range th.members {
		th.cut[[2]string{name, other}], th.cut[[2]string{other, name}] = true, true
	}
}

func (th *theatre) after(d time.Duration, f func()) {
	th.queue = append(th.queue, event{th.now.Add(d), f})
}

func (th *theatre) send(from *actor, to string, deliver func(b *actor)) {
	if th.cut[[2]string{from.name, to}] {
		return
	}
	th.after(time.Millisecond+th.slow[from.name], func() {
		if b := th.members[to]; b != nil && b.alive {
			deliver(b)
		}
	})
}

func (th *theatre) leaseTo(a *actor, quorum bool) {
	if th.api && !th.cut[[2]string{"api", a.name}] {
		a.obs.OnLease(th.now, th.lease, quorum)
	}
}

func (th *theatre) swap(f func(*Lease)) {
	f(&th.lease)
	th.version++
	th.lease.Version = fmt.Sprint(th.version)
	for _, a := range th.members {
		if a.alive {
			th.after(2*time.Millisecond, func() { th.leaseTo(a, false) })
		}
	}
}

func (th *theatre) run(d time.Duration) {
	for end := th.now.Add(d); th.now < end; th.now = th.now.Add(time.Millisecond) {
		th.tick()
	}
}

func (th *theatre) until(what string, limit time.Duration, ok func() bool) time.Duration {
	th.t.Helper()
	from := th.now
	for !ok() {
		if th.now.Sub(from) > limit {
			for _, l := range th.log {
				th.t.Log(l)
			}
			th.t.Fatalf("%s did not happen within %s", what, limit)
		}
		th.now = th.now.Add(time.Millisecond)
		th.tick()
	}
	return th.now.Sub(from)
}

func (th *theatre) tick() {
	due, rest := []event{}, []event{}
	for _, e := range th.queue {
		if e.at <= th.now {
			due = append(due, e)
		} else {
			rest = append(rest, e)
		}
	}
	th.queue = rest
	for _, e := range due {
		e.do()
	}
	for i := range len(th.members) {
		if a := th.members[fmt.Sprintf("m-%d", i)]; a != nil && a.alive {
			th.act(a)
		}
	}
	th.checkOneWriter()
}

// checkOneWriter is invariant I1 at this instant: at most one engine may write.
func (th *theatre) checkOneWriter() {
	var writers []string
	for _, a := range th.members {
		if a.guardAt > 0 && th.now >= a.guardAt { // the guard kills whatever the agent does
			a.guardAt = 0
			a.obs.Engine.State = EngineStopped
			a.obs.Engine.Writable = false
		}
		if a.alive && a.obs.Engine.Writable {
			writers = append(writers, a.name)
		}
	}
	if len(writers) > 1 && th.counting {
		th.two++
	} else if len(writers) > 1 {
		for _, l := range th.log {
			th.t.Log(l)
		}
		th.t.Fatalf("two writers at once: %v", writers)
	}
}

func (th *theatre) serving(name string, epoch Epoch) bool {
	o := th.members[name].obs
	return th.members[name].alive && o.Tenure != nil && o.Tenure.Opened && o.Tenure.Epoch == epoch
}

func (th *theatre) note(a *actor, format string, args ...any) {
	th.log = append(th.log, fmt.Sprintf("%8.3f %s ", float64(th.now)/1e9, a.name)+fmt.Sprintf(format, args...))
}
