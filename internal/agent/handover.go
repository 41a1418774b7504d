package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

const (
	// handoverLimit bounds the time in which writes are held back; after it the primary goes on.
	handoverLimit = 3 * time.Second
	// pauseSlack is how much longer the engine itself holds them back, so that it does not let go before the fence.
	pauseSlack = time.Second
	// leaveSettle is how long an ending primary serves on before it hands over. The API server is busy with the deletion
	// then (kubelet, endpoints, budgets), and the handover's two writes would queue behind that while clients wait.
	leaveSettle = 700 * time.Millisecond
	// relayLinger is how long an ending agent leads clients to its successor before it closes their connections: kube-proxy
	// may take a second before it begins with a new route.
	relayLinger = 1500 * time.Millisecond
	// successorLimit is how long an ending agent waits for somebody to take over, as a voter.
	successorLimit = 3 * time.Second
)

// handover is one under way.
type handover struct {
	epoch   failover.Epoch
	target  string
	begun   failover.Instant
	leaves  bool // this pod is about to be ended
	held    bool // writes are held back, and final is where they stopped
	final   failover.Position
	replies []func(wire.HandoverReply)
}

// beginHandover holds writes back, waits until the target has all, fences, and says Released (rule Handover). Until the
// fence a failure leaves this run the primary of the same epoch.
func (a *Agent) beginHandover(target string, reply func(wire.HandoverReply)) {
	refuse := func(reason, message string) {
		if reply != nil {
			reply(wire.HandoverReply{Refused: true, Reason: reason, Message: message})
		}
	}
	t := a.obs.Tenure
	if t == nil || !t.Opened || a.fencing {
		refuse(wire.NotPrimary, a.Self.Member+" is not the serving primary")
		return
	}
	if a.handover != nil {
		if reply != nil && (target == "" || target == a.handover.target) {
			a.handover.replies = append(a.handover.replies, reply)
			return
		}
		refuse(wire.HandoverUnderWay, "a handover to "+a.handover.target+" is under way")
		return
	}
	best, why := a.chooseTarget(target)
	if best == "" {
		if a.leaving && reply == nil { // who asked may have named a target; others are looked at when it ends
			a.Log.Info("Nobody can take over; ends without a handover", "why", why)
			a.fence("its pod is being ended and nobody can take over")
			return
		}
		refuse("NoCandidate", why)
		return
	}
	a.handover = &handover{epoch: t.Epoch, target: best, begun: a.now()}
	if reply != nil {
		a.handover.replies = append(a.handover.replies, reply)
	}
	a.Log.Info("Hands over", "target", best, "epoch", t.Epoch)
	h := a.handover
	a.holdClients(func() {
		if t := a.obs.Tenure; t == nil || t.Epoch != h.epoch || !t.Opened || a.fencing {
			a.onDrained(h, fmt.Errorf("epoch %d ended before writes were held back", h.epoch))
			return
		}
		h.begun = a.now()
		a.runHandover(h)
	})
}

// chooseTarget takes the wanted member if it may become primary, or the best that says it may.
func (a *Agent) chooseTarget(want string) (string, string) {
	best, rank := "", failover.Rank{}
	for m, c := range a.obs.Tenure.Acks {
		l := a.out[m]
		if m == a.Self.Member || l == nil || l.Run != c.Run || (want != "" && m != want) {
			continue
		}
		if !c.Eligible || a.now().Sub(c.Arrived) > a.obs.Lease.Terms.SuspectAfter() {
			continue
		}
		r := failover.Rank{Eligible: true, Position: c.Position, Ordinal: ordinalOf(m), Preferred: slices.Contains(a.obs.Lease.Terms.Preferred, m)}
		if best == "" || goesBefore(r, rank) {
			best, rank = m, r
		}
	}
	switch {
	case best != "":
		return best, ""
	case want != "":
		return "", want + " does not answer, or a guard refuses it: see the condition FailoverPossible of the service"
	default:
		return "", "no replica answers that it could take over"
	}
}

// preferredLag is how much less than another a preferred member may have and still be handed over to: it gets the rest while writes
// are held back, which a healthy replica does in milliseconds.
const preferredLag = 1 << 20

// goesBefore orders the targets of a handover. Which replica was heard last has most, so among those that are nearly equal where
// they are counts first.
func goesBefore(a, b failover.Rank) bool {
	apart := a.Position.Offset - b.Position.Offset
	if a.Preferred != b.Preferred && a.Position.DataEpoch == b.Position.DataEpoch && max(apart, -apart) <= preferredLag {
		return a.Preferred
	}
	return a.Better(b)
}

// runHandover holds writes back and asks the target for its position until it has the final one.
func (a *Agent) runHandover(h *handover) {
	var report engine.Report
	var err error
	a.World.After(handoverLimit, func() {
		if a.handover == h {
			a.onDrained(h, fmt.Errorf("%s did not reach the final position %d within %s", h.target, h.final.Offset, handoverLimit))
		}
	})
	a.heldUntil = a.now().Add(handoverLimit + pauseSlack)
	pause := func(ctx context.Context) { report, err = a.Engine.Pause(ctx, handoverLimit+pauseSlack) }
	a.World.Beside(orderTimeout, pause, func() {
		switch {
		case a.handover != h:
		case err != nil:
			a.onDrained(h, fmt.Errorf("holding back writes: %w", err))
		default:
			h.held, h.final = true, failover.Position{DataEpoch: h.epoch, Offset: report.Offset}
			a.askPosition(h)
		}
	})
}

func (a *Agent) askPosition(h *handover) {
	if l := a.out[h.target]; l != nil {
		l.Peer.Send(wire.Frame{PositionRequest: &wire.PositionRequest{Epoch: h.epoch, AtMin: h.final}})
	}
}

// onPosition takes in what the target of a handover has.
func (a *Agent) onPosition(member string, p wire.PositionReport) {
	h := a.handover
	switch {
	case h == nil || !h.held || member != h.target || p.Epoch != h.epoch:
	case p.Position.Less(h.final):
		a.askPosition(h)
	default:
		a.onDrained(h, nil)
	}
}

// onDrained fences when the target has everything, or lets writes go on.
func (a *Agent) onDrained(h *handover, err error) {
	if a.handover == h {
		a.handover = nil
	}
	t := a.obs.Tenure
	if err == nil && (t == nil || t.Epoch != h.epoch || a.fencing) {
		err = fmt.Errorf("epoch %d ended during the handover", h.epoch)
	}
	if held := a.now().Sub(h.begun); err == nil && held > handoverLimit+pauseSlack/2 {
		err = fmt.Errorf("writes may have gone on: they were held back %s ago", held)
	}
	if err != nil {
		a.Log.Error(err, "The handover failed; goes on as primary", "target", h.target)
		if a.obs.Serving() {
			a.resume()
		}
		a.letClients()
		a.replyHandover(h, wire.HandoverReply{Refused: true, Reason: "HandoverFailed", Message: err.Error()})
		if a.leaving {
			a.fence("its pod is being ended and the handover failed")
		}
		return
	}
	a.release = failover.Release{Epoch: h.epoch, Position: h.final, Final: true, Target: h.target}
	a.obs.Engine.Position = h.final
	a.parting = h.leaves && a.dispensable()
	a.fence("it handed over to " + h.target)
	a.letClientsWhenServed(h.epoch)
	a.replyHandover(h, wire.HandoverReply{Target: h.target})
}

// dispensable reports whether the members but for this one and its successor are enough for what the successor's writes need.
func (a *Agent) dispensable() bool {
	t := a.obs.Lease.Terms
	return len(t.Names())-2 >= max(t.Quorum, t.MinReplicasToWrite, 1)
}

func (a *Agent) resume() {
	a.orders.do(orderTimeout, func(ctx context.Context) {
		if err := a.Engine.Resume(ctx); err != nil {
			a.Log.Error(err, "Writes could not be let go on; they do by themselves after the pause", "limit", handoverLimit)
		}
	}, func() {})
}

func (a *Agent) replyHandover(h *handover, r wire.HandoverReply) {
	for _, reply := range h.replies {
		reply(r)
	}
}

// answerPosition answers when the asked position is reached or a little time is over; the asker asks again.
func (a *Agent) answerPosition(l *Link, r wire.PositionRequest) {
	until := a.now().Add(500 * time.Millisecond)
	var again func()
	again = func() {
		p := a.obs.Engine.Position
		if now := a.now(); p.Less(r.AtMin) && now < until {
			a.World.After(time.Millisecond, func() { a.probe(again) })
			return
		}
		l.Peer.Send(wire.Frame{Position: &wire.PositionReport{Epoch: r.Epoch, Position: p}})
	}
	a.probe(again)
}

// endIfDone ends an agent that was asked to, once somebody else serves or nobody will, and its engine is dead.
func (a *Agent) endIfDone() {
	if !a.leaving || a.obs.Tenure != nil || a.ended {
		return
	}
	now := a.now()
	held := a.obs.Ended == a.obs.Lease.Epoch && a.obs.Ended > 0
	// Whose word comes first, the successor's or the Lease's watch, is chance.
	succeeded := max(a.obs.Heard.Epoch, a.obs.Lease.Epoch) > a.obs.Ended
	if held && !succeeded && now.Sub(a.releasingSince()) < successorLimit {
		return
	}
	if a.proc.pid != 0 {
		a.fence("its pod is being ended")
	}
	if a.fencing || a.doing.is(failover.StartEngine) {
		return
	}
	if left := relayLinger - now.Sub(a.fencedAt); a.relaying != 0 && succeeded && left > 0 {
		a.wakeIn(left) // clients still come to this address
		return
	}
	if a.relaying != 0 && succeeded && !a.clientsRenewed() {
		return
	}
	if held && !succeeded && !a.releaseWritten() {
		return
	}
	if a.holding && now.Sub(a.releasingSince()) < 2*successorLimit {
		a.wakeIn(poolerWatch) // nobody else knows of the clients that this one held back
		return
	}
	a.ended = true
	for _, l := range a.links {
		l.Peer.Close("its pod is being ended")
	}
	a.Log.Info("Ends")
}

// releasingSince is when an ending agent was ready to be succeeded.
func (a *Agent) releasingSince() failover.Instant { return max(a.leftAt, a.fencedAt) }

// releaseWritten writes the release into the Lease for those who did not hear it, and reports whether that was tried.
func (a *Agent) releaseWritten() bool {
	if a.obs.Lease.Terms.Released == a.obs.Ended || a.now().Sub(a.releasingSince()) > 2*successorLimit {
		return true
	}
	l := a.obs.Lease
	l.Terms.Released = a.obs.Ended
	a.swap(failover.WriteTerms, l)
	return false
}
