package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
)

// stage is one agent whose disk, engine, API server and peers are the test's. Time is virtual, one thing happens at a time,
// and every call that leaves the agent hangs, fails or succeeds as the test says.
type stage struct {
	t       *testing.T
	a       *Agent
	now     failover.Instant
	due     failover.Instant // when the agent wants to run again
	timers  []timer
	events  []func()
	jobs    []*job
	running *job
	shut    map[string]bool  // calls that hang
	fails   map[string]error // calls that fail
	once    map[string]error // calls of which the next one fails
	journal []string         // all calls that returned and all frames that were sent, in order
	peers   map[string]*fakePeer
	engine  *fakeEngine
	guard   *fakeGuard
	api     *fakeAPI
	ids     int
}

type timer struct {
	at failover.Instant
	f  func()
}

// job is one piece of work beside the loop: a coroutine, so that it can stop in the middle of a call.
type job struct {
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	then  func()
}

func run(member string) failover.Run {
	return failover.Run{Member: member, PodUID: "uid-" + member, BootID: "1.x"}
}

var errDisk = errors.New("input/output error")

// newStage is a service of three whose epoch 1 holder holds; self's agent starts, is connected to the others, and reads that.
func newStage(t *testing.T, self, holder string, persistent bool) *stage {
	s := bareStage(t, self, holder, persistent)
	s.happens(func() { s.a.OnLease(s.api.lease, true) })
	return s
}

// bareStage is the same before the Lease is read, and before the agent has done anything.
func bareStage(t *testing.T, self, holder string, persistent bool) *stage {
	s := &stage{t: t, now: 1_000_000_000, shut: map[string]bool{}, fails: map[string]error{}, once: map[string]error{}, peers: map[string]*fakePeer{}}
	s.engine = &fakeEngine{s: s, persistent: persistent}
	s.guard = &fakeGuard{s: s}
	var members []failover.MemberEntry
	for _, m := range []string{"m-0", "m-1", "m-2"} {
		members = append(members, failover.MemberEntry{Name: m, Voter: true})
	}
	s.api = &fakeAPI{s: s, lease: failover.Lease{Version: "1", Epoch: 1, Holder: run(holder), Terms: failover.Terms{Members: members,
		LeaseMillis: 3000, WaitMillis: 3000, HeartbeatMillis: 100, SuspectMillis: 500, EngineTimeoutMillis: 1000, MaxLagBytes: 1000,
		Partition: failover.PreferConsistency, Mode: failover.ModeAutomatic, Accepted: []failover.EvidenceKind{failover.Released}}}}
	s.a = New(Options{Config: agentconfig.Config{Service: "m", Namespace: "ns"}, Self: run(self), Ordinal: ordinalOf(self), IPs: []string{"10.0.0.1"},
		Node: "n", Engine: s.engine, Kube: s.api, Log: testr.New(t), NewID: func() string { s.ids++; return fmt.Sprint("data-", s.ids) },
		World: s, Guard: s.guard, Processes: fakeProcesses{s}, Store: &fakeStore{s: s}, Mesh: fakeMesh{}, Relay: fakeRelay{}})
	t.Cleanup(s.end)
	if err := s.a.Begin(); err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if m.Name != self {
			s.connect(m.Name)
		}
	}
	return s
}

// serving is a stage whose agent serves as primary of epoch 1, and has said so in the Lease.
func serving(t *testing.T, persistent bool) *stage {
	s := newStage(t, "m-0", "m-0", persistent)
	s.opened()
	return s
}

// end lets what still hangs return, so that no coroutine is left.
func (s *stage) end() {
	s.shut = map[string]bool{}
	for _, j := range s.jobs {
		s.running = j
		j.stop()
	}
}

func (s *stage) Now() failover.Instant             { return s.now }
func (s *stage) Wall() time.Time                   { return time.Unix(0, int64(s.now)) }
func (s *stage) WallOffset() (time.Duration, bool) { return 0, true }

func (s *stage) After(d time.Duration, f func()) {
	at := s.now.Add(d)
	i := slices.IndexFunc(s.timers, func(t timer) bool { return t.at > at })
	if i < 0 {
		i = len(s.timers)
	}
	s.timers = slices.Insert(s.timers, i, timer{at, f})
}

func (s *stage) Beside(_ time.Duration, work func(context.Context), then func()) {
	j := &job{then: then}
	j.next, j.stop = iter.Pull(func(yield func(struct{}) bool) {
		j.yield = yield
		work(context.Background())
	})
	s.jobs = append(s.jobs, j)
}

// call is a call beside the loop: it hangs as long as the test wants, fails if told to, and is noted.
func (s *stage) call(name, detail string) error {
	for s.shut[name] && s.running.yield(struct{}{}) {
	}
	err := cmp.Or(s.once[name], s.fails[name])
	delete(s.once, name)
	if err != nil {
		s.note("%s%s fails", name, detail)
		return err
	}
	s.note("%s%s", name, detail)
	return nil
}

func (s *stage) note(format string, args ...any) {
	s.journal = append(s.journal, fmt.Sprintf(format, args...))
}

// happens runs f on the agent's loop, and all that follows at this instant.
func (s *stage) happens(f func()) {
	s.deliver(f)
	s.settle()
}

func (s *stage) deliver(f func()) {
	if s.a.Ended() {
		return
	}
	f()
	s.due = s.now.Add(s.a.Step())
}

// settle goes on until nothing is left at this instant but what hangs.
func (s *stage) settle() {
	begun := s.now
	for again := true; again; {
		again = false
		if s.now.Sub(begun) > 100*time.Millisecond {
			s.t.Fatalf("it does the same again and again without a pause:\n%s", strings.Join(s.journal[len(s.journal)-10:], "\n"))
		}
		for len(s.events) > 0 {
			f := s.events[0]
			s.events = s.events[1:]
			s.deliver(f)
		}
		for _, j := range slices.Clone(s.jobs) {
			s.running = j
			if _, hangs := j.next(); hangs {
				continue
			}
			s.jobs = slices.DeleteFunc(s.jobs, func(o *job) bool { return o == j })
			s.now = s.now.Add(10 * time.Microsecond) // nothing takes no time
			s.deliver(j.then)
			again = true
		}
	}
}

// pass lets time pass.
func (s *stage) pass(d time.Duration) {
	for end := s.now.Add(d); s.now < end; {
		s.tick(end)
	}
}

// tick goes to the next instant at which something is due, or to the limit.
func (s *stage) tick(limit failover.Instant) {
	s.settle()
	next := min(s.due, limit)
	if len(s.timers) > 0 {
		next = min(next, s.timers[0].at)
	}
	s.now = max(s.now, next)
	for len(s.timers) > 0 && s.timers[0].at <= s.now {
		f := s.timers[0].f
		s.timers = s.timers[1:]
		s.deliver(f)
	}
	if s.due <= s.now {
		s.deliver(func() {})
	}
	s.settle()
}

// until lets time pass until something is so; within ten seconds it must be.
func (s *stage) until(what string, ok func() bool) {
	s.t.Helper()
	for end := s.now.Add(10 * time.Second); !ok(); {
		if s.now >= end {
			s.t.Fatalf("%s: not within 10 s; %s\n%s", what, s.a.Dump(), strings.Join(s.journal[max(0, len(s.journal)-30):], "\n"))
		}
		s.tick(end)
	}
}

// did waits until an entry is in the journal.
func (s *stage) did(entry string) {
	s.t.Helper()
	s.until(entry, func() bool { return s.count(entry) > 0 })
}

// count counts the journal's entries that begin so.
func (s *stage) count(entry string) int {
	n := 0
	for _, e := range s.journal {
		if strings.HasPrefix(e, entry) {
			n++
		}
	}
	return n
}

func (s *stage) never(entry string) {
	s.t.Helper()
	if n := s.count(entry); n > 0 {
		s.t.Errorf("%q happened %d times:\n%s", entry, n, strings.Join(s.journal, "\n"))
	}
}

// index is where the first entry that begins so is in the journal, and lastIndex where the last one is; -1: nowhere.
func (s *stage) index(entry string) int {
	return slices.IndexFunc(s.journal, func(e string) bool { return strings.HasPrefix(e, entry) })
}

func (s *stage) lastIndex(entry string) int {
	for i := len(s.journal) - 1; i >= 0; i-- {
		if strings.HasPrefix(s.journal[i], entry) {
			return i
		}
	}
	return -1
}

// inOrder checks that the first entries that begin so came in this order.
func (s *stage) inOrder(entries ...string) {
	s.t.Helper()
	last := -1
	for _, entry := range entries {
		at := s.index(entry)
		if at <= last {
			s.t.Errorf("%q is at %d of the journal, want it after %d:\n%s", entry, at, last, strings.Join(s.journal, "\n"))
		}
		last = at
	}
}

// fill makes a lane refuse everything until open is called.
func (s *stage) fill(l *lane) (open func()) {
	s.t.Helper()
	s.shut["filler"] = true
	taken := 0
	for l.do(0, func(context.Context) { _ = s.call("filler", "") }, func() {}) {
		if taken++; taken > 1000 {
			s.t.Fatal("the lane takes everything")
		}
	}
	if want := l.limit; taken < want {
		s.t.Fatalf("a lane that was nearly idle took %d jobs, want %d at least", taken, want)
	}
	return func() { s.shut["filler"] = false; s.settle() }
}

// fakeEngine follows whom it is told and accepts writes when promoted.
type fakeEngine struct {
	s          *stage
	persistent bool
	primary    bool
	upstream   string
	offset     int64
	min        int // replicas it needs to accept writes
	history    string
	step       bool
	refusal    error // of its process
	kept       *engine.Kept
	had        engine.Had // what was replaced last
	replace    bool
	gone       chan struct{} // of the next process
	processes  int           // that it was asked for
}

func (e *fakeEngine) Process() (engine.Process, error) {
	e.processes++
	gone := e.gone
	e.gone = nil
	return engine.Process{Step: e.step, Gone: gone}, e.refusal
}
func (e *fakeEngine) Kept() (*engine.Kept, error) { return e.kept, nil }
func (e *fakeEngine) Persistent() bool            { return e.persistent }
func (e *fakeEngine) Port() int                   { return 6379 }
func (*fakeEngine) Listens() bool                 { return false }

func (e *fakeEngine) report() engine.Report {
	return engine.Report{Primary: e.primary, Offset: e.offset, Upstream: e.upstream, LinkUp: e.upstream != "", HasData: true, History: e.history,
		MustReplace: e.replace}
}

func (e *fakeEngine) Replace(_ context.Context, had engine.Had) error {
	e.had, e.replace = had, false
	return e.s.call("replace", "")
}

func (e *fakeEngine) Probe(context.Context) (engine.Report, error) { return e.report(), nil }

func (e *fakeEngine) Follow(_ context.Context, address string) error {
	err := e.s.call("follow", "")
	if err == nil {
		e.upstream, e.primary = address, false
	}
	return err
}

func (e *fakeEngine) Detach(context.Context, time.Duration) (engine.Report, error) {
	err := e.s.call("detach", "")
	if err == nil {
		e.upstream = ""
	}
	return e.report(), err
}

func (e *fakeEngine) Promote(_ context.Context, quorum engine.Quorum) (engine.Report, error) {
	err := e.s.call("promote", "")
	if err == nil {
		e.primary, e.upstream, e.min = true, "", quorum.Replicas
	}
	return e.report(), err
}

func (e *fakeEngine) Configure(_ context.Context, quorum engine.Quorum) error {
	err := e.s.call("configure", fmt.Sprint(" ", quorum.Replicas))
	if err == nil {
		e.min = quorum.Replicas
	}
	return err
}

func (e *fakeEngine) Pause(context.Context, time.Duration) (engine.Report, error) {
	return e.report(), e.s.call("pause", "")
}
func (e *fakeEngine) Resume(context.Context) error { return e.s.call("resume", "") }

func (e *fakeEngine) Expect(next engine.Successor)  { e.s.note("expect %+v", next) }
func (e *fakeEngine) ExpectPromotion(engine.Quorum) {}
