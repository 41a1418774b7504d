package agent

import (
	"slices"
	"strings"
	"time"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

const (
	// refusedOften in a row a volume must have refused what is written to count as read-only: an error that passes is none of the file system's state.
	refusedOften = 2
	// othersKnow is how long a primary waits with that knowledge, by when members with the same fault have it too and are no candidates.
	othersKnow = 2 * roomEvery
	// takenFor is for how long it must have refused nothing to count as whole again.
	takenFor = 30 * time.Second
	// handAwayFirst and handAwayMost bound the pause before a primary on such a volume tries to hand over once more, which doubles: each try holds back what
	// the engine still takes.
	handAwayFirst = 30 * time.Second
	handAwayMost  = time.Hour
)

// grudge is a volume that refused what was written.
type grudge struct {
	refusals int              // in a row
	taken    failover.Instant // since when it takes writes again; 0: it does not
}

// handingAway is what a primary has tried since its volume refuses writes.
type handingAway struct {
	next  failover.Instant
	pause time.Duration
	told  string // why nobody could take over, as it was logged
}

// onReadOnly takes in which volumes refuse what is written. Such a member is no candidate, and as the primary it hands over: its engine would refuse
// writes, or end, at a time of its own choosing.
func (a *Agent) onReadOnly(rooms []Room) {
	for _, r := range rooms {
		a.onWrites(r.Volume, r.Writes)
	}
	known := a.obs.ReadOnly
	var now []string
	for volume, g := range a.grudges {
		if g.refusals >= refusedOften {
			now = append(now, volume)
		}
	}
	slices.Sort(now)
	if slices.Equal(now, known) {
		a.handAway()
		return
	}
	a.obs.ReadOnly, a.handing = now, handingAway{next: a.now().Add(othersKnow)}
	if len(now) > 0 {
		a.Log.Info("Volumes refuse what is written", "volumes", now)
	} else {
		a.Log.Info("The volumes take what is written again")
	}
}

func (a *Agent) onWrites(volume string, writes Writes) {
	g := a.grudges[volume]
	switch {
	case writes == WritesRefused && g == nil:
		if a.grudges == nil {
			a.grudges = map[string]*grudge{}
		}
		a.grudges[volume] = &grudge{refusals: 1}
	case writes == WritesRefused:
		g.refusals, g.taken = g.refusals+1, 0
	case g == nil || writes == WritesUnknown:
	case g.refusals < refusedOften:
		delete(a.grudges, volume)
	case g.taken == 0:
		g.taken = a.now()
	case a.now().Sub(g.taken) >= takenFor:
		delete(a.grudges, volume)
	}
}

// handAway hands over without being asked, where the policy lets members decide by themselves.
func (a *Agent) handAway() {
	if len(a.obs.ReadOnly) == 0 || !a.obs.Serving() || a.leaving || a.handover != nil || a.obs.Lease.Terms.Mode != failover.ModeAutomatic || a.now() < a.handing.next {
		return
	}
	a.beginHandover("", func(r wire.HandoverReply) {
		if r.Refused && r.Message != a.handing.told {
			a.handing.told = r.Message
			a.Log.Info("Serves on, on a volume that refuses what is written", "why", r.Message)
		}
	})
	if a.handover != nil {
		a.handing.pause = min(max(2*a.handing.pause, handAwayFirst), handAwayMost)
		a.handing.next = a.now().Add(a.handing.pause)
	}
}

// readOnlyVolumes says which volumes refuse what is written, for people.
func (a *Agent) readOnlyVolumes() string {
	return "its volume " + strings.Join(a.obs.ReadOnly, ", ") + " refuses what is written (read-only file system)"
}
