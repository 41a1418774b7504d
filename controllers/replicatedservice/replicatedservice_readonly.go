package replicatedservice

import (
	"fmt"
	"strings"
	"time"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
)

// readOnlyFor is how long a volume may refuse writes before a person is told, where nothing is done about it.
const readOnlyFor = 30 * time.Second

// readOnly are the volumes of a member that refuse writes, as its agent says, by their claim templates' names.
func readOnly(s *scope, member string) []string {
	status := s.reports[member].Live()
	if status == nil || s.pods[member] == nil || status.Run.PodUID != string(s.pods[member].UID) {
		return nil
	}
	return status.ReadOnly
}

// remounts reports whether a member's pod is to be made anew since its volume refuses writes: where the volume is mounted for each pod, that checks and
// mends its file system.
func remounts(s *scope, member string) bool {
	return len(readOnly(s, member)) > 0 && len(s.memory.healed[member]) == 0
}

// wornOut reports whether a member's volume refuses writes in a new pod too, and was not replaced lately: a second one that refuses is no accident.
func wornOut(s *scope, member string) bool {
	replaced, before := s.memory.begunAnew[member]
	return len(readOnly(s, member)) > 0 && len(s.memory.healed[member]) > 0 && (!before || s.now.Sub(replaced) >= healWindow)
}

// readOnlyProblems are volumes that refuse writes and about which nothing is done.
func readOnlyProblems(s *scope) []Problem {
	var out []Problem
	for _, member := range s.memberNames() {
		if len(readOnly(s, member)) == 0 {
			delete(s.memory.readOnly, member)
			continue
		}
		if left := readOnlyFor - s.now.Sub(readOnlySince(s, member)); left > 0 {
			s.lookIn(left)
			continue
		}
		if len(s.problems) == 0 && (held(s) == member || beginsAnew(s, member)) {
			s.waiting = append(s.waiting, fmt.Sprintf("%s to come back, whose volume refuses writes%s", member, volumesOf(s, member)))
			continue
		}
		out = append(out, readOnlyProblem(s, member))
	}
	return out
}

func readOnlySince(s *scope, member string) time.Time {
	if s.memory.readOnly == nil {
		s.memory.readOnly = map[string]time.Time{}
	}
	if s.memory.readOnly[member].IsZero() {
		s.memory.readOnly[member] = s.now
	}
	return s.memory.readOnly[member]
}

func readOnlyProblem(s *scope, member string) Problem {
	what := fmt.Sprintf("volume %s of %s refuses writes%s: its file system went read-only, most likely after an error of the disk, which the kernel's log of that node "+
		"tells. Repair or replace the disk and delete the pod: `kubectl delete pod %s -n %s`", strings.Join(readOnly(s, member), ", "), member, volumesOf(s, member), member, s.svc.Namespace)
	if holds(s, member) {
		return Problem{Reason: v1alpha1.ReasonVolumeReadOnly, Message: what + ". It is the primary, and hands over as soon as another member may take over (see FailoverPossible)"}
	}
	return Problem{Reason: v1alpha1.ReasonVolumeReadOnly, Message: what + "; or have the member made anew from the primary: " + rebuild(s, member)}
}
