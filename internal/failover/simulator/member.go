package simulator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"

	"understudy.dev/understudy/internal/agent"
	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// node is a machine: its clock runs at a rate of its own, and it may be off or frozen.
type node struct {
	on          bool
	frozenUntil int64
	rate        float64
	base        int64
	jump        int64 // of the wall clock
	tainted     bool
	place       int // on the network
}

func (n *node) local(at int64) failover.Instant {
	return failover.Instant(n.base + int64(float64(at)*n.rate))
}

// global is the virtual time at which the node's clock shows an instant.
func (n *node) global(i failover.Instant) int64 { return int64(float64(int64(i)-n.base)/n.rate) + 1 }

// member is a name with a node, a volume and, most of the time, a pod.
type member struct {
	s      *sim
	index  int
	name   string
	wanted bool
	node   *node
	pod    *pod
	volume *volume
	lost   int // volumes lost
}

// volume is what outlives the pod of a persistent member.
type volume struct {
	record agent.DataRecord
	log    []int32
}

// pod is one pod: its promise and its count of boots live as long as it does.
type pod struct {
	m       *member
	uid     string
	ip      string
	boots   int64
	written bool
	promise failover.Durable
	life    *life
	volume  *volume
	gone    bool            // deleted; on a node that is cut off its life may go on
	ended   map[string]bool // runs of which the kubelet has reported the end
}

func (m *member) makePod() {
	m.pod = &pod{m: m, uid: m.s.nextID("pod"), ended: map[string]bool{}}
	m.pod.ip = fmt.Sprintf("10.0.%d.%d", m.s.ids/256%256, m.s.ids%256)
	m.pod.volume = m.volume
	if !m.s.cfg.Persistent {
		m.pod.volume = &volume{}
	}
	m.s.note(m.name, "pod %s is made", m.pod.uid)
	m.s.after(m.s.between(40, 600), m.pod.start)
}

// start is the kubelet starting the container.
func (p *pod) start() {
	if p.gone || (p.life != nil && !p.life.dead) || !p.m.node.on || p.m.pod != p {
		return
	}
	p.boots++
	s, m := p.m.s, p.m
	if p.life != nil {
		p.ended[p.life.run.String()] = true // the kubelet reports how it ended before it starts another one
	}
	l := &life{s: s, m: m, node: m.node, pod: p, dials: map[string]*dial{}, watch: &watch{}}
	l.run = failover.Run{Member: m.name, PodUID: p.uid, BootID: failover.BootID(p.boots, s.nextID("b"))}
	p.life = l
	l.guard = &guardian{l: l}
	l.agent = agent.New(agent.Options{
		Config: agentconfig.Config{Service: "s", Namespace: "n"}, Self: l.run, Ordinal: m.index, IPs: []string{p.ip}, Node: m.name,
		Engine: &engineOf{l}, Kube: &kubeOf{l}, Log: l.logger(), NewID: func() string { return s.nextID("data") }, Without: s.cfg.Without,
		World: l, Guard: l.guard, Processes: &processes{l}, Store: &store{l}, Mesh: &meshOf{l}, Relay: noRelay{},
	})
	s.note(m.name, "agent %s starts", l.run.BootID)
	if err := l.agent.Begin(); err != nil {
		s.broke("start", "%v", err)
		return
	}
	l.deliver(func() {})
	s.api.follow(l)
}

// life is one run of an agent, and the World it lives in.
type life struct {
	s       *sim
	m       *member
	node    *node
	pod     *pod
	run     failover.Run
	agent   *agent.Agent
	proc    *process
	guard   *guardian
	dead    bool
	leaving bool
	stopped int64 // the agent alone is stopped until then
	backlog []func()
	recheck int64
	cost    int64
	limit   int64
	dials   map[string]*dial
	conns   []*conn
	watch   *watch
}

func (l *life) halted() int64 { return max(l.stopped, l.node.frozenUntil) }

// deliver runs f on the agent's loop, when the agent runs.
func (l *life) deliver(f func()) {
	if l.dead {
		return
	}
	if l.s.now < l.halted() {
		if len(l.backlog) == 0 {
			l.thawAt(l.halted())
		}
		l.backlog = append(l.backlog, f)
		return
	}
	f()
	l.step()
}

func (l *life) thawAt(at int64) {
	l.s.at(at, func() {
		if l.dead {
			return
		}
		if l.s.now < l.halted() {
			l.thawAt(l.halted())
			return
		}
		work := l.backlog
		l.backlog = nil
		for _, f := range work {
			f()
		}
		l.step()
	})
}

func (l *life) step() {
	again := l.agent.Step()
	if l.agent.Ended() {
		l.s.note(l.m.name, "agent ends")
		l.kill(false)
		return
	}
	l.recheck++
	mine := l.recheck
	l.s.after(l.globally(again), func() {
		if mine == l.recheck {
			l.deliver(func() {})
		}
	})
}

func (l *life) globally(d time.Duration) int64 { return int64(float64(d)/l.node.rate) + 1 }

func (l *life) Now() failover.Instant { return l.node.local(l.s.now) }
func (l *life) Wall() time.Time       { return time.Unix(0, l.s.now+l.node.jump) }
func (l *life) WallOffset() (time.Duration, bool) {
	return time.Duration(l.node.jump), true
}

func (l *life) After(d time.Duration, f func()) { l.s.after(l.globally(d), func() { l.deliver(f) }) }

// Beside runs work at one instant a little later and reports it after what it cost.
func (l *life) Beside(limit time.Duration, work func(ctx context.Context), then func()) {
	l.s.after(l.s.between(0.02, 0.3), func() { l.do(int64(limit), work, then) })
}

func (l *life) do(limit int64, work func(ctx context.Context), then func()) {
	if l.dead {
		return
	}
	if l.s.now < l.halted() {
		l.s.at(l.halted(), func() { l.do(limit, work, then) })
		return
	}
	l.cost, l.limit = 0, limit
	work(context.Background())
	l.s.after(l.cost, func() { l.deliver(then) })
}

// kill ends the container: by SIGKILL, or because the agent ended after a goodbye.
func (l *life) kill(silent bool) {
	if l.dead {
		return
	}
	l.dead = true
	l.s.note(l.m.name, "container ends")
	// The kernel closes the sockets of PID 1 a little before it has killed the rest.
	proc := l.proc
	l.s.after(l.s.between(0, 0.2), func() {
		if proc != nil {
			proc.end()
		}
	})
	if silent && proc != nil {
		proc.end()
	}
	for _, c := range l.conns {
		c.endedBy(l, silent)
	}
	if silent {
		return
	}
	p, run := l.pod, l.run
	l.s.after(l.s.between(20, 200), func() {
		if l.node.on {
			p.ended[run.String()] = true
		}
	})
	if !p.gone {
		l.s.after(l.s.between(300, 1500), p.start)
	}
}

// noRelay: clients here write to every engine that lets them, so nobody needs to be led anywhere.
type noRelay struct{}

func (noRelay) Listen()     {}
func (noRelay) Lead(string) {}
func (noRelay) Stop()       {}

// guardian is the guard.
type guardian struct {
	l        *life
	pid      int
	deadline failover.Instant
	fired    failover.Instant
	lateness time.Duration
}

func (g *guardian) PID() int { return g.pid }
func (g *guardian) Ended()   { g.pid = 0 }
func (g *guardian) Start(string) error {
	g.l.s.ids++
	g.pid, g.deadline = g.l.s.ids, 0
	return nil
}
func (g *guardian) Disarm()                 { g.deadline = 0 }
func (g *guardian) Fired() failover.Instant { return g.fired }
func (g *guardian) Lateness() time.Duration { return g.lateness }

func (g *guardian) Arm(until failover.Instant) {
	if until == g.deadline {
		return
	}
	g.deadline = until
	if until == failover.Forever || g.l.s.cfg.Without&failover.GuardKills != 0 {
		return
	}
	late := g.l.s.between(0, 60) // below half the margin
	g.l.s.at(max(g.l.node.global(until), g.l.s.now)+late, g.fire)
}

// fire kills the engine, whatever the agent does. A frozen machine freezes the guard too, and its engine with it.
func (g *guardian) fire() {
	l := g.l
	if l.dead || g.pid == 0 || g.deadline == 0 || g.deadline == failover.Forever || l.Now() < g.deadline {
		return
	}
	if l.node.frozenUntil > l.s.now {
		l.s.at(l.node.frozenUntil, g.fire)
		return
	}
	g.deadline, g.fired = 0, l.Now()
	if l.proc != nil && l.proc.alive {
		l.s.note(l.m.name, "the guard kills the engine")
		l.s.res.Coverage["guard kills"]++
		l.proc.end()
	}
}

// processes are the children of PID 1.
type processes struct{ l *life }

func (p *processes) Start(engine.Process) (int, error) {
	p.l.s.ids++
	p.l.proc = newProcess(p.l, p.l.s.ids)
	p.l.cost += p.l.s.between(2, 20)
	return p.l.proc.pid, nil
}

// Kill leaves the end to KillAll, which always comes with it.
func (p *processes) Kill() error { return nil }

// KillAll: what is killed does nothing more of its own, but may take long to be gone.
func (p *processes) KillAll(context.Context) error {
	s := p.l.s
	if p.l.proc != nil {
		p.l.proc.end()
	}
	p.l.guard.pid = 0
	p.l.cost += s.between(0.5, 8)
	if s.chance(0.2) {
		p.l.cost += s.between(0, 120) // a busy machine
	}
	return nil
}

// store is the pod's disk.
type store struct{ l *life }

func (st *store) LoadPromise(string) (failover.Durable, string) {
	p := st.l.pod
	if !p.written {
		return failover.Durable{PodUID: p.uid, Forgotten: true}, "there is no promise file"
	}
	d := p.promise
	d.Given = append([]failover.EpochRun(nil), d.Given...)
	return d, ""
}

func (st *store) SavePromise(d failover.Durable) error {
	p := st.l.pod
	if d.Promise < p.promise.Promise {
		st.l.s.broke("I2", "%s: a promise fell from %d to %d", st.l.m.name, p.promise.Promise, d.Promise)
	}
	p.promise, p.written = d, true
	st.l.cost += st.l.s.between(0.1, 2)
	if st.l.s.chance(0.02) {
		st.l.cost += st.l.s.between(10, 300) // a busy disk
	}
	return nil
}

func (st *store) LoadData() (agent.DataRecord, error) { return st.l.pod.volume.record, nil }
func (st *store) SaveData(d agent.DataRecord) error {
	st.l.pod.volume.record = d
	st.l.cost += st.l.s.between(0.3, 3)
	return nil
}
func (st *store) LoadHistory() []wire.Takeover      { return nil }
func (st *store) SaveHistory([]wire.Takeover) error { return nil }

var errDeadline = errors.New("context deadline exceeded")

// logger writes the agent's own words into the story.
func (l *life) logger() logr.Logger {
	if !l.s.cfg.Story {
		return logr.Discard()
	}
	return logr.New(sink{l})
}

type sink struct{ l *life }

func (k sink) Init(logr.RuntimeInfo)             {}
func (k sink) Enabled(int) bool                  { return true }
func (k sink) WithValues(...any) logr.LogSink    { return k }
func (k sink) WithName(string) logr.LogSink      { return k }
func (k sink) Info(_ int, msg string, kv ...any) { k.l.s.note(k.l.m.name, "%s%s", msg, pairs(kv)) }
func (k sink) Error(err error, msg string, kv ...any) {
	k.l.s.note(k.l.m.name, "%s: %v%s", msg, err, pairs(kv))
}

func pairs(kv []any) string {
	out := ""
	for i := 0; i+1 < len(kv); i += 2 {
		out += fmt.Sprintf(" %v=%v", kv[i], kv[i+1])
	}
	return out
}
