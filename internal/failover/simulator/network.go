package simulator

import (
	"maps"
	"slices"

	"understudy.dev/understudy/internal/agent"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// Places on the network beside the members.
const (
	apiPlace      = 10
	operatorPlace = 11
	places        = 12
)

// network has a way from each place to each other one, which may be cut on its own.
type network struct {
	s    *sim
	cuts [places][places]int
	slow float64 // milliseconds added at most
}

func (n *network) open(from, to int) bool { return n.cuts[from][to] == 0 }
func (n *network) both(a, b int) bool     { return n.open(a, b) && n.open(b, a) }
func (n *network) cut(from, to, by int)   { n.cuts[from][to] += by }
func (n *network) latency() int64         { return n.s.between(0.1, 1.5) + n.s.between(0, n.slow) }
func (n *network) isolate(at, by int) {
	for other := range places {
		if other != at {
			n.cut(at, other, by)
			n.cut(other, at, by)
		}
	}
}

// userTimeout is after how long a connection whose bytes arrive nowhere is ended by its own kernel.
const userTimeout = 3000 * ms

// conn is one connection between two agents. Frames arrive in order, late or not at all.
type conn struct {
	s        *sim
	ends     [2]*life // who dialled, and who accepted
	links    [2]*agent.Link
	last     [2]int64 // when the newest frame towards each end arrives
	queued   [2]int
	over     [2]bool // this end knows that it is over
	goodbyes [2]bool // this end heard goodbye
	closed   bool
}

// peerOf is the far end of a connection, as one side sees it.
type peerOf struct {
	c    *conn
	self int
}

func (p *peerOf) RemoteIP() string { return p.c.ends[1-p.self].pod.ip }

// Send implements agent.Peer.
func (p *peerOf) Send(f wire.Frame) {
	if q := f.Promise; q != nil && p.c.s.cfg.Story {
		p.c.s.note(q.From.Member, "promises epoch %d to %s: given %t, %+v, data %s, lower %+v %s", q.Epoch, q.To.Member, q.Given, q.Position, q.DataID, q.Lower, q.Reason)
	}
	p.c.send(1-p.self, func(l *life) { l.agent.OnFrame(p.c.links[1-p.self], f) })
}

// Close says goodbye and ends the connection.
func (p *peerOf) Close(string) {
	to := 1 - p.self
	p.c.send(to, func(*life) { p.c.goodbyes[to] = true })
	p.c.finish(to, true, 0)
	p.c.finish(p.self, false, 0)
}

const outbox = 32

// send carries something to an end, in order; while the way is cut it is sent again and again.
func (c *conn) send(to int, f func(*life)) {
	s := c.s
	if c.closed || c.over[to] || c.queued[to] >= outbox {
		return
	}
	at := s.now + s.net.latency()
	if !s.quiet && s.chance(0.005) {
		at += s.between(200, 420) // a lost segment, and what follows it waits too
	}
	at = max(at, c.last[to]+1)
	c.last[to] = at
	c.queued[to]++
	since := s.now
	var try func()
	try = func() {
		switch {
		case c.over[to]:
			c.queued[to]--
		case !s.net.open(c.ends[1-to].node.place, c.ends[to].node.place) || !c.ends[to].node.on:
			if s.now-since > userTimeout {
				c.queued[to]--
				c.abort()
				return
			}
			s.after(s.between(100, 300), try)
		default:
			c.queued[to]--
			c.ends[to].deliver(func() {
				if !c.over[to] {
					f(c.ends[to])
				}
			})
		}
	}
	s.at(at, try)
}

// abort ends both sides by a time-out: silence, no evidence.
func (c *conn) abort() {
	c.closed = true
	for end := range 2 {
		c.finish(end, false, c.s.between(0, 50))
	}
}

// finish tells one end that the connection is over.
func (c *conn) finish(end int, eof bool, wait int64) {
	c.s.at(max(c.s.now+wait+c.s.net.latency(), c.last[end]+1), func() {
		l := c.ends[end]
		if c.over[end] {
			return
		}
		l.deliver(func() {
			if c.over[end] {
				return
			}
			c.over[end] = true
			l.conns = slices.DeleteFunc(l.conns, func(o *conn) bool { return o == c })
			l.agent.OnLinkEnd(c.links[end], eof, c.goodbyes[end])
			if end == 0 {
				l.redial(c.ends[1].m.name)
			}
		})
	})
}

// endedBy tells the other side that a process ended: its kernel says so, again and again while the way is cut; a machine
// without power says nothing.
func (c *conn) endedBy(l *life, silent bool) {
	self := 0
	if c.ends[1] == l {
		self = 1
	}
	if c.over[self] {
		return
	}
	c.over[self] = true
	other := 1 - self
	if silent {
		c.finish(other, false, userTimeout)
		return
	}
	since := c.s.now
	var try func()
	try = func() {
		switch {
		case c.over[other]:
		case c.s.net.both(c.ends[self].node.place, c.ends[other].node.place):
			c.finish(other, true, 0)
		case c.s.now-since > userTimeout:
			c.finish(other, false, 0)
		default:
			c.s.after(c.s.between(100, 300), try)
		}
	}
	try()
}

// dial is the keeping of one connection to one member.
type dial struct {
	wanted bool
	up     bool
	trying bool
	pause  float64
}

// meshOf is the agent's mesh.
type meshOf struct{ l *life }

// Members implements agent.Mesh.
func (m *meshOf) Members(list []string) {
	l := m.l
	for _, name := range slices.Sorted(maps.Keys(l.dials)) {
		d := l.dials[name]
		if !slices.Contains(list, name) && d.wanted {
			d.wanted = false
			for _, c := range slices.Clone(l.conns) {
				if c.ends[0] == l && c.ends[1].m.name == name {
					c.links[0].Peer.Close("")
				}
			}
		}
	}
	for _, name := range list {
		if name == l.m.name {
			continue
		}
		d := l.dials[name]
		if d == nil {
			d = &dial{pause: 50}
			l.dials[name] = d
		}
		if !d.wanted {
			d.wanted = true
			l.redial(name)
		}
	}
}

func (l *life) redial(name string) {
	d := l.dials[name]
	if d == nil || d.trying || !d.wanted {
		return
	}
	d.up, d.trying = false, true
	l.s.after(l.s.between(1, d.pause), func() { l.tryDial(name, d) })
}

func (l *life) tryDial(name string, d *dial) {
	d.trying = false
	if l.dead || !d.wanted || d.up {
		return
	}
	to := l.s.lifeOf(name)
	if to == nil || l.s.lies[[2]int{l.node.place, to.node.place}] > 0 || l.s.now < l.halted() || l.s.now < to.halted() || !l.s.net.both(l.node.place, to.node.place) {
		d.pause = min(2*d.pause, 1000)
		l.redial(name)
		return
	}
	d.up, d.pause = true, 50
	c := &conn{s: l.s, ends: [2]*life{l, to}}
	for end := range 2 {
		c.links[end] = &agent.Link{Run: c.ends[1-end].run, Outbound: end == 0, Peer: &peerOf{c, end}}
		c.ends[end].conns = append(c.ends[end].conns, c)
	}
	for end := range 2 {
		c.last[end] = l.s.now + l.s.between(0.3, 2)
		l.s.at(c.last[end], func() {
			c.ends[end].deliver(func() {
				if !c.over[end] {
					c.ends[end].agent.OnLink(c.links[end])
				}
			})
		})
	}
	// A member that was just reached is dialled back at once, as its address is known now.
	if back := to.dials[l.m.name]; back != nil && !back.up {
		back.pause = 50
		to.redial(l.m.name)
	}
}

func (s *sim) lifeOf(name string) *life {
	for _, m := range s.members {
		if m.name == name && m.pod != nil && m.pod.life != nil && !m.pod.life.dead && m.node.on {
			return m.pod.life
		}
	}
	return nil
}

// Gone implements agent.Mesh: it dials the address until something answers, for two seconds.
func (m *meshOf) Gone(run failover.Run, address string, then func(proved bool, later failover.Run)) {
	l := m.l
	s := l.s
	since := s.now
	var try func()
	try = func() {
		if l.dead {
			return
		}
		target := s.memberOf(run.Member)
		again := func() {
			if s.now-since > 2000*ms {
				l.deliver(func() { then(false, failover.Run{}) })
				return
			}
			s.after(5*ms, try)
		}
		switch {
		case target == nil || !target.node.on || target.node.frozenUntil > s.now || !s.net.both(l.node.place, target.node.place):
			again()
		case target.pod == nil || target.pod.ip != address:
			again() // the address is gone with its pod; nobody answers there
		case s.lies[[2]int{l.node.place, target.node.place}] > 0, target.pod.life == nil || target.pod.life.dead:
			l.deliver(func() { then(true, failover.Run{}) })
		case target.pod.life.stopped > s.now:
			again()
		default:
			answered := target.pod.life.run
			l.deliver(func() { then(false, answered) })
		}
	}
	s.after(s.net.latency(), try)
}

func (s *sim) memberOf(name string) *member {
	for _, m := range s.members {
		if m.name == name {
			return m
		}
	}
	return nil
}
