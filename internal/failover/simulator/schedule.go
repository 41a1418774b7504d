package simulator

import "slices"

// nextFault makes one fault and plans the next.
func (s *sim) nextFault(end int64) {
	if s.now >= end {
		return
	}
	s.after(s.between(50, 1200), func() { s.nextFault(end) })
	f := s.drawFault()
	m := s.members[s.rng.IntN(len(s.members))]
	if s.chance(0.5) { // the primary is where it hurts
		if holder := s.memberOf(s.api.lease.Holder.Member); holder != nil {
			m = holder
		}
	}
	if m.pod == nil {
		return
	}
	s.note("", "FAULT %s (%s)", f.name, m.name)
	s.res.Coverage[f.name]++
	heal := f.do(s, m)
	if heal == nil {
		return
	}
	done := false
	undo := func() {
		if !done {
			done = true
			s.note("", "healed: %s (%s)", f.name, m.name)
			heal()
		}
	}
	s.undo = append(s.undo, undo)
	s.after(s.between(100, 4000), undo)
}

// nextMode has another spec ask for the other mode, now and then before the first change is carried out.
func (s *sim) nextMode(end int64) {
	if s.now >= end {
		return
	}
	s.asynchronous = !s.asynchronous
	s.note("", "the spec asks for synchronous replication: %t", !s.asynchronous)
	s.res.Coverage["modes"]++
	wait := s.between(500, 4000)
	if s.chance(0.2) {
		wait = s.between(1, 300)
	}
	s.after(wait, func() { s.nextMode(end) })
}

func (s *sim) drawFault() fault {
	list := faults
	if len(s.cfg.Only) > 0 {
		list = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return !slices.Contains(s.cfg.Only, f.name) })
		for i := range list {
			list[i].weight = max(list[i].weight, 1)
		}
	}
	total := 0
	for _, f := range list {
		total += f.weight
	}
	at := s.rng.IntN(total)
	for _, f := range list {
		if at -= f.weight; at < 0 {
			return f
		}
	}
	return list[0]
}

// heal ends every fault that goes on.
func (s *sim) heal() {
	s.note("", "all faults are over")
	s.quiet = true
	for _, undo := range s.undo {
		undo()
	}
	s.undo = nil
	s.ops[0].up, s.ops[1].up = true, false
	for _, m := range s.members {
		m.node.frozenUntil = min(m.node.frozenUntil, s.now)
		if m.pod == nil || m.pod.life == nil {
			continue
		}
		l := m.pod.life
		l.stopped = min(l.stopped, s.now)
		if l.proc != nil {
			l.proc.hung = min(l.proc.hung, s.now)
		}
		l.thawAt(s.now)
	}
}
