package agent

import (
	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// refusalsForStuck is how often in a row an engine's process must have been refused for that to need a person, where the engine
// itself does not say so: what is in the way may go by itself, such as a port that an earlier process still has.
const refusalsForStuck = 5

// noteRefusal takes in whether the engine's process could be made. What prepares the data may begin and fail again and again, so
// the last refusal stands until the engine itself runs.
func (a *Agent) noteRefusal(pid int, step bool, err error) {
	switch {
	case err != nil:
		a.proc.refusal = err
		a.proc.refusals++
		// It waits for a person, or for another primary, of which it is to hear.
		a.obs.Engine.Redirectable = engine.StuckFor(err) == engine.RejoinFailed
	case pid != 0 && !step:
		a.proc.refusal, a.proc.refusals = nil, 0
	}
}

// refused reports whether the engine's process cannot be made.
func (a *Agent) refused() bool {
	return a.proc.refusal != nil && a.obs.Engine.State != failover.EngineRunning
}

// astray reports whether the engine could not be told to follow, and follows nobody.
func (a *Agent) astray() bool {
	return a.proc.rejoin != nil && !a.obs.Engine.LinkUp && a.obs.Tenure == nil
}

// stuck says why the engine does not go on until a person has put something right; nil: it does.
func (a *Agent) stuck() *wire.Stuck {
	var why engine.Stuck
	var err error
	switch {
	case a.refused():
		if err, why = a.proc.refusal, engine.StuckFor(a.proc.refusal); why == "" && a.proc.refusals >= refusalsForStuck {
			why = engine.NotStarted
		}
	case a.astray():
		err, why = a.proc.rejoin, engine.StuckFor(a.proc.rejoin)
	}
	if why == "" {
		return nil
	}
	return &wire.Stuck{Reason: string(why), Message: limited(err.Error())}
}

// lookKept asks the engine what the last data that was replaced had more. It is called beside the loop.
func (a *Agent) lookKept() *wire.Lost {
	keeper, ok := a.Engine.(engine.Keeper)
	if !ok {
		return nil
	}
	k, err := keeper.Kept()
	if err != nil {
		a.Log.Error(err, "What was kept aside of replaced data could not be read")
	}
	if k == nil {
		return nil
	}
	return &wire.Lost{Epoch: failover.Epoch(k.Epoch), Primary: k.Primary, Bytes: k.Bytes, Dir: k.Dir, First: k.First, Last: k.Last,
		FileBytes: k.FileBytes, Complete: k.Complete}
}

func (a *Agent) noteKept(kept *wire.Lost) {
	if kept == nil || same(kept, a.kept) {
		return
	}
	a.kept = kept
	a.Log.Info("Data that was replaced had what the primary has not; it is kept aside", "epoch", kept.Epoch, "bytes", kept.Bytes,
		"folder", kept.Dir, "first", kept.First, "last", kept.Last, "complete", kept.Complete)
}

// noteNothingLost notes that data of an epoch whose primary this member was is about to follow a later one as it is: an engine that
// keeps aside what it replaces says so only when the primary has all of it.
func (a *Agent) noteNothingLost() {
	p := a.obs.Engine.Position
	if _, ok := a.Engine.(engine.Keeper); ok && p.Whole && p.DataEpoch > 0 && p.DataEpoch < a.obs.Engine.FollowingEpoch {
		a.data.Lost = &wire.Lost{Epoch: p.DataEpoch, Primary: true, Complete: true}
	}
}

// lost is what is known of the newest data that was given up, or could have been.
func (a *Agent) lost() *wire.Lost {
	if none := a.data.Lost; none != nil && (a.kept == nil || none.Epoch > a.kept.Epoch) {
		return none
	}
	return a.kept
}
