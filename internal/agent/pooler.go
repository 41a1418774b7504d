package agent

import (
	"context"
	"time"

	"understudy.dev/understudy/internal/failover"
)

// Pooler holds clients back in front of the service.
type Pooler interface {
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
}

const (
	// poolerPause is how long a handover waits for poolers to be rid of their transactions. If they are not by then, it goes on without.
	poolerPause = time.Second
	// poolerResume bounds one try to let clients go on, poolerAgain is the pause before another, and poolerTries how many there are.
	poolerResume = 2 * time.Second
	poolerAgain  = 500 * time.Millisecond
	poolerTries  = 20
	// poolerLatest is when a primary that handed over lets clients go on, should its successor not have done so.
	poolerLatest = 2 * time.Second
)

// holdClients has the poolers hold their clients back, and calls then when they do or do not: a handover works without.
func (a *Agent) holdClients(then func()) {
	if a.Pooler == nil {
		then()
		return
	}
	var err error
	a.World.Beside(poolerPause, func(ctx context.Context) { err = a.Pooler.Pause(ctx) }, func() {
		if err != nil {
			a.Log.Error(err, "PgBouncer does not hold its clients back; hands over without", "limit", poolerPause)
		}
		then()
	})
}

// letClients has the poolers let their clients go on, again and again until they do. Every primary begins with that: who held them back may be gone.
func (a *Agent) letClients(tries int) {
	if a.Pooler == nil || tries <= 0 {
		return
	}
	var err error
	a.World.Beside(poolerResume, func(ctx context.Context) { err = a.Pooler.Resume(ctx) }, func() {
		if err == nil {
			return
		}
		if tries == 1 {
			a.Log.Error(err, "PgBouncer could not be told to let its clients go on: tell it by hand (RESUME)")
		}
		a.World.After(poolerAgain, func() { a.letClients(tries - 1) })
	})
}

// letClientsLater is for the primary of an epoch that handed over, in case its successor does not come.
func (a *Agent) letClientsLater(epoch failover.Epoch) {
	if a.Pooler == nil {
		return
	}
	a.World.After(poolerLatest, func() {
		if a.obs.Heard.Epoch <= epoch {
			a.letClients(poolerTries)
		}
	})
}
