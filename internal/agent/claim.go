package agent

import (
	"context"
	"errors"
	"math"
	"time"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
)

var (
	errOvertaken = errors.New("the epoch changed meanwhile")
	errBusy      = errors.New("too much waits to be done before it")
)

// claimData notes on disk that the data is the epoch's own, before anything is written into it or anybody is told: a member that
// comes back without that note never opened the epoch (rule SyncQuorum).
func (a *Agent) claimData(epoch failover.Epoch, then func(error)) {
	if !a.Engine.Persistent() {
		then(nil)
		return
	}
	fences := a.fences.Load()
	record := a.data
	record.DataEpoch, record.Whole = epoch, true
	var err error
	ok := a.disk.do(0, func(context.Context) { err = a.Store.SaveData(record) }, func() {
		a.noteDisk(err, "The data's epoch could not be noted")
		switch {
		case a.fences.Load() != fences || a.obs.Tenure == nil || a.obs.Tenure.Epoch != epoch:
			err = errOvertaken
		case err == nil:
			a.data = record
		}
		then(err)
	})
	if !ok {
		then(errBusy)
	}
}

// replaceData lets the engine replace its data by the primary's. What this member had counts for nothing from here on, and that is
// on disk before anything of it is gone: it must not come back and claim what it no longer has (rule SyncQuorum).
func (a *Agent) replaceData() {
	if a.doing.is(failover.Follow) || a.fencing {
		return
	}
	done := a.doing.begin(failover.Follow) // the engine is at it
	e := &a.obs.Engine
	if a.replacing == nil || e.Position.DataEpoch > 0 { // else an earlier try came so far
		a.Log.Info("Its data is replaced by the primary's", "had", e.Position)
		a.replacing = &engine.Had{Epoch: int64(e.Position.DataEpoch), Primary: e.Position.Whole}
		a.data = DataRecord{DataID: a.NewID(), Lost: a.data.Lost}
		e.Position, e.DataID, e.History, e.LinkUp = failover.Position{}, a.data.DataID, "", false
		a.proc.synced, a.proc.strayed, a.proc.history = false, false, ""
	}
	record, had, fences := a.data, *a.replacing, a.fences.Load()
	var err error
	replace := func() {
		if !a.orders.do(orderTimeout, func(ctx context.Context) { err = a.Engine.Replace(ctx, had) }, func() {
			a.noteRejoin(err)
			if a.proc.meant = err == nil; a.proc.meant { // its process ends for that
				a.replacing = nil
			}
			done()
		}) {
			done()
		}
	}
	ok := a.disk.do(0, func(context.Context) { err = a.Store.SaveData(record) }, func() {
		a.noteDisk(err, "That the data is replaced could not be noted")
		switch {
		case err != nil:
			a.World.After(replaceAgain, done) // a full disk is not asked at each probe
		case a.fences.Load() != fences || a.obs.Tenure != nil:
			done() // the next engine says by itself what it needs
		default:
			replace()
		}
	})
	if !ok {
		done()
	}
}

// replaceAgain is the pause after it could not be noted that the data is replaced.
const replaceAgain = time.Second

// noteDisk takes in how a durable write ended. A disk that refuses is told to people until one of the same kind
// succeeds: what overwrites allocated blocks goes well on a full disk.
func (a *Agent) noteDisk(err error, what string) {
	if err == nil {
		if a.troubled == what {
			a.troubled, a.diskTrouble = "", ""
		}
		return
	}
	a.troubled, a.diskTrouble = what, "what must be durable cannot be written, so this member promises and opens nothing: free space on its volume: "+err.Error()
	a.Log.Error(err, what)
}

// onRenumbered goes on serving in a higher epoch, however the answer to its compare-and-swap came. No heartbeat says so before
// it is on disk: a replica that had the new epoch's data while this member still claimed the old one's would seem to have more.
func (a *Agent) onRenumbered(epoch failover.Epoch) {
	e := &a.obs.Engine
	e.Position.DataEpoch, e.Position.Whole, e.Position.Inexact = epoch, true, false
	// A replica has this epoch's data only from where the primary is now on: what was confirmed before may be on others.
	e.HistoryFrom, a.renumberedAt = math.MaxInt64, a.now()
	a.unclaimed = epoch
	a.claimData(epoch, func(err error) {
		if a.unclaimed == epoch {
			a.unclaimed = 0
		}
		if err != nil && !errors.Is(err, errOvertaken) {
			a.fence("the epoch of its data could not be made durable: " + err.Error())
		}
	})
	a.probe(nil)
	a.route(epoch)
}
