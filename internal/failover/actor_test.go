package failover

import "time"

// act lets one member decide and do, as an agent does.
func (th *theatre) act(a *actor) {
	for range 8 {
		d := Decide(th.now, a.obs, a.policy)
		again := false
		for _, action := range d.Actions {
			if !a.dead[action.Kind] {
				again = th.do(a, action) || again
			}
		}
		if !again {
			return
		}
	}
}

func (th *theatre) persist(a *actor, d *Durable) {
	d.Promise = max(d.Promise, a.obs.Durable.Promise)
	a.disk, a.obs.Durable = *d, *d
	a.obs.OnDurableTenure(th.now)
}

func (th *theatre) others(a *actor, f func(b *actor)) {
	for _, b := range th.members {
		if b != a && a.obs.Links[b.name].Open > 0 {
			f(b)
		}
	}
}

func (th *theatre) do(a *actor, action Action) bool {
	if action.Kind != SendHeartbeats {
		th.note(a, "%s epoch %d %s", action.Kind, action.Epoch, action.Note)
	}
	switch action.Kind {
	case StartEngine:
		a.offset = 0
		was := a.obs.Engine
		a.obs.Engine = Engine{State: EngineRunning, Healthy: true, Persistent: was.Persistent}
		if was.Persistent {
			a.obs.Engine.Position, a.obs.Engine.DataID, a.obs.Engine.Data = was.Position, was.DataID, true
		}
	case Fence:
		th.fence(a, "")
	case Follow:
		th.follow(a, action)
	case Remember:
		th.persist(a, action.Durable)
	case SendHeartbeats:
		th.heartbeats(a)
	case Open:
		a.obs.Engine.Writable = true
		a.obs.Engine.Position.DataEpoch = action.Epoch
		a.obs.Tenure.Opened, a.obs.Tenure.Beat, a.opened = true, 0, th.now
		a.wrote = append(a.wrote, action.Epoch)
		th.arm(a)
	case Begin:
		a.ids++
		a.obs.Begin(th.now, a.ids, action.Detected)
		th.others(a, func(b *actor) {
			r := a.obs.Request(th.now, b.obs.Self)
			th.send(a, b.name, func(b *actor) {
				reply := b.obs.OnPreVote(th.now, r)
				th.send(b, a.name, func(a *actor) { a.obs.OnPreVoteReply(reply) })
			})
		})
	case AskTurn:
		if a.asked = append(a.asked, action.Leave); th.turn != nil {
			th.after(3*time.Millisecond, func() {
				a.obs.OnTurn(Turn{Epoch: action.Epoch, Taken: th.turn(action.Leave), At: th.now, Others: []string{"another"}})
			})
		}
		return false
	case EndTurn:
		a.obs.OnTurn(Turn{})
		th.ended++
	case AskPromises:
		th.askPromises(a)
	case Grant, Renumber, Renew, WriteTerms:
		return th.cas(a, action)
	case Configure:
		a.obs.Engine.Quorum = action.Quorum
	case GiveUp:
		a.obs.GiveUp(th.now, action.Pause)
	case HandOver:
		return false
	}
	return true
}

func (th *theatre) fence(a *actor, target string) {
	a.guardAt = 0
	r := a.obs.OnFenced(th.now)
	if r == nil {
		return
	}
	r.Target, r.Final = target, target != ""
	a.obs.Release = nil
	a.obs.OnRelease(th.now, *r)
	th.others(a, func(b *actor) { th.send(a, b.name, func(b *actor) { b.obs.OnRelease(th.now, *r) }) })
}

func (th *theatre) follow(a *actor, action Action) {
	e, up := &a.obs.Engine, th.members[action.Run.Member]
	e.Following, e.FollowingEpoch = action.Run, action.Epoch
	th.after(2*time.Millisecond, func() {
		if e.Following == action.Run && up.alive && up.obs.Engine.Writable && !th.cut[[2]string{up.name, a.name}] {
			e.LinkUp = true
			e.Position = Position{DataEpoch: action.Epoch, Offset: up.obs.Engine.Position.Offset}
			e.Data = true
		}
	})
}

func (th *theatre) arm(a *actor) {
	if t := a.obs.Tenure; t != nil && t.Opened {
		a.guardAt = a.obs.servesUntil()
	}
}

func (th *theatre) heartbeats(a *actor) {
	th.others(a, func(b *actor) {
		hb := a.obs.Heartbeat(th.now, b.obs.Self, a.name)
		th.send(a, b.name, func(b *actor) { th.onHeartbeat(a.name, b, hb) })
	})
	a.obs.OnBeat(th.now)
	th.arm(a)
}

func (th *theatre) onHeartbeat(from string, b *actor, hb Heartbeat) {
	v := b.obs.OnHeartbeat(th.now, hb)
	for _, d := range []*Durable{v.Persist, v.Later} {
		if d != nil {
			th.persist(b, d)
		}
	}
	if v.Refused != "" && !v.Tell {
		return
	}
	ack, _ := b.obs.Acknowledge(th.now, hb)
	th.send(b, from, func(a *actor) {
		a.obs.OnAcknowledgement(th.now, ack)
		th.arm(a)
	})
}

func (th *theatre) askPromises(a *actor) {
	a.obs.NextPhase(th.now, PhasePromise)
	th.others(a, func(b *actor) {
		r := a.obs.Request(th.now, b.obs.Self)
		th.send(a, b.name, func(b *actor) {
			p := th.promise(b, r)
			th.send(b, a.name, func(a *actor) { a.obs.OnPromise(th.now, p) })
		})
	})
	a.obs.OnPromise(th.now, th.promise(a, a.obs.Request(th.now, a.obs.Self)))
}

func (th *theatre) promise(b *actor, r Request) Promise {
	d, why := b.obs.OnPromiseRequest(th.now, r)
	if d == nil {
		return Promise{From: b.obs.Self, To: r.From, ID: r.ID, Epoch: r.Epoch, Version: r.Version, Reason: why}
	}
	th.persist(b, d)
	e := &b.obs.Engine
	e.Following, e.FollowingEpoch, e.LinkUp = Run{}, 0, false
	return b.obs.Promised(th.now, r, true)
}

func (th *theatre) cas(a *actor, action Action) bool {
	now := th.now
	if action.Kind == Grant {
		a.obs.Attempt.Evidence = EvidenceKind(action.Note)
		a.obs.NextPhase(now, PhaseGranting)
	}
	if !th.api || th.cut[[2]string{a.name, "api"}] || a.obs.Lease.Version != th.lease.Version {
		if action.Kind == Grant {
			a.obs.GiveUp(now, 0)
		}
		return false
	}
	th.swap(func(l *Lease) {
		switch action.Kind {
		case Grant, Renumber:
			l.Epoch, l.Holder, l.Terms = action.Epoch, a.obs.Self, *action.Terms
		case WriteTerms, Renew:
			l.Terms = *action.Terms
		}
	})
	a.obs.OnLease(now, th.lease, true)
	if action.Kind == Renew || action.Kind == Renumber {
		a.obs.OnRenewed(now, now)
		th.arm(a)
	}
	return true
}
