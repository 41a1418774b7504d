// Package rounds runs one fault at a time against a service under load and records what the load saw.
package rounds

import (
	"context"
	"fmt"
	"time"

	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/load"
)

const (
	// before is how many writes are acknowledged before the fault: 300 ms at one each 5 ms.
	before = 60
	// calm is how long writes must flow after the change before the round ends, so that a second outage that the
	// first one causes, such as a copy that blocks the new primary, is part of the round.
	calm = time.Second
)

// Measurement is what a round's load saw.
type Measurement struct {
	load.Result

	Verification load.Verification `json:"verification"`
	// FaultAt is the host's wall clock just before the fault.
	FaultAt time.Time `json:"faultAt"`
}

// Longest is the outage of the round, or the time without a write until a round that did not get over its fault was given
// up: that it never ended does not make it short.
func (m Measurement) Longest() load.Gap {
	if m.Open != nil && m.Open.Microseconds > m.Outage.Microseconds {
		return *m.Open
	}
	return m.Outage
}

// Target is how a fault is made and known to be over.
type Target struct {
	Config load.Config
	Inject func(context.Context) error
	// Over waits until somebody else is primary.
	Over func(context.Context) error
	// Within is how long the whole may take.
	Within time.Duration
}

// Measure writes, breaks, waits until writes flow again, and reads everything back. A round that does not get over its
// fault is an error, and the measurement is returned with it.
func Measure(ctx context.Context, c *clients.Client, id string, t Target) (Measurement, error) {
	var m Measurement
	if err := c.Start(ctx, id, t.Config); err != nil {
		return m, err
	}
	err := kube.UntilEvery(ctx, 15*time.Second, 50*time.Millisecond, "the first writes of round "+id, func(ctx context.Context) (bool, string, error) {
		p, err := c.Progress(ctx, id)
		return p.Acknowledged >= before, p.LastFailure, err
	})
	if err == nil {
		m.FaultAt = time.Now()
		err = t.Inject(ctx)
	}
	if err == nil {
		err = waitOver(ctx, c, id, t)
	}
	// Whatever happened: the load ends, and its keys are removed.
	result, stopErr := c.Stop(ctx, id)
	if stopErr != nil {
		return m, stopErr
	}
	m.Result = result
	verification, verifyErr := c.Verify(ctx, id)
	m.Verification = verification
	if err == nil {
		err = verifyErr
	}
	return m, err
}

func waitOver(ctx context.Context, c *clients.Client, id string, t Target) error {
	if err := t.Over(ctx); err != nil {
		if p, progressErr := c.Progress(ctx, id); progressErr == nil {
			return fmt.Errorf("%w; newest failure of the load: %s", err, p.LastFailure)
		}
		return err
	}
	since := time.Now()
	return kube.Until(ctx, t.Within, "writes to flow again in round "+id, func(ctx context.Context) (bool, string, error) {
		p, err := c.Progress(ctx, id)
		if err != nil {
			return false, "", err
		}
		flowing := time.Duration(p.FlowingMicroseconds) * time.Microsecond
		last := time.Duration(p.SinceLastMicroseconds) * time.Microsecond
		done := last < 100*time.Millisecond && flowing >= calm && time.Since(since) >= calm
		return done, fmt.Sprintf("writes flow for %s, the last %s ago; newest failure of the load: %s", flowing, last, p.LastFailure), nil
	})
}
