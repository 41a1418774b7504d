package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
)

const (
	// remountAfter is for how long a volume must have refused writes, at each look, before anything is done: others may have met the same fault and tell in
	// a moment.
	remountAfter = 10 * time.Second
	// readOnlyFor is for how long it may before a person is told, where nothing is done about it.
	readOnlyFor = 30 * time.Second
)

// readOnly are the volumes of a member that refuse writes, as its agent says, by their claim templates' names.
func readOnly(s *scope, member string) []string {
	status := s.reports[member].Live()
	if status == nil || s.pods[member] == nil || status.Run.PodUID != string(s.pods[member].UID) {
		return nil
	}
	return status.ReadOnly
}

// sound reports whether a member is well, the disk below it too: a primary goes on serving for a while on one that refuses writes.
func sound(s *scope, member string) bool { return well(s, member) && len(readOnly(s, member)) == 0 }

// noteReadOnly keeps since when volumes refuse writes.
func noteReadOnly(s *scope) {
	for _, member := range s.memberNames() {
		if len(readOnly(s, member)) == 0 {
			delete(s.memory.readOnly, member)
			continue
		}
		firstSeen(&s.memory.readOnly, member, s.now)
	}
}

// remounts reports whether a member's pod is to be made anew since its volume refuses writes: where the volume is mounted for each pod, that has its
// file system checked and mended.
func remounts(s *scope, member string) bool {
	since := s.memory.readOnly[member]
	if len(readOnly(s, member)) == 0 || since.IsZero() || remounted(s, member) {
		return false
	}
	left := remountAfter - s.now.Sub(since)
	if left > 0 {
		s.lookIn(left)
	}
	return left <= 0
}

// remounted reports whether that was done lately.
func remounted(s *scope, member string) bool {
	return lately(s, s.memory.remounted[member])
}

func lately(s *scope, r podSeen) bool { return !r.at.IsZero() && s.now.Sub(r.at) < healWindow }

// wornOut reports whether a member's volume refuses writes in a new pod too, and is the first that does: that of a member whose last one is still kept is no
// accident.
func wornOut(s *scope, member string) bool {
	pod := s.pods[member]
	again := lately(s, s.memory.begunAnew[member]) || len(wornBefore(s, member)) > 0
	return len(readOnly(s, member)) > 0 && pod.DeletionTimestamp == nil && remounted(s, member) && s.memory.remounted[member].pod != pod.UID && !again
}

// wornBefore are the kept volumes that a member had before, and that refused writes.
func wornBefore(s *scope, member string) []string {
	var out []string
	for i := range s.kept {
		v := &s.kept[i]
		used := slices.Contains(volumeNames(s.stranded[member]), v.Name) // kept a moment ago, and not replaced in the end
		if v.Labels[keys.LabelMember] == member && v.Annotations[keys.AnnotationReadOnly] != "" && !used {
			out = append(out, v.Name)
		}
	}
	return out
}

// Values of AnnotationReadOnly.
const (
	volumeSpent = "spent" // all that counts is elsewhere
	volumeHolds = "holds" // it may hold writes that were acknowledged and that nobody else has, or what was kept aside in lost
)

// spent says what a volume that refuses writes may still be good for. Without a quorum a primary acknowledges what no replica has yet; with one that may
// shrink to nothing, too.
func spent(s *scope, member string) string {
	status := s.reports[member].Live()
	if !synchronous(s.svc) || s.register == nil || status == nil || (status.Lost != nil && status.Lost.Dir != "") {
		return volumeHolds
	}
	terms := s.register.Terms
	set := terms.Set()
	if terms.OnTooFew == failover.ContinueWriting || terms.Quorum == 0 || set == nil || set.Quorum == 0 {
		return volumeHolds
	}
	return volumeSpent
}

// tellReadOnly tells a person of volumes that refuse writes and about which nothing is done. It comes after what heals and rolls, which it does not hold up.
func (r *Reconciler) tellReadOnly(_ context.Context, s *scope) error {
	var out []Problem
	for _, member := range s.memberNames() {
		since := s.memory.readOnly[member]
		if since.IsZero() {
			continue
		}
		if left := readOnlyFor - s.now.Sub(since); left > 0 {
			s.lookIn(left)
			continue
		}
		if inHand(s, member) {
			s.waiting = append(s.waiting, fmt.Sprintf("%s to come back, whose volume refuses writes%s", member, volumesOf(s, member)))
			continue
		}
		out = append(out, Problem{Reason: v1alpha1.ReasonVolumeReadOnly, Message: readOnlyMessage(s, member)})
	}
	s.problems = append(s.problems, out...)
	return nil
}

// inHand reports whether a member is being made anew, or will be.
func inHand(s *scope, member string) bool {
	uid := s.pods[member].UID
	if s.memory.remounted[member].pod == uid || s.memory.begunAnew[member].pod == uid {
		return true // its pod was deleted in this look, or ends
	}
	return len(s.problems) == 0 && (held(s) == member || beginsAnew(s, member))
}

func readOnlyMessage(s *scope, member string) string {
	what := fmt.Sprintf("volume %s of %s refuses writes%s: its file system went read-only, most likely after an error of the disk, which the kernel's log of that node "+
		"tells. Repair or replace the disk and delete the pod: `kubectl delete pod %s -n %s`", strings.Join(readOnly(s, member), ", "), member, volumesOf(s, member), member, s.svc.Namespace)
	serving := s.server()
	switch {
	case s.count() == 1:
		return what
	case !holds(s, member):
		if before := wornBefore(s, member); len(before) > 0 {
			what += fmt.Sprintf("; it does not begin anew by itself while an earlier volume that refused writes is kept (PersistentVolume %s): "+
				"see whether anything on that is still needed, and delete it", strings.Join(before, ", "))
		}
		return what + "; or have the member made anew from the primary: " + rebuild(s, member)
	case s.paused():
		return what + ". It is the primary, and nobody takes over while the service is paused: set spec.state to Active"
	case serving == nil || serving.Run.Member != member:
		return what + ". It was the primary: FailoverPossible says who could take over"
	case rollMode(s) != failover.ModeAutomatic:
		return what + ". It is the primary, and nobody takes over by itself: have it hand over first with a Failover of type Switchover"
	default:
		return what + ". It is the primary, and hands over as soon as another member may take over: FailoverPossible says what keeps them"
	}
}
