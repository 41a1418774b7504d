package replicatedservice

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// reasonWritesKeptAside is the event of a member whose data was replaced and had what the primary has not.
const reasonWritesKeptAside = "WritesKeptAside"

// EndOf is the change of primary that ended an epoch: the first one after it, and won by a member with no later epoch's data. nil:
// it is not among them.
func EndOf(epoch failover.Epoch, takeovers []wire.Takeover) *wire.Takeover {
	var end *wire.Takeover
	for i := range takeovers {
		if t := &takeovers[i]; epoch > 0 && t.Epoch > epoch && t.Base.DataEpoch > 0 && t.Base.DataEpoch <= epoch && (end == nil || t.Epoch < end.Epoch) {
			end = t
		}
	}
	return end
}

// TellLost says what a member's data had that the primary has not, what that means, and where it is. end is the change of primary
// that ended the data's epoch, if that is known.
func TellLost(svc *v1alpha1.ReplicatedService, member string, lost wire.Lost, end *wire.Takeover) string {
	meaning := "commits in it may have been confirmed to clients, and are lost to the service"
	switch {
	case end != nil && end.Handover:
		meaning = "the primary had handed over all that was confirmed, so no confirmed commit is in it"
	case synchronous(svc):
		meaning = "its quorum never confirmed it, so no commit that waited for the quorum is in it"
	}
	return fmt.Sprintf("%s had %d bytes of WAL of epoch %d that the primary it rejoined has not: %s. %s", member, lost.Bytes, lost.Epoch, meaning, whereKept(member, lost))
}

func synchronous(svc *v1alpha1.ReplicatedService) bool {
	r := svc.Spec.Replication
	return r != nil && r.Mode == v1alpha1.Synchronous
}

func whereKept(member string, lost wire.Lost) string {
	switch extentOf(lost) {
	case v1alpha1.KeptNothing:
		return "Nothing of it was kept"
	case v1alpha1.KeptBeginning:
		return fmt.Sprintf("Its beginning is kept in %s of pod %s, segments %s to %s; the rest did not fit", lost.Dir, member, lost.First, lost.Last)
	}
	return fmt.Sprintf("It is kept in %s of pod %s, segments %s to %s", lost.Dir, member, lost.First, lost.Last)
}

func extentOf(lost wire.Lost) v1alpha1.KeptExtent {
	switch {
	case lost.First == "":
		return v1alpha1.KeptNothing
	case !lost.Complete:
		return v1alpha1.KeptBeginning
	}
	return v1alpha1.KeptAll
}

// keptAside is what a status shows; nil: nothing was lost.
func keptAside(status *wire.Status) *v1alpha1.KeptAside {
	l := status.Lost
	if l == nil || l.Bytes <= 0 {
		return nil
	}
	return &v1alpha1.KeptAside{Epoch: int64(l.Epoch), Bytes: l.Bytes, Extent: extentOf(*l), Directory: l.Dir, FirstFile: l.First, LastFile: l.Last}
}

// keptBefore is what was shown of a member that says nothing now.
func keptBefore(s *scope, member string) *v1alpha1.KeptAside {
	for _, old := range s.svc.Status.Members {
		if old.Name == member {
			return old.KeptAside
		}
	}
	return nil
}

// lostTales tell once of each member whose data was replaced and had more.
func lostTales(s *scope, after v1alpha1.ReplicatedServiceStatus) []tale {
	var out []tale
	for _, m := range after.Members {
		old := keptBefore(s, m.Name)
		status := s.reports[m.Name].Live()
		if m.KeptAside == nil || status == nil || status.Lost == nil || (old != nil && *old == *m.KeptAside) {
			continue
		}
		out = append(out, tale{corev1.EventTypeWarning, reasonWritesKeptAside, "Rejoin", TellLost(s.svc, m.Name, *status.Lost, EndOf(status.Lost.Epoch, takeoversOf(s))), m.Name})
	}
	return out
}

func takeoversOf(s *scope) []wire.Takeover {
	var out []wire.Takeover
	for _, report := range s.reports {
		if status := report.Live(); status != nil {
			out = append(out, status.Takeovers...)
		}
	}
	return out
}
