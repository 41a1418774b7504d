package failover

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// countedSets are the synchronous sets that a candidate must reach: that of the last epoch that opened, and of each one
// granted since (rule SyncQuorum).
func (o *Observation) countedSets() []SyncSet {
	return slices.DeleteFunc(slices.Clone(o.Lease.Terms.Sets), func(s SyncSet) bool { return s.Epoch < o.Lease.Terms.Opened })
}

// answered is what a member said of its data when nothing below the new epoch could reach it any more.
type answered struct {
	identity string
	position Position
}

// identities compares what was answered with what a set names.
func (o *Observation) identified(named, answered string) bool {
	if !o.keeps(DataIdentity) {
		return true
	}
	return named != "" && named == answered
}

// reaches says what a set lacks among those that answered, or nothing: R of its replicas with R + W > N, or its own
// primary, which has all that was ever acknowledged in its epoch.
func (o *Observation) reaches(s SyncSet, have map[string]answered) string {
	// Its data epoch is on disk before a primary opens: one that answers with an older one never opened, and nothing was
	// ever acknowledged under its set.
	if p, ok := have[s.Primary]; ok && o.keeps(StandsForAll) && o.identified(s.PrimaryData, p.identity) {
		return ""
	}
	if o.vanished(s, have) {
		return ""
	}
	n, r := len(s.Replicas), 0
	var missing []string
	for _, m := range slices.Sorted(maps.Keys(s.Replicas)) {
		a, ok := have[m]
		switch {
		case !ok:
			missing = append(missing, m+" did not answer")
		case !o.identified(s.Replicas[m], a.identity):
			missing = append(missing, m+" does not have the data it had")
		case a.position.Inexact:
			missing = append(missing, m+" was restarted and does not know how much it has")
		default:
			r++
		}
	}
	if r+s.Quorum > n {
		return ""
	}
	return fmt.Sprintf("%d of the %d replicas of epoch %d are needed with their data, or %s with its own, and %d answered: %s",
		max(n-s.Quorum+1, 0), n, s.Epoch, s.Primary, r, strings.Join(missing, ", "))
}

// vanished reports that engines keep nothing over a restart, that everybody of a set answered, and that nobody has the data it
// names any more: what was acknowledged under it is lost whoever takes over (rule Bootstrap, last sentence).
func (o *Observation) vanished(s SyncSet, have map[string]answered) bool {
	if o.Engine.Persistent {
		return false
	}
	gone := func(member, named string) bool {
		a, ok := have[member]
		return ok && (named == "" || a.identity != named)
	}
	for m, named := range s.Replicas {
		if !gone(m, named) && o.Lease.Terms.HasMember(m) { // one that was removed went with its data
			return false
		}
	}
	return gone(s.Primary, s.PrimaryData) || !o.Lease.Terms.HasMember(s.Primary)
}

// syncMissing says what keeps a synchronous candidate from knowing that it has all that was acknowledged, or nothing.
func (o *Observation) syncMissing(a *Attempt) string {
	return o.unreached(promisedData(a), o.handedOver)
}

func promisedData(a *Attempt) map[string]answered {
	have := map[string]answered{}
	for m, p := range a.Promises {
		if p.Given {
			have[m] = answered{p.DataID, p.Position}
		}
	}
	return have
}

// surpassed says whether those who have more than this member are needed to know what was acknowledged, and whom it lacks.
// Who has more and is not needed has only what no client was told of: an old primary's unconfirmed end.
func (o *Observation) surpassed(have map[string]answered, settled func(SyncSet) bool) string {
	rest := maps.Clone(have)
	maps.DeleteFunc(rest, func(_ string, a answered) bool { return o.position().Less(a.position) })
	return o.unreached(rest, settled)
}

// unreached is what the sets that count lack among those who answered, or nothing.
func (o *Observation) unreached(have map[string]answered, settled func(SyncSet) bool) string {
	if !o.keeps(SyncQuorum) {
		return ""
	}
	for _, s := range o.countedSets() {
		if settled(s) {
			continue
		}
		if missing := o.reaches(s, have); missing != "" {
			return missing
		}
	}
	return ""
}

// handedOver: the primary of a set released its right at a position that this member has.
func (o *Observation) handedOver(s SyncSet) bool {
	r := o.Release
	return r != nil && r.Final && r.Epoch == s.Epoch && r.Run.Member == s.Primary && r.Position.DataEpoch == s.Epoch &&
		!o.Engine.Position.Less(r.Position)
}

// syncConfirmed says what keeps a new holder from opening: enough members must acknowledge its epoch with the very data
// that counts (missing), and it must not lack what one of those has who are needed for that (surpassed; rule OpenOnAcks).
func (o *Observation) syncConfirmed(t *Tenure) (missing, surpassed string) {
	if !o.keeps(OpenOnAcks) {
		return "", ""
	}
	have := map[string]answered{o.Self.Member: {o.Engine.DataID, o.position()}}
	for m, c := range t.Acks {
		if m != o.Self.Member && m != APIServer && c.Sent >= t.Learned {
			have[m] = answered{c.DataID, c.Position}
		}
	}
	settled := func(s SyncSet) bool { return s.Epoch >= t.Epoch || t.handedOver[s.Epoch] }
	if missing := o.unreached(have, settled); missing != "" {
		return missing, ""
	}
	return "", o.surpassed(have, settled)
}

// nextSet is the set of an epoch that this member is about to hold. Identities are carried over and never taken from an
// answer: a member that lost its data must not be named with what it has now. Who is no member any more stays in it too: of two
// replicas of which one must confirm, the one that left may have confirmed what the other never got (rule LeaversCount).
func (o *Observation) nextSet(epoch Epoch, terms Terms) []SyncSet {
	old := terms.Set()
	if terms.Quorum == 0 && old == nil {
		return nil
	}
	next := SyncSet{Epoch: epoch, Primary: o.Self.Member, PrimaryData: o.Engine.DataID, Replicas: map[string]string{}, Quorum: terms.Quorum}
	for _, m := range terms.Names() {
		next.Replicas[m] = ""
	}
	if old != nil {
		next.Quorum = old.Quorum
		carried := maps.Clone(old.Replicas)
		carried[old.Primary] = old.PrimaryData
		for m, data := range carried {
			if terms.HasMember(m) || o.keeps(LeaversCount) {
				next.Replicas[m] = data
			}
		}
	}
	delete(next.Replicas, o.Self.Member)
	return append(o.countedSets(), next)
}

// NextSet is the set of the next epoch, should this member hold it; nil: there is none.
func (o *Observation) NextSet() *SyncSet {
	if sets := o.nextSet(o.Lease.Epoch+1, o.Lease.Terms); len(sets) > 0 {
		return &sets[len(sets)-1]
	}
	return nil
}

// setWanted is the set that the holder should have in the Lease: members that caught up by their new identity, and the W
// that the policy wants or that is left. nil: what is there is right.
func (o *Observation) setWanted(now Instant, terms Terms) []SyncSet {
	t, cur := o.Tenure, terms.Set()
	if terms.Quorum == 0 {
		return nil
	}
	if cur == nil || cur.Epoch != t.Epoch || cur.Primary != o.Self.Member {
		sets := o.nextSet(t.Epoch, terms)
		if t.Opened {
			sets[len(sets)-1].Quorum = 0 // what was acknowledged so far waited for nobody, or is not known to have: it is raised as any other
		}
		return sets
	}
	next := *cur
	next.Replicas = maps.Clone(cur.Replicas)
	next.PrimaryData = o.Engine.DataID
	for m, c := range t.Acks {
		if named, ok := next.Replicas[m]; ok && c.DataID != named && c.caughtUp(t.Epoch) && !o.countsOther(m, c.Run.PodUID) {
			next.Replicas[m] = c.DataID
		}
	}
	o.dropLeavers(&next, terms)
	next.Quorum = o.quorumWanted(now, cur)
	sets := slices.DeleteFunc(o.countedSets(), func(s SyncSet) bool { return s.Epoch == t.Epoch || (t.Opened && s.Epoch < t.Epoch) })
	return append(sets, next)
}

// countsOther reports whether the engine may take the word of another pod of a member for that of the one whose data the Lease is to name.
func (o *Observation) countsOther(member, pod string) bool {
	return slices.ContainsFunc(o.Engine.Counts[member], func(counted string) bool { return counted != pod })
}

// dropLeavers takes those out of a set who are no members any more, once the engine takes nobody's word of theirs and each replica that stays has reached
// what the primary had after that: what they alone confirmed before is then on all others. A set of fewer than W is never left.
func (o *Observation) dropLeavers(next *SyncSet, terms Terms) {
	left := o.Tenure.Left
	if left.Target == 0 {
		return
	}
	stay := maps.Clone(next.Replicas)
	maps.DeleteFunc(stay, func(m, _ string) bool { return !terms.HasMember(m) })
	if len(stay) == len(next.Replicas) || len(stay) < max(next.Quorum, 1) {
		return
	}
	for m, named := range stay {
		c := o.Tenure.Acks[m]
		if !c.has(named, next.Epoch, left.Target) {
			return
		}
	}
	next.Replicas = stay
}

// leavers are those in the newest set who are no members, as one text; nobody: "".
func (o *Observation) leavers() string {
	set, gone := o.Lease.Terms.Set(), []string{}
	if set == nil {
		return ""
	}
	for m := range set.Replicas {
		if !o.Lease.Terms.HasMember(m) {
			gone = append(gone, m)
		}
	}
	slices.Sort(gone)
	return strings.Join(gone, ",")
}

// noteLeavers keeps what the primary had some time after it last heard of anybody who left, and after its engine took nobody's word of theirs any more.
func (o *Observation) noteLeavers(now Instant, from string) {
	t, names := o.Tenure, o.leavers()
	counted := func(m string) bool { return len(o.Engine.Counts[m]) > 0 }
	gone := strings.Split(names, ",")
	if l := &t.Left; names == "" || names != l.Names || slices.Contains(gone, from) || slices.ContainsFunc(gone, counted) {
		*l = Left{Names: names, Since: now}
	} else if settled := max(l.Since.Add(o.Lease.Terms.WaitDuration()), o.Engine.QuorumAt); l.Target == 0 && now > settled && o.Engine.At > settled && o.Engine.Writable {
		l.Target = max(o.Engine.Position.Offset, 1)
	}
}

// quorumWanted is the W for the Lease. Lowering it comes first in the Lease and then in the engine; raising it the other
// way round, so that the engine never acknowledges with fewer than the Lease says; and only once as many replicas have what was acknowledged before.
func (o *Observation) quorumWanted(now Instant, cur *SyncSet) int {
	want := o.QuorumTarget(now)
	for ; want > cur.Quorum; want-- { // one that is behind does not keep the others from being counted on
		if o.Engine.Quorum >= want && o.raised(cur, want) {
			break
		}
	}
	return want
}

// noteRaise keeps what the primary had once its engine had confirmed that each write waits for more replicas than the Lease says.
func (o *Observation) noteRaise() {
	r, set := &o.Tenure.Raise, o.Lease.Terms.Set()
	if set == nil || o.Engine.Quorum <= set.Quorum {
		*r = Raise{}
		return
	}
	if r.Quorum != o.Engine.Quorum || r.Since != o.Engine.QuorumAt {
		*r = Raise{Quorum: o.Engine.Quorum, Since: o.Engine.QuorumAt}
	}
	if !r.Known && o.Engine.At > r.Since && o.Engine.Writable {
		r.Known, r.Target = true, o.Engine.Position.Offset
	}
}

// raised reports whether as many replicas of a set, with the data that it names, have what was acknowledged before each write waited for as many.
func (o *Observation) raised(set *SyncSet, want int) bool {
	t, have := o.Tenure, 0
	if r := t.Raise; !r.Known || r.Quorum < want || r.Since != o.Engine.QuorumAt { // of an order before the last one it says nothing
		return false
	}
	for m, named := range set.Replicas {
		if c := t.Acks[m]; o.Lease.Terms.HasMember(m) && c.has(named, t.Epoch, t.Raise.Target) {
			have++
		}
	}
	return have >= want
}

// engineQuorum is the W that the engine should have: that of the Lease, that which a write may have put there, or already the higher one that is to come there.
func (o *Observation) engineQuorum(now Instant) int {
	set := o.Lease.Terms.Set()
	if set == nil {
		return max(o.Lease.Terms.Quorum, o.Tenure.writing) // the set follows when the engine has it
	}
	return max(set.Quorum, o.QuorumTarget(now), o.Tenure.writing)
}

// QuorumTarget is the W that the policy wants, or fewer where it lets the holder go on with those that are left.
func (o *Observation) QuorumTarget(now Instant) int {
	terms, t := o.Lease.Terms, o.Tenure
	if terms.OnTooFew != ContinueWriting || t == nil || !t.Opened {
		return terms.Quorum
	}
	left := 0
	for m, c := range t.Acks {
		if m != o.Self.Member && m != APIServer && c.Position.DataEpoch == t.Epoch && since(now, c.Arrived) <= terms.SuspectAfter() {
			left++
		}
	}
	return min(terms.Quorum, left)
}

// caughtUp reports whether a member has reached what the primary had when it came back with other data.
func (c Counted) caughtUp(epoch Epoch) bool { return c.Target > 0 && c.has(c.DataID, epoch, c.Target) }

// has reports whether a member has the data that is named, if any is, in an epoch and up to an offset.
func (c Counted) has(named string, epoch Epoch, offset int64) bool {
	return named != "" && c.DataID == named && c.Position.DataEpoch == epoch && c.Position.Offset >= offset
}
