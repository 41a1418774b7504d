package failover

import (
	"fmt"
	"strings"
	"time"
)

const (
	// turnAgain is the pause before a turn that was refused is asked for again, at first.
	turnAgain = 100 * time.Millisecond
	// turnSlower: the pause grows by so much of what was waited already.
	turnSlower = 10
	// turnStep is for how long, for each priority above its own, a service leaves turns free for those of higher priority. All services of a zone that is
	// lost detect it within a heartbeat or two, so these ask first.
	turnStep = 250 * time.Millisecond
	// turnMost bounds what the limit costs: a service that has waited so long fails over all the same.
	turnMost = 10 * time.Second
	// turnKept is for how long a turn that was taken holds for one attempt after the other. Then it is asked for again, which makes it young again, before
	// others take it for abandoned (internal/turns).
	turnKept = 10 * time.Second
)

// Turn is the answer to a service that asked whether it may fail over now, as far as the policy's limit goes.
type Turn struct {
	Epoch  Epoch // that it is to begin
	Taken  bool
	At     Instant
	Others []string // services that fail over now
}

// OnTurn takes in an answer. Where nobody can be asked, nothing limits: the Lease itself is the next thing that must be written.
func (o *Observation) OnTurn(t Turn) {
	o.Turn = t
	if a := o.Attempt; a != nil && a.Epoch == t.Epoch {
		a.waited = true
	}
}

// askPromises goes on with an attempt that nobody objects to, when it is this service's turn. What another member is asked to do by somebody's wish
// waits for no turn. The limit only ever delays: it says nothing of who may write.
func askPromises(now Instant, o *Observation, a *Attempt, d *Decision) {
	in := o.turnIn(now, a)
	if _, stands := reasonToStand(now, o, d); in != 0 && !stands {
		d.do(Action{Kind: GiveUp, Epoch: a.Epoch, Note: "while it waited for its turn, the primary came back"})
		return
	}
	switch {
	case in == 0 && a.waited && since(now, a.Began) > preVoteTimeout && !a.Released:
		d.do(Action{Kind: GiveUp, Epoch: a.Epoch, Note: "its turn came, and what the others said before that is old: they are asked again"})
	case in == 0:
		d.do(Action{Kind: AskPromises, Epoch: a.Epoch})
	case in < 0:
		d.do(Action{Kind: AskTurn, Epoch: a.Epoch, Leave: o.leaves(now, a, o.Lease.Terms.Behind), GroupLeave: o.leaves(now, a, o.Lease.Terms.GroupBehind)})
		d.lookAgainIn(turnAgain)
	default:
		d.note("does not take over yet, since it is not this service's turn: %s %s", failingOver(o.Turn.Others), limitOf(o.Lease.Terms))
		d.lookAgainIn(in)
	}
}

// turnIn is when the attempt may go on: 0 now, negative when it must ask first, else when to ask again.
func (o *Observation) turnIn(now Instant, a *Attempt) time.Duration {
	t := o.Turn
	switch {
	case o.Lease.Terms.Turns <= 0 || o.asked() || since(now, a.Detected) >= turnMost:
		return 0
	case t.Epoch != a.Epoch || since(now, t.At) >= turnKept:
		return -1
	case t.Taken:
		return 0
	}
	// The longer it waits, the less often it asks; ordinals keep the members of a service apart.
	pause := turnAgain + since(now, a.Detected)/turnSlower + time.Duration(o.Ordinal)*turnAgain/8
	if left := pause - since(now, t.At); left > 0 {
		return left
	}
	return -1
}

// leaves is how many turns the service leaves to others now, behind so many priorities.
func (o *Observation) leaves(now Instant, a *Attempt, behind int) int {
	if since(now, a.Detected) >= time.Duration(behind)*turnStep {
		return 0
	}
	return behind
}

// limitOf says which limit holds a failover up, as the end of a sentence.
func limitOf(t Terms) string {
	switch {
	case t.TurnsOf == "":
		return fmt.Sprintf("under the same policy, whose budget.maxConcurrentFailovers is %d", t.Turns)
	case t.GroupTurns == 0:
		return fmt.Sprintf("in the cluster, where %d may at once", t.Turns)
	}
	return fmt.Sprintf("in the cluster, where %d may at once, and %d under the same policy", t.Turns, t.GroupTurns)
}

func failingOver(others []string) string {
	const told = 5
	switch n := len(others); {
	case n == 0:
		return "those of higher priority go first"
	case n > told:
		return fmt.Sprintf("%s and %d more fail over", strings.Join(others[:told], ", "), n-told)
	default:
		return strings.Join(others, ", ") + " fail over"
	}
}
