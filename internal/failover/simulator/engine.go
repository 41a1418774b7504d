package simulator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
)

// process is one life of an engine. Its data is the list of the writes it has, in order.
type process struct {
	l       *life
	pid     int
	alive   bool
	log     []int32
	primary bool           // promoted
	replica bool           // it was told to follow somebody, or nobody
	epoch   failover.Epoch // in which it was promoted
	exposed bool
	history string
	exact   bool // its offset is that of a history it took part in
	quorum  int
	named   []string // whose word counts, by the names under which they follow; none: everybody's
	paused  int64
	hung    int64
	up      string // whom it was told to follow, by address
	source  *stream
	readers []*stream
	waiting []pendingWrite
}

type pendingWrite struct {
	id int32
	at int // length of the log with it
}

// stream is a replication link: writes travel in order, and wait while the network is cut.
type stream struct {
	from, to *process
	live     bool // the first copy is complete
	broken   bool
	last     int64
	acked    int // writes that the replica told the primary it has
}

const nowhere = "nowhere"

func newProcess(l *life, pid int) *process {
	p := &process{l: l, pid: pid, alive: true, up: nowhere, history: l.s.nextID("history")}
	p.log = slices.Clone(l.pod.volume.log)
	p.exact = len(p.log) == 0
	if !l.s.cfg.Persistent {
		p.log, p.exact = nil, true
	}
	return p
}

// end is SIGKILL: what it had acknowledged is in its files, if it keeps any.
func (p *process) end() {
	if !p.alive {
		return
	}
	p.alive = false
	if p.l.s.cfg.Persistent {
		p.l.pod.volume.log = p.log
	}
	if p.source != nil {
		p.source.close()
	}
	for _, r := range slices.Clone(p.readers) {
		r.close()
	}
	l, pid := p.l, p.pid
	l.s.after(l.s.between(0.05, 1), func() {
		l.deliver(func() { l.agent.OnExit(exit(pid)) })
	})
}

func (p *process) halted() bool {
	// When a machine thaws, timers that are due fire before a request is answered: the guard's is one of them.
	thaws := p.l.node.frozenUntil
	return !p.alive || p.l.s.now < p.hung || (thaws > 0 && p.l.s.now <= thaws+ms)
}

func (p *process) offset() int64 {
	if !p.exact {
		return int64(len(p.log)) / 3 // the engine counts anew after it was started on files
	}
	return int64(len(p.log)) * 10
}

// engineOf is the adapter that the agent drives.
type engineOf struct{ l *life }

var _ engine.Engine = (*engineOf)(nil)

func (e *engineOf) Process() (engine.Process, error)        { return engine.Process{}, nil }
func (e *engineOf) Persistent() bool                        { return e.l.s.cfg.Persistent }
func (e *engineOf) Port() int                               { return 1 }
func (*engineOf) Listens() bool                             { return false }
func (*engineOf) Replace(context.Context, engine.Had) error { return nil }

// answering is the process, if it answers within the deadline.
func (e *engineOf) answering() (*process, error) {
	p := e.l.proc
	if p == nil || !p.alive {
		return nil, errors.New("connection refused")
	}
	if e.l.s.now < p.hung {
		e.l.cost += e.l.limit
		return nil, errDeadline
	}
	e.l.cost += e.l.s.between(0.1, 1.5)
	return p, nil
}

func (p *process) report() engine.Report {
	r := engine.Report{Primary: !p.replica, Offset: p.offset(), HasData: len(p.log) > 0, History: p.history}
	if !r.Primary {
		r.Upstream, r.LinkUp = p.up, p.source != nil && p.source.live
	}
	return r
}

func (e *engineOf) Probe(context.Context) (engine.Report, error) {
	p, err := e.answering()
	if err != nil {
		return engine.Report{}, err
	}
	return p.report(), nil
}

func (e *engineOf) Follow(_ context.Context, address string) error {
	p, err := e.answering()
	if err != nil {
		return err
	}
	p.cut()
	p.primary, p.replica, p.up, p.exposed = false, true, address, true
	p.attach()
	return e.maybeLost()
}

// maybeLost: an order may be carried out although its answer came too late.
func (e *engineOf) maybeLost() error {
	if !e.l.s.quiet && e.l.s.chance(0.01) {
		e.l.cost += e.l.limit
		return errDeadline
	}
	return nil
}

func (e *engineOf) Detach(_ context.Context, drain time.Duration) (engine.Report, error) {
	p, err := e.answering()
	if err != nil {
		return engine.Report{}, err
	}
	if drain > 0 && p.source != nil {
		e.l.cost += e.l.s.between(0, float64(drain)/1e6)
	}
	p.cut()
	p.primary, p.replica, p.up = false, true, nowhere
	return p.report(), e.maybeLost()
}

func (e *engineOf) Promote(_ context.Context, quorum engine.Quorum) (engine.Report, error) {
	p, err := e.answering()
	if err != nil {
		return engine.Report{}, err
	}
	p.cut()
	p.primary, p.replica, p.exposed, p.quorum, p.named, p.exact, p.up = true, false, true, quorum.Replicas, quorum.Members, true, nowhere
	p.epoch = e.l.agent.Holds()
	e.l.s.note(e.l.m.name, "the engine is promoted in epoch %d with %d writes", p.epoch, len(p.log))
	p.history = e.l.s.nextID("history")
	e.l.s.opened(p)
	return p.report(), nil
}

func (e *engineOf) Configure(_ context.Context, quorum engine.Quorum) error {
	p, err := e.answering()
	if err != nil {
		return err
	}
	p.quorum, p.named = quorum.Replicas, quorum.Members
	p.settle()
	return e.maybeLost()
}

func (e *engineOf) Pause(_ context.Context, d time.Duration) (engine.Report, error) {
	p, err := e.answering()
	if err != nil {
		return engine.Report{}, err
	}
	p.paused = e.l.s.now + int64(d)
	return p.report(), nil
}

func (e *engineOf) Resume(context.Context) error {
	p, err := e.answering()
	if err == nil {
		p.paused = 0
	}
	return err
}

// cut ends the link to whoever it follows.
func (p *process) cut() {
	if p.source != nil {
		p.source.close()
	}
}

// attach connects to the address it was told, again and again, as Redis does.
func (p *process) attach() {
	s, want := p.l.s, p.up
	s.after(s.between(1, 4), func() {
		if !p.alive || p.up != want || p.source != nil || want == nowhere {
			return
		}
		from := s.engineAt(want)
		if from == nil || !from.alive || !from.exposed || from.halted() || p.halted() || !s.net.both(p.l.node.place, from.l.node.place) || from.follows(p) {
			s.after(s.between(20, 100), p.attach)
			return
		}
		p.sync(from)
	})
}

func (p *process) follows(o *process) bool {
	for hops := 0; p != nil && hops < 8; hops++ {
		if p == o {
			return true
		}
		if p.source == nil {
			return false
		}
		p = p.source.from
	}
	return false
}

// sync copies what is missing, or everything when the histories differ: then what it had is gone at once.
func (p *process) sync(from *process) {
	s := p.l.s
	st := &stream{from: from, to: p}
	p.source = st
	from.readers = append(from.readers, st)
	partial := p.exact && len(p.log) <= len(from.log) && slices.Equal(p.log, from.log[:len(p.log)])
	cost := s.between(0.5, 3)
	if !partial {
		p.log, p.exact = nil, true
		cost = s.between(5, 60)
	} else {
		p.history = from.history // Redis takes the name when the copy begins, and the data after that
	}
	s.after(cost, func() {
		if st.broken || !p.alive || !from.alive {
			return
		}
		if !s.net.both(p.l.node.place, from.l.node.place) || from.halted() || p.halted() {
			st.close()
			return
		}
		p.log, p.exact, p.history = slices.Clone(from.log), true, from.history
		st.live = true
		st.acknowledge(len(p.log))
	})
}

func (st *stream) close() {
	if st.broken {
		return
	}
	st.broken = true
	st.from.readers = slices.DeleteFunc(st.from.readers, func(o *stream) bool { return o == st })
	to := st.to
	if to.source == st {
		to.source = nil
		if to.alive && to.up != nowhere {
			to.l.s.after(to.l.s.between(5, 50), to.attach)
		}
	}
}

// carry sends something along the link in order, and tries again while the network is cut.
func (st *stream) carry(from, to int, f func()) {
	s := st.from.l.s
	at := max(s.now+s.net.latency(), st.last+1)
	st.last = at
	var try func()
	tries := 0
	try = func() {
		switch {
		case st.broken:
		case !s.net.open(from, to):
			if tries++; tries > 20 {
				st.close()
				return
			}
			s.after(100*ms, try)
		default:
			f()
		}
	}
	s.at(at, try)
}

// write appends a client's write; it is acknowledged when enough replicas have it.
func (p *process) write(id int32) {
	s := p.l.s
	if p.quorum > 0 && len(p.readers) < p.quorum {
		return // refused
	}
	p.log = append(p.log, id)
	for _, st := range p.readers {
		st.forward(id, len(p.log))
	}
	if p.need() == 0 {
		s.acknowledged(p, id)
		return
	}
	if len(p.waiting) > 64 {
		p.waiting = p.waiting[32:]
	}
	p.waiting = append(p.waiting, pendingWrite{id: id, at: len(p.log)})
}

// forward sends the nth write to a replica, and through it to those that follow it.
func (st *stream) forward(id int32, n int) {
	if !st.live {
		return // the copy that is under way will have it
	}
	st.carry(st.from.l.node.place, st.to.l.node.place, func() {
		to := st.to
		if !to.alive || len(to.log) != n-1 {
			return
		}
		to.log = append(to.log, id)
		for _, next := range to.readers {
			next.forward(id, n)
		}
		st.acknowledge(n)
	})
}

// acknowledge tells the primary how much the replica has; only synchronous clients wait for that.
func (st *stream) acknowledge(n int) {
	if st.from.l.s.cfg.Quorum == 0 || !st.from.primary {
		return
	}
	st.carry(st.to.l.node.place, st.from.l.node.place, func() {
		p := st.from
		if !p.alive || !p.primary {
			return
		}
		st.acked = max(st.acked, n)
		p.settle()
	})
}

// need is how many replicas a client's write waits for: what the engine was told where every write waits, and elsewhere what the client says with
// WAIT W.
func (p *process) need() int {
	if p.l.s.cfg.EveryWaits {
		return p.quorum
	}
	return p.l.s.cfg.Quorum
}

// counts reports whether a replica's word counts: Redis counts whoever is connected.
func (p *process) counts(r *stream) bool {
	name := engine.FollowerName(r.to.l.m.name, r.to.l.pod.uid)
	return !p.l.s.cfg.EveryWaits || len(p.named) == 0 || slices.Contains(p.named, name)
}

// settle acknowledges to clients what has enough replicas.
func (p *process) settle() {
	need := p.need()
	p.waiting = slices.DeleteFunc(p.waiting, func(w pendingWrite) bool {
		have := 0
		for _, r := range p.readers {
			if r.acked >= w.at && p.counts(r) {
				have++
			}
		}
		if have < need || p.halted() {
			return false
		}
		p.l.s.acknowledged(p, w.id)
		return true
	})
}

func (s *sim) engineAt(address string) *process {
	host, _, _ := strings.Cut(address, ":")
	for _, m := range s.members {
		if m.pod != nil && m.pod.ip == host && m.pod.life != nil && !m.pod.life.dead {
			return m.pod.life.proc
		}
	}
	return nil
}

func (p *process) String() string { return fmt.Sprintf("%s/%d", p.l.m.name, p.pid) }
