package agent

import (
	"context"
	"time"

	"understudy.dev/understudy/internal/failover"
)

// Pooler holds clients back in front of the service.
type Pooler interface {
	Pause(ctx context.Context) error
	// Resume lets go on whoever is held back, by this program or another.
	Resume(ctx context.Context) error
	// Renew makes their connections anew, each as soon as no transaction uses it.
	Renew(ctx context.Context) error
}

const (
	// poolerPause is how long a handover waits for poolers to be rid of their transactions. If they are not by then, it goes on without.
	poolerPause = time.Second
	// poolerResume bounds one try to let clients go on; poolerFirst and poolerMost the pause before another, which doubles.
	poolerResume = 2 * time.Second
	poolerFirst  = 100 * time.Millisecond
	poolerMost   = 10 * time.Second
	// poolerRenew bounds the order to make connections anew, and poolerDrain is what those that are in use have left after it.
	poolerRenew = 500 * time.Millisecond
	poolerDrain = 200 * time.Millisecond
	// poolerTries is how often one tries that is not primary: the primary tries for as long as it serves.
	poolerTries = 8
	// poolerLatest is when a primary that handed over lets clients go on, should no successor serve.
	poolerLatest = 2 * time.Second
	// poolerWatch is how often it looks for one.
	poolerWatch = 10 * time.Millisecond
)

// holdClients has the poolers hold their clients back, and calls then when they do or do not: a handover works without.
func (a *Agent) holdClients(then func()) {
	if a.Pooler == nil {
		then()
		return
	}
	a.holding = true
	var err error
	a.World.Beside(poolerPause, func(ctx context.Context) { err = a.Pooler.Pause(ctx) }, func() {
		if err != nil {
			a.Log.Error(err, "PgBouncer does not hold its clients back; hands over without", "limit", poolerPause)
			a.letClients()
		}
		then()
	})
}

// letClients has the poolers let their clients go on, again and again until they do. Who held them back does so, and so does every
// primary when it begins: the one before may be gone.
func (a *Agent) letClients() {
	if a.Pooler == nil {
		return
	}
	if a.letting {
		a.letAgain = true
		return
	}
	a.letting, a.letAgain = true, false
	a.letClientsAgain(1, poolerFirst)
}

func (a *Agent) letClientsAgain(try int, pause time.Duration) {
	var err error
	a.World.Beside(poolerResume, func(ctx context.Context) { err = a.Pooler.Resume(ctx) }, func() {
		switch {
		case a.letAgain: // what was told may have been meant for a pause before this one
			a.letting = false
			a.letClients()
			return
		case err == nil:
			a.letting, a.holding = false, false
			return
		case try == poolerTries:
			a.Log.Error(err, "PgBouncer could not be told to let its clients go on: if it does not by itself, tell it so by hand (RESUME)")
		}
		if try >= poolerTries && !a.obs.Serving() {
			a.letting, a.holding = false, false
			return
		}
		a.World.After(pause, func() {
			if a.letAgain {
				a.letAgain, try, pause = false, 0, poolerFirst/2
			}
			a.letClientsAgain(try+1, min(2*pause, poolerMost))
		})
	})
}

// letClientsWhenServed is for the primary of an epoch that handed over: a successor serves, or its time for that is over.
func (a *Agent) letClientsWhenServed(epoch failover.Epoch) {
	if a.Pooler == nil {
		return
	}
	latest := a.now().Add(poolerLatest)
	var look func()
	look = func() {
		served := a.obs.Heard.Epoch > epoch && a.obs.Heard.Open || a.obs.Serving() && a.obs.Tenure.Epoch > epoch
		if served || a.now() >= latest {
			a.letClients()
			return
		}
		a.World.After(poolerWatch, look)
	}
	look()
}

// renewClients has the poolers make the connections anew that lead here: a node that learned late of the new route sent them here, and
// they end with this agent. By now every node knows. It calls then when those in use have had time to come free.
func (a *Agent) renewClients(then func()) {
	var err error
	a.World.Beside(poolerRenew, func(ctx context.Context) { err = a.Pooler.Renew(ctx) }, func() {
		if err != nil {
			a.Log.Error(err, "PgBouncer could not be told to make its connections anew; those that lead here end with this agent")
		}
		a.World.After(poolerDrain, then)
	})
}

// clientsRenewed reports whether an ending agent may close what it passes on.
func (a *Agent) clientsRenewed() bool {
	if a.Pooler == nil || a.renewed {
		return true
	}
	if !a.renewing {
		a.renewing = true
		a.renewClients(func() { a.renewed = true; a.wakeIn(time.Millisecond) })
	}
	return false
}
