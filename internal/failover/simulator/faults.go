package simulator

import (
	"slices"

	"understudy.dev/understudy/internal/wire"
)

// fault is one kind of thing that goes wrong. do makes it and returns how it is healed, or nil when it heals by itself.
type fault struct {
	name   string
	weight int
	do     func(s *sim, m *member) (heal func())
}

// lies are made only where they are asked for: while another way to the same member is cut as well, nobody is left who could
// contradict, and that two things lie at once is assumed not to happen (docs/design/2026-11-24-safety-argument.md).
const lies = "somebody between two members lies"

var faults = []fault{
	{"engine crashes", 10, func(_ *sim, m *member) func() { m.crashEngine(); return nil }},
	{"container is killed", 10, func(_ *sim, m *member) func() { m.killContainer(false); return nil }},
	{"agent is stopped", 6, func(s *sim, m *member) func() { m.stopAgent(s.between(200, 4000)); return nil }},
	{"machine is frozen", 5, func(s *sim, m *member) func() { m.freeze(s.between(100, 3000)); return nil }},
	{"engine hangs", 4, func(s *sim, m *member) func() { m.hangEngine(s.between(100, 3000)); return nil }},
	{"node is off", 5, func(_ *sim, m *member) func() { return m.powerOff() }},
	{"node is off and tainted", 2, func(_ *sim, m *member) func() { return m.outOfService() }},
	{"member is isolated", 8, func(s *sim, m *member) func() {
		at := m.node.place
		s.net.isolate(at, 1)
		return func() { s.net.isolate(at, -1) }
	}},
	{"link is cut", 8, func(s *sim, m *member) func() {
		at, other := m.node.place, s.other(m)
		s.net.cut(at, other, 1)
		s.net.cut(other, at, 1)
		return func() { s.net.cut(at, other, -1); s.net.cut(other, at, -1) }
	}},
	{"way is cut", 8, func(s *sim, m *member) func() {
		from, to := m.node.place, s.other(m)
		if s.chance(0.5) {
			from, to = to, from
		}
		s.net.cut(from, to, 1)
		return func() { s.net.cut(from, to, -1) }
	}},
	{"members are cut apart", 5, func(s *sim, _ *member) func() { return s.split() }},
	{"API server is cut off", 8, func(s *sim, m *member) func() {
		at := m.node.place
		s.net.cut(at, apiPlace, 1)
		return func() { s.net.cut(at, apiPlace, -1) }
	}},
	{"API server is down", 4, func(s *sim, _ *member) func() { s.api.down++; return func() { s.api.down-- } }},
	{"API server is slow", 5, func(s *sim, _ *member) func() {
		s.api.slow = 400
		return func() { s.api.slow = 0 }
	}},
	{"API server loses answers", 5, func(s *sim, _ *member) func() { s.api.flaky++; return func() { s.api.flaky-- } }},
	{"network is slow", 4, func(s *sim, _ *member) func() {
		s.net.slow = 60
		return func() { s.net.slow = 0 }
	}},
	{"connections are reset", 4, func(_ *sim, m *member) func() { m.breakConnections(false); return nil }},
	{"connections end", 3, func(_ *sim, m *member) func() { m.breakConnections(true); return nil }},
	{lies, 0, func(s *sim, m *member) func() { return m.lieTo(s.memberAt(s.other(m))) }},
	{"pod ends", 6, func(_ *sim, m *member) func() { m.deletePod(); return nil }},
	{"pod is deleted by force", 3, func(_ *sim, m *member) func() { m.replacePod(); return nil }},
	{"switchover", 6, func(s *sim, m *member) func() { s.switchover(m); return nil }},
	{"operator is away", 3, func(s *sim, _ *member) func() { s.ops[0].up = false; return func() { s.ops[0].up = true } }},
	{"operator is doubled", 3, func(s *sim, _ *member) func() { s.ops[1].up = true; return func() { s.ops[1].up = false } }},
	{"lease duration changes", 3, func(s *sim, _ *member) func() { s.otherLease = !s.otherLease; return nil }},
	{"volume is lost", 1, func(_ *sim, m *member) func() { m.loseVolume(); return nil }},
	{"wall clock jumps", 2, func(s *sim, m *member) func() { m.node.jump += s.between(300, 5000); return nil }},
	{"service is scaled", 4, func(s *sim, _ *member) func() { s.scale(); return nil }},
}

func (m *member) crashEngine() {
	if l := m.running(); l != nil && l.proc != nil {
		l.proc.end()
	}
}

func (m *member) running() *life {
	if m.pod == nil || m.pod.life == nil || m.pod.life.dead {
		return nil
	}
	return m.pod.life
}

func (m *member) killContainer(silent bool) {
	if l := m.running(); l != nil {
		l.kill(silent)
	}
}

func (m *member) stopAgent(d int64) {
	if l := m.running(); l != nil {
		l.stopped = m.s.now + d
	}
}

// freeze stops a machine with all that runs on it; CLOCK_BOOTTIME goes on.
func (m *member) freeze(d int64) {
	n, l := m.node, m.running()
	n.frozenUntil = m.s.now + d
	m.s.at(n.frozenUntil, func() {
		if l != nil {
			l.guard.fire()
		}
	})
}

func (m *member) hangEngine(d int64) {
	if l := m.running(); l != nil && l.proc != nil {
		l.proc.hung = m.s.now + d
	}
}

func (m *member) powerOff() func() {
	if !m.node.on {
		return nil
	}
	m.node.on = false
	m.killContainer(true)
	n := m.node
	return func() {
		n.on, n.tainted = true, false
		m.revive()
	}
}

// revive is what kubelet and StatefulSet do when a node is back.
func (m *member) revive() {
	switch {
	case !m.needed() || !m.node.on:
	case m.pod == nil || m.pod.gone:
		m.makePod()
	default:
		m.pod.start()
	}
}

// needed members are those that are wanted, and those that the Lease still lists.
func (m *member) needed() bool { return m.wanted || m.s.api.lease.Terms.HasMember(m.name) }

// other is the place of another member.
func (s *sim) other(m *member) int {
	for {
		if o := s.members[s.rng.IntN(len(s.members))]; o != m {
			return o.node.place
		}
	}
}

// outOfService is a node that is off, and a person who says so. Its pod never comes back; another one does.
func (m *member) outOfService() func() {
	back := m.powerOff()
	if back == nil {
		return nil
	}
	n := m.node
	m.s.after(m.s.between(100, 1500), func() { n.tainted = !n.on })
	return func() {
		if n.tainted && m.pod != nil {
			m.pod.gone = true
		}
		back()
	}
}

// split cuts the members into two sides, one of which may keep the API server and the operator.
func (s *sim) split() func() {
	side := make([]bool, places)
	for i := range side {
		side[i] = s.chance(0.5)
	}
	by := func(n int) {
		for i := range places {
			for j := range places {
				if side[i] != side[j] {
					s.net.cut(i, j, n)
				}
			}
		}
	}
	by(1)
	return func() { by(-1) }
}

// breakConnections ends a member's connections although nobody died: by resets, or by somebody between who closes them.
func (m *member) breakConnections(eof bool) {
	l := m.running()
	if l == nil {
		return
	}
	for _, c := range slices.Clone(l.conns) {
		c.closed = true
		for end := range 2 {
			c.finish(end, eof, c.s.between(0, 5))
		}
	}
}

// lieTo is a device in front of one member that ends another's connections and refuses new ones though all is well: to that
// one the process looks gone, to everybody else it does not. Who is connected to nobody else cannot be told from a dead one:
// that is not promised.
func (m *member) lieTo(other *member) func() {
	l, seen := m.running(), other.running()
	if l == nil || seen == nil || !slices.ContainsFunc(l.conns, func(c *conn) bool { return c.ends[0] != seen && c.ends[1] != seen }) {
		return nil
	}
	m.s.lies[[2]int{other.node.place, m.node.place}]++
	for _, c := range slices.Clone(l.conns) {
		for end := range 2 {
			if c.ends[end] == seen {
				c.closed = true
				c.finish(end, true, 0)
				c.finish(1-end, false, 0)
			}
		}
	}
	from, to := other.node.place, m.node.place
	return func() { m.s.lies[[2]int{from, to}]-- }
}

func (s *sim) memberAt(place int) *member {
	for _, m := range s.members {
		if m.node.place == place {
			return m
		}
	}
	return s.members[0]
}

// deletePod asks the agent to end; another pod follows.
func (m *member) deletePod() {
	l := m.running()
	if l == nil || l.leaving {
		return
	}
	l.leaving = true
	p := m.pod
	l.deliver(l.agent.Leave)
	var wait func()
	since := m.s.now
	wait = func() {
		if m.pod != p {
			return
		}
		if l.dead || m.s.now-since > 8000*ms { // the grace period
			m.s.limit = max(m.s.limit, m.s.now+int64(m.s.cfg.Quiet)) // a pod's end is a disturbance until it is over
			m.replacePod()
			return
		}
		m.s.after(50*ms, wait)
	}
	m.s.after(50*ms, wait)
	p.gone = true // its container is not started again
}

// replacePod makes another pod under the same name. A StatefulSet does that only when the old object is gone; the volume
// goes along, and no two pods have it.
func (m *member) replacePod() {
	s := m.s
	if m.pod != nil {
		m.pod.gone = true
		if l := m.running(); l != nil && m.node.on && !s.net.both(m.node.place, apiPlace) && !s.cfg.Persistent && m.elsewhere() {
			s.note(m.name, "its pod runs on, on a node that is cut off")
			s.zombies = append(s.zombies, l)
			s.endZombie(l)
			m.pod = nil
		} else {
			m.killContainer(!m.node.on)
		}
	}
	if !m.needed() {
		m.pod = nil
		return
	}
	m.revive()
}

// elsewhere moves a member to a spare node.
func (m *member) elsewhere() bool {
	for place := len(m.s.members); place < apiPlace; place++ {
		if !m.s.taken[place] {
			m.s.taken[place] = true
			m.node = m.s.newNode(place)
			return true
		}
	}
	return false
}

// endZombie kills a container whose pod is gone when its kubelet learns of that.
func (s *sim) endZombie(l *life) {
	s.after(s.between(100, 500), func() {
		switch {
		case l.dead:
		case l.node.on && s.net.both(l.node.place, apiPlace):
			l.kill(false)
		default:
			s.endZombie(l)
		}
	})
}

func (m *member) loseVolume() {
	if m.s.cfg.Quorum > 0 && m.s.volumesLost() {
		return // one at a time: rule SyncQuorum promises no more
	}
	m.killContainer(!m.node.on)
	m.lost++
	m.volume = &volume{}
	m.replacePod()
}

func (s *sim) switchover(target *member) {
	l := s.api.lease
	if l.Epoch == 0 || l.Holder.Member == target.name {
		return
	}
	s.ops[0].tell(l.Holder.Member, wire.Frame{Handover: &wire.Handover{ID: s.nextID("h"), Epoch: l.Epoch, Target: target.name}})
}

func (s *sim) leaseMillis() int64 {
	if s.otherLease {
		return 2500
	}
	return 1000
}

// scale adds the lowest member that is not wanted or removes the highest that is.
func (s *sim) scale() {
	if !s.cfg.Scaling {
		return
	}
	n := 0
	for _, m := range s.members {
		if m.wanted {
			n++
		}
	}
	if (s.chance(0.5) && n < len(s.members)) || n == 1 {
		m := s.members[n]
		m.wanted = true
		if m.pod == nil || (m.pod.gone && m.running() == nil) { // what ended while it was not wanted has no successor yet
			m.makePod()
		}
		return
	}
	m := s.members[n-1]
	m.wanted = false
	s.removeLater(m)
}

// removeLater deletes the pod of a member when the Lease does not list it any more.
func (s *sim) removeLater(m *member) {
	s.after(100*ms, func() {
		switch {
		case m.wanted || m.pod == nil:
		case s.api.lease.Terms.HasMember(m.name) || m.running() == nil:
			s.removeLater(m)
		default:
			m.pod.gone = true
			m.killContainer(!m.node.on)
			m.pod = nil
		}
	})
}
