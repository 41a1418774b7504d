package agent

import (
	"slices"
	"strings"
	"time"

	"understudy.dev/understudy/internal/failover"
)

// handAwayAgain is the pause before a primary on a volume that refuses writes tries to hand over once more: each try holds back what the engine still
// takes.
const handAwayAgain = 30 * time.Second

// onReadOnly takes in which volumes refuse what is written. Such a member is no candidate, and as the primary it hands over: its engine would refuse
// writes, or end, at a time of its own choosing.
func (a *Agent) onReadOnly(rooms []Room) {
	var now []string
	for _, r := range rooms {
		if r.ReadOnly {
			now = append(now, r.Volume)
		}
	}
	slices.Sort(now)
	if !slices.Equal(now, a.obs.ReadOnly) {
		a.obs.ReadOnly = now
		if len(now) > 0 {
			a.Log.Info("Volumes refuse what is written", "volumes", now)
		} else {
			a.Log.Info("The volumes take what is written again")
		}
	}
	a.handAway()
}

// handAway hands over without being asked, where the policy lets members decide by themselves.
func (a *Agent) handAway() {
	if len(a.obs.ReadOnly) == 0 || !a.obs.Serving() || a.leaving || a.handover != nil || a.obs.Lease.Terms.Mode != failover.ModeAutomatic {
		return
	}
	now := a.now()
	if a.handedAway != 0 && now.Sub(a.handedAway) < handAwayAgain {
		return
	}
	a.handedAway = now
	a.beginHandover("", nil)
}

// readOnlyVolumes says which volumes refuse what is written, for people.
func (a *Agent) readOnlyVolumes() string {
	return "its volume " + strings.Join(a.obs.ReadOnly, ", ") + " refuses what is written (read-only file system)"
}
