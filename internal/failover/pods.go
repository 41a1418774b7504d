package failover

import (
	"slices"
)

// A name may have two pods: a deletion by force removes the object and not the process, and on a node that is cut off that goes
// on voting beside its successor. Two majorities would then need no common voter. So the Lease names the pod that has each
// member's vote, and the vote moves only by a write of the Lease: the holder's, when a new pod answers and the one before does not,
// or a grant's, for those who promised (rule OneVote).

// PodOf is the pod that has a member's vote; empty: any. The holder's own is the pod that holds.
func (l Lease) PodOf(member string) string {
	if member == l.Holder.Member && l.Epoch > 0 {
		return l.Holder.PodUID
	}
	for _, list := range [][]MemberEntry{l.Terms.Members, l.Terms.Next} {
		for _, m := range list {
			if m.Name == member && m.Pod != "" {
				return m.Pod
			}
		}
	}
	return ""
}

// withPods names the pods that have the votes of a list's members; who is not in pods keeps the one it has.
func withPods(list []MemberEntry, pods map[string]string) []MemberEntry {
	list = slices.Clone(list)
	for i, m := range list {
		if pod := pods[m.Name]; pod != "" {
			list[i].Pod = pod
		}
	}
	return list
}

// named are terms whose two lists name these pods.
func (t Terms) named(pods map[string]string) Terms {
	t.Members, t.Next = withPods(t.Members, pods), withPods(t.Next, pods)
	return t
}

// carried keeps the pods that a Lease names in a list made of names alone. Who is new is named by the pod that answers.
func (l Lease) carried(list []MemberEntry, reports map[string]MemberReport) []MemberEntry {
	pods := map[string]string{}
	for _, m := range list {
		if pods[m.Name] = l.PodOf(m.Name); pods[m.Name] == "" {
			pods[m.Name] = reports[m.Name].Run.PodUID
		}
	}
	return withPods(list, pods)
}

// ballot is what a member's word counts for.
type ballot int

const (
	noVote ballot = iota
	// doubtful: it came from a pod that the Lease does not name, and nothing proves that the named one has ended.
	doubtful
	sure
)

func sureIf(yes bool) ballot {
	if yes {
		return sure
	}
	return noVote
}

// ballotOf weighs the word of a run against a holder. Votes are there to take the holder's majority away: of one whose run is
// proven to have ended nobody's second vote makes a writer.
func (o *Observation) ballotOf(now Instant, holder Run, epoch Epoch, voter Run) ballot {
	pod := o.Lease.PodOf(voter.Member)
	if voter.Member == holder.Member {
		pod = holder.PodUID
	}
	if pod == "" || pod == voter.PodUID || !o.keeps(OneVote) {
		return sure
	}
	if _, proven := o.noWait(now, holder, epoch); proven {
		return sure
	}
	return doubtful
}

// outvotes reports whether so many of every voter set in force turned from the holder that it cannot have a majority. One of
// the pods that doubtful votes stand beside may be alive and still vote for it; that two are at once is assumed not to happen.
func (t Terms) outvotes(of func(member string) ballot) bool {
	for _, set := range t.VoterSets() {
		left, doubts := len(set), 0
		for _, m := range set {
			switch of(m) {
			case sure:
				left--
			case doubtful:
				left, doubts = left-1, 1
			}
		}
		if len(set) == 0 || left+doubts >= len(set)/2+1 || len(set)-left <= len(set)/2 {
			return false
		}
	}
	return true
}

// votes reports whether an acknowledgement counts as its member's vote for this holder.
func (o *Observation) votes(c Counted) bool {
	if c.Run.IsZero() || !o.keeps(OneVote) {
		return true
	}
	named, moved := o.Lease.PodOf(c.Run.Member), o.Tenure.moved[c.Run.Member]
	return (named == "" || named == c.Run.PodUID) && (moved == "" || moved == c.Run.PodUID)
}

// outspoken reports whether an acknowledgement is left aside because the holder's right may still rest on one of the pod that has
// the vote: who takes over with the other pod's promise would not know how long.
func (o *Observation) outspoken(now Instant, from Run) bool {
	c, ok := o.Tenure.Acks[from.Member]
	return ok && o.keeps(OneVote) && c.Run.PodUID != from.PodUID && o.votes(c) && since(now, c.Arrived) <= o.Lease.Terms.WaitDuration()
}

// podsWanted names the pods of members that answer this holder and have no vote although no other pod uses it.
func (o *Observation) podsWanted(now Instant) map[string]string {
	t, pods := o.Tenure, map[string]string{}
	if !o.keeps(OneVote) {
		return nil
	}
	settled := since(now, t.Learned) > o.Lease.Terms.SuspectAfter() // until then the named one may just not have answered yet
	for name, c := range t.Acks {
		if name == o.Self.Member || c.Sent < t.Learned || !o.Lease.Terms.HasMember(name) {
			continue
		}
		if pod := o.Lease.PodOf(name); pod == "" || (pod != c.Run.PodUID && settled) {
			pods[name] = c.Run.PodUID
		}
	}
	return pods
}

// OnWriting takes in that this holder is about to write other terms. Until it sees a later version of the Lease nobody knows
// which are in force, so it serves only while both would let it: the old list counts and the new one, and of a member whose vote
// moves neither pod that only one of them names. Nor does its engine let clients go with fewer replicas than one of them says.
func (o *Observation) OnWriting(next Terms) {
	t := o.Tenure
	if t == nil {
		return
	}
	if len(o.Lease.Terms.Next) > 0 && len(next.Next) == 0 {
		t.dropping = true
	}
	if set := next.Set(); set != nil {
		t.writing = max(t.writing, set.Quorum)
	}
	written := Lease{Terms: next}
	for _, name := range next.Names() {
		if pod := written.PodOf(name); pod != "" && pod != o.Lease.PodOf(name) && name != o.Self.Member {
			t.moved[name] = pod
		}
	}
}
