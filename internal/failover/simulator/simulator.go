// Package simulator plays whole services on virtual time: several members, each the agent that ships with its loop, its
// rules and its executor; an API server with a Lease, watches and slices; an operator, or two; engines that replicate and
// clients that write. A seed draws a schedule of faults, and the invariants of the design are checked after every event.
// A seed always gives the same story.
package simulator

import (
	"fmt"
	"math/rand/v2"
	"time"

	"understudy.dev/understudy/internal/failover"
)

// Config is what a run is made of.
type Config struct {
	Seed    uint64
	Members int
	// Quorum is W; 0: asynchronous replication.
	Quorum int
	// EveryWaits: no write is acknowledged before the quorum has it, so QuorumCut is evidence.
	EveryWaits bool
	// Modes: the service becomes asynchronous on the way, and synchronous again. Continues: writes go on with fewer replicas than the quorum.
	Modes, Continues bool
	// Persistent engines keep their data over a restart.
	Persistent bool
	// Scaling changes the number of members on the way.
	Scaling bool
	// Available is the partition choice PreferAvailability.
	Available bool
	// Faults are made until Busy is over; the service then has Quiet to become healthy again.
	Busy, Quiet time.Duration
	// Without switches safety rules off.
	Without failover.Rule
	// Only limits the kinds of faults; empty: all.
	Only []string
	// Story keeps what happened, for people.
	Story bool
}

// Result is what came of a run.
type Result struct {
	Events   int
	Grants   int // epochs granted, the first one included
	Writes   int
	Lost     int    // acknowledged writes that an asynchronous failover lost
	Broken   string // the first invariant that was broken, or nothing
	Detail   string
	Story    []string
	Stalled  bool // no primary at the end, and too many volumes were lost for one: that is as it must be
	Coverage map[string]int
}

// ms is one virtual millisecond.
const ms = int64(time.Millisecond)

type event struct {
	at  int64
	seq int64
	f   func()
}

type sim struct {
	cfg   Config
	rng   *rand.Rand
	now   int64
	seq   int64
	heap  []event
	res   Result
	quiet bool

	members []*member
	net     network
	api     api
	ops     []*operator
	writes  ledger
	ids     int
	undo    []func()
	zombies []*life // of pods that were deleted while their node was cut off
	taken   [places]bool
	lies    map[[2]int]int // observer and observed, by place
	// limit is when the schedule ends.
	limit int64
	// otherLease: the policy asks for another lease duration.
	otherLease bool
	// promised are the epochs of which the Lease had a set since it was asynchronous last.
	promised map[failover.Epoch]bool
	// asynchronous: the spec asks for no quorum for the time being.
	asynchronous bool
}

// Run plays one schedule.
func Run(cfg Config) (result Result) {
	s := &sim{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x9e3779b97f4a7c15)), now: int64(time.Hour), lies: map[[2]int]int{}, promised: map[failover.Epoch]bool{}}
	s.res.Coverage = map[string]int{}
	defer func() {
		if r := recover(); r != nil {
			s.broke("panic", "%v", r)
			panic(fmt.Sprintf("seed %d: %v\n%s", cfg.Seed, r, s.lastLines(60)))
		}
	}()
	s.setUp()
	end := s.now + int64(cfg.Busy)
	s.at(s.now+1500*ms, func() { s.nextFault(end) })
	if s.cfg.Modes {
		s.at(s.now+1500*ms, func() { s.nextMode(end) })
	}
	s.at(end, s.heal)
	s.limit = end + int64(cfg.Quiet)
	for len(s.heap) > 0 && s.res.Broken == "" {
		e := s.pop()
		if e.at > s.limit {
			break
		}
		s.now = e.at
		s.res.Events++
		e.f()
		s.check()
	}
	if s.res.Broken == "" {
		s.checkEnd()
	}
	s.res.Writes = len(s.writes.all)
	return s.res
}

func (s *sim) at(at int64, f func()) {
	s.seq++
	s.push(event{at, s.seq, f})
}

func (s *sim) after(d int64, f func()) { s.at(s.now+d, f) }

func (s *sim) push(e event) {
	s.heap = append(s.heap, e)
	i := len(s.heap) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !s.heap[i].before(s.heap[parent]) {
			break
		}
		s.heap[i], s.heap[parent] = s.heap[parent], s.heap[i]
		i = parent
	}
}

func (e event) before(o event) bool { return e.at < o.at || (e.at == o.at && e.seq < o.seq) }

func (s *sim) pop() event {
	top := s.heap[0]
	last := len(s.heap) - 1
	s.heap[0] = s.heap[last]
	s.heap[last] = event{}
	s.heap = s.heap[:last]
	for i := 0; ; {
		least := i
		for _, c := range []int{2*i + 1, 2*i + 2} {
			if c < last && s.heap[c].before(s.heap[least]) {
				least = c
			}
		}
		if least == i {
			return top
		}
		s.heap[i], s.heap[least] = s.heap[least], s.heap[i]
		i = least
	}
}

// between draws a duration in milliseconds.
func (s *sim) between(low, high float64) int64 {
	return int64((low + s.rng.Float64()*(high-low)) * float64(ms))
}

func (s *sim) chance(p float64) bool { return s.rng.Float64() < p }

// nextID makes ids that no run of this seed ever repeats.
func (s *sim) nextID(prefix string) string {
	s.ids++
	return fmt.Sprintf("%s%d", prefix, s.ids)
}

func (s *sim) note(who, format string, args ...any) {
	if s.cfg.Story {
		s.res.Story = append(s.res.Story, fmt.Sprintf("%9.4f %-4s ", float64(s.now-int64(time.Hour))/1e9, who)+fmt.Sprintf(format, args...))
	}
}

func (s *sim) lastLines(n int) string {
	from := max(0, len(s.res.Story)-n)
	out := ""
	for _, l := range s.res.Story[from:] {
		out += l + "\n"
	}
	return out
}

// broke ends the run at its first broken invariant.
func (s *sim) broke(invariant, format string, args ...any) {
	if s.res.Broken != "" {
		return
	}
	s.res.Broken, s.res.Detail = invariant, fmt.Sprintf(format, args...)
	s.note("", "BROKEN %s: %s", invariant, s.res.Detail)
}

func (s *sim) setUp() {
	n := s.cfg.Members
	if s.cfg.Scaling {
		n = 5
	}
	s.net.s = s
	for i := range n {
		m := &member{s: s, index: i, name: fmt.Sprintf("m-%d", i), wanted: i < s.cfg.Members, volume: &volume{}}
		m.node = s.newNode(i)
		s.members = append(s.members, m)
	}
	s.api.s = s
	s.ops = []*operator{newOperator(s, 0), newOperator(s, 1)}
	s.ops[1].up = false // the second one waits for its election, until a fault doubles it
	for _, m := range s.members {
		if m.wanted {
			m.makePod()
		}
	}
	s.every(20, 40, s.clientsWrite)
}

func (s *sim) newNode(place int) *node {
	return &node{on: true, rate: 1 + (s.rng.Float64()-0.5)/100, base: s.rng.Int64N(int64(time.Hour)), place: place}
}

// every calls f again and again, a random time between low and high milliseconds apart.
func (s *sim) every(low, high float64, f func()) {
	s.after(s.between(low, high), func() {
		f()
		s.every(low, high, f)
	})
}

func (s *sim) terms() failover.Terms {
	t := failover.Terms{LeaseMillis: 1000, WaitMillis: 1000, HeartbeatMillis: 100, SuspectMillis: 300, EngineTimeoutMillis: 500,
		Partition: failover.PreferConsistency, Mode: failover.ModeAutomatic, MaxLagBytes: 1 << 30, Quorum: s.cfg.Quorum, OnTooFew: failover.StopWriting,
		EveryWaits: s.cfg.EveryWaits,
		Accepted: []failover.EvidenceKind{failover.ContainerTerminated, failover.LeaseExpired, failover.NodeOutOfService, failover.ProcessGone,
			failover.QuorumCut, failover.Released}}
	if s.cfg.Available {
		t.Partition = failover.PreferAvailability
	}
	if s.cfg.Continues {
		t.OnTooFew = failover.ContinueWriting
	}
	if s.asynchronous {
		t.Quorum, t.EveryWaits = 0, false
	}
	if t.Quorum == 0 {
		t.OnTooFew = ""
	}
	if s.cfg.Seed%4 == 1 {
		t.Turns, t.TurnsIn = 1, "failovers" // a failover that waits for its turn is still one
	}
	n := 0
	for _, m := range s.members {
		if m.wanted {
			n++
		}
	}
	for _, m := range s.members {
		if m.wanted {
			t.Members = append(t.Members, failover.MemberEntry{Name: m.name, Voter: n < 4 || n%2 == 1 || len(t.Members) < n-1})
		}
	}
	return t
}
