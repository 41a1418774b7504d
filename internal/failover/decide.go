package failover

import (
	"fmt"
	"time"
)

// ActionKind names something to do.
type ActionKind string

// The actions. Each is idempotent: doing one that is under way or done changes nothing.
const (
	// StartEngine starts the engine's process, reachable by nobody.
	StartEngine ActionKind = "StartEngine"
	// Fence kills every process of the engine, reaps them, and says Released if this run held the Lease.
	Fence ActionKind = "Fence"
	// Follow makes the engine follow a run.
	Follow ActionKind = "Follow"
	// Remember puts Durable on disk.
	Remember ActionKind = "Remember"
	// SendHeartbeats sends one heartbeat to every member.
	SendHeartbeats ActionKind = "SendHeartbeats"
	// Open promotes the engine and routes clients to it.
	Open ActionKind = "Open"
	// Begin starts an attempt and asks for pre-votes.
	Begin ActionKind = "Begin"
	// AskTurn asks whether fewer services fail over at once than the policy allows, leaving Leave turns free, and
	// GroupLeave of those of its policy where those of the cluster are counted.
	AskTurn ActionKind = "AskTurn"
	// EndTurn lets another service have the turn.
	EndTurn ActionKind = "EndTurn"
	// AskPromises asks every member, this one included, for a promise.
	AskPromises ActionKind = "AskPromises"
	// Grant swaps the Lease to the attempt's epoch and this run.
	Grant ActionKind = "Grant"
	// GiveUp ends the attempt.
	GiveUp ActionKind = "GiveUp"
	// Renumber swaps the Lease to the next epoch for this same run.
	Renumber ActionKind = "Renumber"
	// Renew swaps the Lease for itself: the API server's acknowledgement, where it votes (rule Voters, two members).
	Renew ActionKind = "Renew"
	// Configure tells the engine how many replicas its acknowledgements wait for.
	Configure ActionKind = "Configure"
	// Detach cuts the engine off everybody: the Lease does not list this member any more.
	Detach ActionKind = "Detach"
	// WriteTerms swaps the Lease's terms for Terms, epoch and holder unchanged.
	WriteTerms ActionKind = "WriteTerms"
	// HandOver hands the right to write to another member (rule Handover).
	HandOver ActionKind = "HandOver"
)

// Action is one thing to do, with the epoch it belongs to.
type Action struct {
	Kind       ActionKind
	Epoch      Epoch
	Run        Run
	Address    string
	Note       string
	Durable    *Durable
	Terms      *Terms
	Quorum     int
	Leave      int
	GroupLeave int
	Detected   Instant
	Pause      time.Duration
}

// Decision is what to do next.
type Decision struct {
	Actions []Action
	Verdict MemberVerdict
	// Recheck is when to look again if nothing happens.
	Recheck time.Duration
	// Notes are the sentences that status, event and log repeat.
	Notes []string
}

func (d *Decision) do(a Action) { d.Actions = append(d.Actions, a) }

func (d *Decision) lookAgainIn(t time.Duration) {
	if t < time.Millisecond {
		t = time.Millisecond
	}
	if d.Recheck == 0 || t < d.Recheck {
		d.Recheck = t
	}
}

func (d *Decision) note(format string, args ...any) {
	d.Notes = append(d.Notes, fmt.Sprintf(format, args...))
}

// Policy is what the holder is asked to make the Lease's terms; nil: nothing was asked.
type Policy = *Terms

// Decide says what one member does next, from what it knows at now. It changes nothing.
func Decide(now Instant, o *Observation, desired Policy) Decision {
	d := Decision{Recheck: time.Second, Verdict: Verdict(now, o)}
	if durable := o.Remembering(now); durable != nil {
		d.do(Action{Kind: Remember, Durable: durable})
	} else if o.Durable.Forgotten && o.LeaseRead != 0 {
		d.lookAgainIn(o.RememberedWait(now))
	}
	switch {
	case o.Tenure != nil:
		decideHolder(now, o, desired, &d)
	default:
		decideEngine(o, &d)
		decideFollower(o, &d)
		decideCandidate(now, o, &d)
	}
	return d
}

// decideEngine starts an engine that does not run; the executor paces it.
func decideEngine(o *Observation, d *Decision) {
	if o.Engine.State == EngineStopped && !o.Leaving {
		d.do(Action{Kind: StartEngine})
	}
}

// decideFollower follows the holder of the highest epoch heard of, never one below a promise
// (rule PromiseForbidsFollowing).
func decideFollower(o *Observation, d *Decision) {
	h := o.Heard
	if o.Engine.State == EngineRunning && o.LeaseRead != 0 && !o.Lease.Terms.HasMember(o.Self.Member) {
		if !o.Engine.Following.IsZero() {
			d.do(Action{Kind: Detach, Epoch: o.Lease.Epoch, Note: "the Lease does not list it as a member"})
		}
		return
	}
	told := o.Engine.State == EngineRunning || o.Engine.Redirectable
	if !told || h.Run.IsZero() || h.Epoch < o.Lease.Epoch {
		return
	}
	if h.Epoch < o.Durable.Promise && o.keeps(PromiseForbidsFollowing) {
		return
	}
	if (!h.Open && !o.Engine.FollowsEarly) || h.Run == o.Self || (o.Engine.Following == h.Run && o.Engine.FollowingEpoch == h.Epoch) {
		return
	}
	d.do(Action{Kind: Follow, Epoch: h.Epoch, Run: h.Run, Address: h.Upstream})
}
