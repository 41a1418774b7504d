package agent

import (
	"context"
	"slices"
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

// The steps of a takeover, by their names in Failover.status.timeline.
const (
	stepDetected  = string(v1alpha1.StepDetected)
	stepPromised  = string(v1alpha1.StepPromised)
	stepGranted   = string(v1alpha1.StepGranted)
	stepConfirmed = string(v1alpha1.StepConfirmed)
	stepPromoted  = string(v1alpha1.StepPromoted)
	stepRouted    = string(v1alpha1.StepRouted)
)

// keepTakeovers bounds the history a member keeps for the operator.
const keepTakeovers = 8

func podUID(s string) types.UID { return types.UID(s) }

func ordinalOf(member string) int {
	n, _ := names.Ordinal(member) // members of the Lease all end in a number
	return n
}

// startRecord begins the record of a change of primary that this member may win.
func (a *Agent) startRecord(now, detected failover.Instant) {
	wall := a.World.Wall().Add(-now.Sub(detected))
	a.record = &wire.Takeover{Epoch: a.obs.Lease.Epoch + 1, From: a.obs.Lease.Holder, To: a.Self, WallNanos: wall.UnixNano(),
		Steps: map[string]int64{stepDetected: 0}}
	a.recordFrom = detected
}

// stamp notes when a step was done.
func (a *Agent) stamp(step string) {
	if a.record == nil || a.record.Epoch < a.obs.Lease.Epoch {
		return
	}
	if _, ok := a.record.Steps[step]; !ok {
		a.record.Steps[step] = int64(a.now().Sub(a.recordFrom))
	}
}

// onRouted takes in that the slices name this member.
func (a *Agent) onRouted(epoch failover.Epoch) {
	a.routed = epoch
	a.stamp(stepRouted)
	a.closeRecord()
}

// closeRecord ends the record when clients reach the new primary and it accepts their writes.
func (a *Agent) closeRecord() {
	r, t := a.record, a.obs.Tenure
	if r == nil || t == nil || t.Won == nil || !t.Opened || r.Epoch != t.Epoch || a.routed != t.Epoch {
		return
	}
	epoch := t.Epoch
	a.endTurn(epoch)
	a.record = nil
	r.Evidence, r.Handover = t.Won.Evidence, t.Won.Asked
	r.Base = t.Won.Promises[a.Self.Member].Position
	r.BytesLost, r.LossExact = a.lossAt(t.Won)
	a.history = append(a.history, *r)
	if len(a.history) > keepTakeovers {
		a.history = a.history[len(a.history)-keepTakeovers:]
	}
	a.Log.Info("Took over", "epoch", epoch, "from", r.From.Member, "evidence", r.Evidence, "steps", r.Steps)
	history := slices.Clone(a.history)
	a.disk.do(0, func(context.Context) {
		if err := a.Store.SaveHistory(history); err != nil {
			a.Log.Error(err, "The history of takeovers could not be kept")
		}
	}, func() {})
}

// lossAt is what the old primary is known to have had more. After a handover that is nothing, and exact; else it may
// have written more since its last heartbeat.
func (a *Agent) lossAt(won *failover.Attempt) (int64, bool) {
	if won.Asked {
		return 0, true
	}
	h, own := a.oldHeard, won.Promises[a.Self.Member].Position
	if !h.Known || h.Position.DataEpoch != own.DataEpoch {
		return 0, false
	}
	return max(0, h.Position.Offset-own.Offset), false
}

// slices keeps what was read ahead.
type sliceCache struct {
	mu   sync.Mutex
	read map[string]*discoveryv1.EndpointSlice
}

func (c *sliceCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = map[string]*discoveryv1.EndpointSlice{}
}

func (c *sliceCache) put(name string, s *discoveryv1.EndpointSlice) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read[name] = s
}

// take returns what was read ahead, once: after a conflict it must be read anew.
func (c *sliceCache) take(name string) *discoveryv1.EndpointSlice {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.read[name]
	delete(c.read, name)
	return s
}
