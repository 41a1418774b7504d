package simulator

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/supervisor"
)

func exit(pid int) supervisor.Exit { return supervisor.Exit{PID: pid, Status: unix.WaitStatus(9)} }

// ledger is what clients were told.
type ledger struct {
	next  int32
	all   []ack
	known map[int32]bool // acknowledged
}

type ack struct {
	id    int32
	by    *process
	epoch failover.Epoch // of by, when it acknowledged
	// kept: no later primary may lack it.
	kept bool
}

// clientsWrite lets one client write to every engine that lets it: clients hold connections to old primaries for long.
func (s *sim) clientsWrite() {
	s.each(func(p *process) {
		if p.primary && p.exposed && !p.halted() && s.now >= p.paused {
			s.writes.next++
			p.write(s.writes.next)
		}
	})
}

// engines are those of a member that run: of its pod, and of pods that were deleted by force.
func (m *member) engines() []*process {
	if m.pod != nil && m.pod.life != nil && m.pod.life.proc != nil && m.pod.life.proc.alive {
		return []*process{m.pod.life.proc}
	}
	return nil
}

// each calls f for every engine that runs, those of zombies included.
func (s *sim) each(f func(p *process)) {
	for _, m := range s.members {
		if m.pod != nil && m.pod.life != nil && m.pod.life.proc != nil && m.pod.life.proc.alive {
			f(m.pod.life.proc)
		}
	}
	for _, l := range s.zombies {
		if l.proc != nil && l.proc.alive {
			f(l.proc)
		}
	}
}

// acknowledged takes in that a client was told that its write is safe.
func (s *sim) acknowledged(p *process, id int32) {
	if s.writes.known == nil {
		s.writes.known = map[int32]bool{}
	}
	if s.writes.known[id] {
		return
	}
	s.writes.known[id] = true
	s.writes.all = append(s.writes.all, ack{id, p, p.epoch, s.keeps(p)})
	if s.cfg.Quorum == 0 {
		return
	}
	newest := s.newest()
	if newest != nil && newest != p && newest.epoch > p.epoch && !slices.Contains(newest.log, id) {
		s.broke("I1", "%s of epoch %d acknowledged write %d, which %s of epoch %d lacks", p, p.epoch, id, newest, newest.epoch)
	}
}

// keeps reports whether what an engine acknowledges now is to be on every later primary: the service is synchronous and, where that changes on the way, the
// Lease has a set of its epoch.
func (s *sim) keeps(p *process) bool {
	if !s.cfg.Modes && !s.cfg.Continues {
		return s.cfg.Quorum > 0
	}
	return s.promised[p.epoch] || s.promised[p.l.agent.Holds()]
}

// promise takes in what the Lease promises. One that says that the service is asynchronous takes all promises back: nothing that was acknowledged before need be
// on the next primary.
func (s *sim) promise(l failover.Lease) {
	for _, set := range l.Terms.Sets {
		s.promised[set.Epoch] = true // also with a quorum of 0: then nobody but its primary may take over
	}
	if l.Terms.Quorum > 0 {
		return
	}
	clear(s.promised)
	for i := range s.writes.all {
		s.writes.all[i].kept = false
	}
}

// newest is the promoted engine of the highest epoch.
func (s *sim) newest() *process {
	var best *process
	s.each(func(p *process) {
		if p.primary && (best == nil || p.epoch > best.epoch) {
			best = p
		}
	})
	return best
}

// opened checks what a new primary has when it opens.
func (s *sim) opened(p *process) {
	has := make(map[int32]bool, len(p.log))
	for _, id := range p.log {
		has[id] = true
	}
	kept := s.writes.all[:0]
	lost := 0
	for _, a := range s.writes.all {
		// Where every write waits, an older holder may open late, when the next one has acknowledged already: it confirms nothing.
		if has[a.id] || (s.cfg.EveryWaits && a.epoch > p.epoch) {
			kept = append(kept, a)
			continue
		}
		lost++
		if a.kept && (s.cfg.Persistent || s.someoneHas(a.id)) {
			s.broke("I3", "%s opened epoch %d without write %d, which %s had acknowledged in epoch %d", p, p.epoch, a.id, a.by, a.epoch)
			return
		}
	}
	s.writes.all = kept // what was lost once is not counted again
	s.res.Lost += lost
}

// someoneHas reports whether the engine of a member has a write: without volumes what none has is gone. That of a pod that was
// deleted by force is no member's any more.
func (s *sim) someoneHas(id int32) bool {
	return slices.ContainsFunc(s.members, func(m *member) bool {
		return m.pod != nil && m.pod.life != nil && m.pod.life.proc != nil && m.pod.life.proc.alive && slices.Contains(m.pod.life.proc.log, id)
	})
}

// check looks at what must hold at every instant.
func (s *sim) check() {
	if s.cfg.Quorum > 0 || s.cfg.Available {
		return
	}
	var first *process
	s.each(func(p *process) {
		if !p.primary || !p.exposed || p.halted() {
			return
		}
		if first != nil {
			s.broke("I1", "%s of epoch %d and %s of epoch %d accept writes at once", first, first.epoch, p, p.epoch)
			return
		}
		first = p
	})
}

// granted checks a change of holder (I6).
func (s *sim) granted(before, l failover.Lease) {
	if before.Holder.IsZero() || before.Holder == l.Holder {
		return
	}
	s.res.Coverage["takeovers"]++
}

// routed is a write of the primary's slice (I2, I5).
func (s *sim) routed(epoch failover.Epoch, to []string) {
	a := &s.api
	s.note("api", "the route of epoch %d leads to %s", epoch, strings.Join(to, ","))
	if epoch < a.route {
		s.broke("I2", "the route fell from epoch %d to %d", a.route, epoch)
	}
	if len(to) > 1 {
		s.broke("I5", "the route of epoch %d names two: %v", epoch, to)
	}
	a.route, a.endpoints = epoch, to
	a.routeVersion++
}

// checkEnd looks at what must be true when faults are long over (I7).
func (s *sim) checkEnd() {
	var serving []string
	for _, m := range s.members {
		for _, p := range m.engines() {
			if p.primary && p.exposed {
				serving = append(serving, m.name)
			}
		}
	}
	if len(serving) != 1 {
		if s.cfg.Persistent && s.volumesLost() && len(serving) == 0 {
			s.res.Stalled = true // nobody has the data of the last epoch for certain, and engines keep theirs: a person decides
			return
		}
		if !s.cfg.Persistent && s.tooFewCopies() && len(serving) == 0 {
			s.res.Stalled = true // one copy is left, which may lack what another had that is gone: a person decides
			return
		}
		s.broke("I7", "%d serve long after the last fault: %v", len(serving), serving)
		return
	}
	for _, m := range s.members {
		if !m.wanted || m.name == serving[0] {
			continue
		}
		engines := m.engines()
		if len(engines) == 0 || engines[0].source == nil || !engines[0].source.live {
			if l := m.running(); l != nil {
				s.note(m.name, "%s", l.agent.Dump())
				s.note("op", "wants %v, heard %+v", s.terms().Members, s.ops[0].reports)
			}
			s.broke("I7", "%s follows nobody long after the last fault, and %s serves", m.name, serving[0])
			return
		}
	}
	primary := s.memberOf(serving[0])
	if want := primary.pod.ip; s.api.route != s.api.lease.Epoch || !slices.Equal(s.api.endpoints, []string{want}) {
		s.broke("I5", "the route of epoch %d leads to %v, and %s (%s) serves epoch %d", s.api.route, s.api.endpoints, primary.name, want, s.api.lease.Epoch)
	}
}

// tooFewCopies reports that some of the data that a synchronous set names is there, and not enough of it to take over.
func (s *sim) tooFewCopies() bool {
	has := func(name, named string) (there, counts bool) {
		l := s.lifeOf(name)
		if l == nil || named == "" {
			return false, false
		}
		position, identity := l.agent.Has()
		return identity == named, identity == named && !position.Inexact
	}
	terms := s.api.lease.Terms
	for _, set := range terms.Sets {
		if primary, _ := has(set.Primary, set.PrimaryData); set.Epoch < terms.Opened || primary {
			continue
		}
		n, left := 0, false
		for name, named := range set.Replicas {
			there, counts := has(name, named)
			if left = left || there; counts {
				n++
			}
		}
		if left && n+set.Quorum <= len(set.Replicas) {
			return true
		}
	}
	return false
}

func (s *sim) volumesLost() bool {
	return slices.ContainsFunc(s.members, func(m *member) bool { return m.lost > 0 })
}
