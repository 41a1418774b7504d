package simulator

import (
	"slices"
	"strconv"
	"time"

	"understudy.dev/understudy/internal/agent"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// operator looks at the service again and again, decides with the code that ships and writes under the version it read.
type operator struct {
	s       *sim
	index   int
	up      bool
	silent  map[string]int64
	link    map[*life]*agent.Link
	reports map[string]failover.MemberReport
}

func newOperator(s *sim, index int) *operator {
	o := &operator{s: s, index: index, up: true, silent: map[string]int64{}, link: map[*life]*agent.Link{}}
	s.every(100, 300, o.look)
	return o
}

// mute is the operator's end of a connection in a world in which it looks for itself.
type mute struct{ o *operator }

func (m mute) Send(f wire.Frame) {
	if r := f.HandoverReply; r != nil && r.Refused {
		m.o.s.note("op", "the handover is refused: %s %s", r.Reason, r.Message)
	}
}
func (mute) Close(string)     {}
func (mute) RemoteIP() string { return "operator" }

// tell sends a frame to a member, if it can be reached.
func (o *operator) tell(name string, f wire.Frame) {
	l := o.s.lifeOf(name)
	if l == nil || !o.s.net.both(operatorPlace, l.node.place) {
		return
	}
	if o.link[l] == nil {
		o.link[l] = &agent.Link{Peer: mute{o}}
	}
	link := o.link[l]
	o.s.after(o.s.net.latency(), func() { l.deliver(func() { l.agent.OnFrame(link, f) }) })
}

func (o *operator) look() {
	s := o.s
	if !o.up || !s.api.reachable(operatorPlace) {
		return
	}
	view := failover.OperatorView{Known: s.api.route, Wanted: s.terms(), Sure: true, Reports: map[string]failover.MemberReport{}, Silent: map[string]time.Duration{}}
	if s.api.exists {
		l := s.api.current()
		view.Lease = &l
		o.proofs(l)
	}
	for _, m := range s.members {
		o.hear(m, &view)
	}
	o.reports = view.Reports
	o.policy(view)
	if o.handsOver(view) {
		return
	}
	step := failover.DecideLease(view)
	if step.Write == nil {
		return
	}
	if s.cfg.Without&failover.JointVoters != 0 && len(step.Write.Terms.Next) > 0 {
		step.Write.Terms.Members, step.Write.Terms.Next = step.Write.Terms.Next, nil
	}
	l, who := *step.Write, "operator"+strconv.Itoa(o.index)
	s.after(s.between(1, 6)+s.between(0, s.api.slow), func() { // the write takes its time, and others write meanwhile
		if !s.api.reachable(operatorPlace) {
			return
		}
		if step.Create {
			if !s.api.exists {
				s.api.put(l, who+" ("+step.Why+")")
			}
			return
		}
		_, _ = s.api.swap(l, who+" ("+step.Why+")")
	})
}

func (o *operator) hear(m *member, view *failover.OperatorView) {
	s := o.s
	l := s.lifeOf(m.name)
	if l == nil || !s.net.both(operatorPlace, l.node.place) || s.now < l.halted() {
		if o.silent[m.name] == 0 {
			o.silent[m.name] = s.now
		}
		view.Silent[m.name] = time.Duration(s.now - o.silent[m.name])
		return
	}
	o.silent[m.name] = 0
	st := l.agent.Status()
	view.Reports[m.name] = failover.MemberReport{Run: st.Run, Epoch: st.Epoch, Promise: st.Promise, HasData: st.HasData, Running: st.Running, Serving: st.Serving,
		DataID: st.DataIdentity, Lease: l.agent.Register()}
}

// proofs are what the API server shows of containers, and what a person said of nodes.
func (o *operator) proofs(l failover.Lease) {
	s := o.s
	proof := wire.Proof{Gone: map[string]string{}}
	for _, m := range s.members {
		if m.pod == nil {
			continue
		}
		if m.name == l.Holder.Member && m.pod.uid == l.Holder.PodUID {
			switch {
			case m.node.on && m.pod.ended[l.Holder.String()]:
				proof.Evidence = append(proof.Evidence, failover.Evidence{Kind: failover.ContainerTerminated, Run: l.Holder})
			case s.cfg.Available && s.quiet && m.running() == nil:
				proof.Evidence = append(proof.Evidence, failover.Evidence{Kind: failover.Asserted, Run: l.Holder, Epoch: l.Epoch}) // a person looked
			case m.node.tainted:
				proof.Evidence = append(proof.Evidence, failover.Evidence{Kind: failover.NodeOutOfService, Run: l.Holder, Epoch: l.Epoch})
			}
		}
		if (s.cfg.Available || len(l.Terms.Members) == 1) && s.quiet && m.name == l.Holder.Member && m.pod.uid != l.Holder.PodUID {
			proof.Evidence = append(proof.Evidence, failover.Evidence{Kind: failover.Asserted, Run: l.Holder, Epoch: l.Epoch}) // a person looked
		}
		if m.node.tainted {
			proof.Gone[m.name] = m.pod.uid
		}
	}
	if len(proof.Evidence)+len(proof.Gone) == 0 {
		return
	}
	for _, m := range s.members {
		o.tell(m.name, wire.Frame{Proof: &proof})
	}
}

// policy tells the holder what is asked for.
func (o *operator) policy(view failover.OperatorView) {
	if view.Lease == nil || view.Lease.Epoch == 0 {
		return
	}
	want := o.s.terms()
	want.LeaseMillis = o.s.leaseMillis()
	o.tell(view.Lease.Holder.Member, wire.Frame{Policy: &wire.Policy{Terms: want}})
}

// handsOver asks a primary that is to be removed to hand over first.
func (o *operator) handsOver(view failover.OperatorView) bool {
	if view.Lease == nil || view.Lease.Epoch == 0 {
		return false
	}
	holder := view.Lease.Holder.Member
	if slices.ContainsFunc(view.Wanted.Members, func(m failover.MemberEntry) bool { return m.Name == holder }) && view.Lease.Terms.Stays(holder) {
		return false
	}
	if !slices.ContainsFunc(view.Wanted.Members, func(m failover.MemberEntry) bool { return view.Lease.Terms.HasMember(m.Name) }) {
		return false
	}
	target := view.Wanted.Members[o.s.rng.IntN(len(view.Wanted.Members))].Name
	if view.Reports[holder].Serving && view.Lease.Terms.HasMember(target) {
		o.tell(holder, wire.Frame{Handover: &wire.Handover{ID: "scale", Epoch: view.Lease.Epoch, Target: target}})
	}
	return true
}
