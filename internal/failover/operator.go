package failover

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// MemberReport is what a member said of itself to the operator, over a connection that stands.
type MemberReport struct {
	Run     Run
	Epoch   Epoch // the highest it knows
	Promise Epoch
	// HasData: it has, or may have, data; Running: its engine runs, so that it knows.
	HasData, Running bool
	Serving          bool
	DataID           string
	// Lease as the member read it last.
	Lease Lease
}

// OperatorView is all on which the operator decides about a Lease.
type OperatorView struct {
	Lease *Lease // as the API server has it now; nil: there is none
	Known Epoch  // the highest epoch that the status and the slices name
	// Wanted are the terms that spec and policy ask for, Members the list for a service of that size; Sure is false while the
	// policy is not known.
	Wanted Terms
	Sure   bool
	// Reports of members that answer now; Silent how long the others have not.
	Reports map[string]MemberReport
	Silent  map[string]time.Duration
	// Paused services are left as they are; Blocked ones are not begun.
	Paused, Blocked bool
}

// LeaseProblem is a reason why only a person can go on.
type LeaseProblem string

// The problems.
const (
	// LeaseLost: the Lease is gone or set back and too few members answer to make it anew.
	LeaseLost LeaseProblem = "LeaseLost"
	// DataFound: a service that never had a primary has data.
	DataFound LeaseProblem = "DataFound"
)

// LeaseStep is what the operator does about a Lease.
type LeaseStep struct {
	// Write is the Lease to write, under the version that was read; nil: none. Create says that there is none yet.
	Write  *Lease
	Create bool
	// Why is the sentence for the log.
	Why string
	// Problem, with the epoch or the member it is about.
	Problem LeaseProblem
	Epoch   Epoch
	Member  string
	// Waiting are the members, or the policy, that are waited for.
	Waiting []string
}

// DecideLease says what the operator does about the Lease: it makes it, grants epoch 1, puts mode, accepted evidence, cooldown, turns, the
// preferred members and a person's approval into force, begins changes of members, and makes a lost one anew. All else is the members' own.
func DecideLease(v OperatorView) LeaseStep {
	known := v.Known
	for _, r := range v.Reports {
		known = max(known, r.Epoch)
	}
	switch {
	case v.Paused && v.Lease == nil:
		return LeaseStep{}
	case known > 0 && (v.Lease == nil || v.Lease.Epoch < known):
		return restoreLease(v, known)
	case v.Lease == nil && !v.Sure:
		return LeaseStep{Waiting: []string{"the FailoverPolicy"}}
	case v.Lease == nil && v.Blocked:
		return LeaseStep{}
	case v.Lease == nil:
		return LeaseStep{Create: true, Write: &Lease{Terms: v.Wanted}, Why: "the service is new"}
	case v.Lease.Epoch == 0 && v.Lease.Holder.IsZero():
		return bootstrap(v)
	case !v.Sure:
		return LeaseStep{}
	}
	next := *v.Lease
	next.Terms.Mode, next.Terms.Accepted, next.Terms.CooldownMillis = v.Wanted.Mode, v.Wanted.Accepted, v.Wanted.CooldownMillis
	next.Terms.Turns, next.Terms.TurnsIn, next.Terms.Behind = v.Wanted.Turns, v.Wanted.TurnsIn, v.Wanted.Behind
	next.Terms.TurnsOf, next.Terms.GroupTurns, next.Terms.GroupBehind = v.Wanted.TurnsOf, v.Wanted.GroupTurns, v.Wanted.GroupBehind
	next.Terms.Preferred, next.Terms.Approved = v.Wanted.Preferred, v.Wanted.Approved
	why := "mode, accepted evidence, cooldown, turns, the preferred members or a person's approval changed"
	if list, reason := nextMembers(v); list != nil && !v.Paused {
		next.Terms.Next, next.Terms.Sets = v.Lease.carried(list, v.Reports), widened(next.Terms.Sets, list)
		why = reason
	}
	if sameTerms(next.Terms, v.Lease.Terms) {
		return LeaseStep{}
	}
	return LeaseStep{Write: &next, Why: why}
}

// bootstrap grants epoch 1 only when every member said that it has neither data nor a promise (rule Bootstrap).
func bootstrap(v OperatorView) LeaseStep {
	have := *v.Lease
	if wanted := v.Wanted; v.Sure && !sameTerms(have.Terms, wanted) {
		have.Terms = wanted
		return LeaseStep{Write: &have, Why: "the policy changed before the first primary was named"}
	}
	if v.Paused {
		return LeaseStep{}
	}
	var silent []string
	var first Run
	pods := map[string]string{}
	set := SyncSet{Epoch: 1, Replicas: map[string]string{}, Quorum: have.Terms.Quorum}
	for i, m := range have.Terms.Members {
		r, ok := v.Reports[m.Name]
		pods[m.Name] = r.Run.PodUID
		switch {
		case !ok, r.HasData && !r.Running:
			silent = append(silent, m.Name)
		case r.HasData:
			return LeaseStep{Problem: DataFound, Member: m.Name}
		case r.Promise > 0 || r.Epoch > 0:
			return LeaseStep{Problem: LeaseLost, Epoch: max(r.Promise, r.Epoch)}
		case i == 0:
			first, set.Primary, set.PrimaryData = r.Run, m.Name, r.DataID
		default:
			set.Replicas[m.Name] = ""
		}
	}
	if len(silent) > 0 || first.IsZero() {
		return LeaseStep{Waiting: silent}
	}
	have.Epoch, have.Holder, have.Terms.Members = 1, first, withPods(have.Terms.Members, pods)
	if have.Terms.Quorum > 0 {
		have.Terms.Sets = []SyncSet{set}
	}
	return LeaseStep{Write: &have, Why: "every member answered that it has neither data nor a promise"}
}

// restoreLease makes a lost Lease anew, above every epoch that a majority of members, the slices and the status know, naming
// the run that serves, or the last holder that is known (rule LeaseGuarded). Whoever it names opens on acknowledgements as
// any other holder, so that a wrong guess costs time and nothing else, but for one that lowered W just before and is lost together with the Lease.
func restoreLease(v OperatorView, known Epoch) LeaseStep {
	var best *MemberReport
	for _, name := range slices.Sorted(maps.Keys(v.Reports)) {
		r := v.Reports[name]
		known = max(known, r.Promise)
		if r.Lease.Epoch > 0 && (best == nil || r.Lease.Epoch > best.Lease.Epoch || (r.Lease.Epoch == best.Lease.Epoch && later(r, *best))) {
			best = &r
		}
	}
	lost := LeaseStep{Problem: LeaseLost, Epoch: known}
	if best == nil {
		return lost
	}
	terms := best.Lease.Terms
	if !answering(terms, v.Reports) {
		for _, name := range terms.Names() {
			if _, ok := v.Reports[name]; !ok {
				lost.Waiting = append(lost.Waiting, name)
			}
		}
		return lost
	}
	made := Lease{Epoch: known + 1, Holder: best.Lease.Holder, Terms: terms}
	if best.Serving {
		made.Holder = best.Run
		made.Terms.Sets = unconfirmed(terms.Sets) // it may have let clients go with fewer since it said this; it raises W again
	}
	if v.Lease != nil {
		made.Version = v.Lease.Version
	}
	return LeaseStep{Write: &made, Create: v.Lease == nil, Why: "the Lease was lost or set back"}
}

// unconfirmed are sets of which the newest says that nobody but its primary has what was acknowledged.
func unconfirmed(sets []SyncSet) []SyncSet {
	out := slices.Clone(sets)
	if len(out) > 0 {
		out[len(out)-1].Quorum = 0
	}
	return out
}

// later reports whether a read the Lease later than b, of two that read the same epoch: lists of members change within one. Who serves by it
// has read all of it.
func later(a, b MemberReport) bool {
	if a.Serving || b.Serving {
		return a.Serving
	}
	x, errX := strconv.ParseUint(a.Lease.Version, 10, 64)
	y, errY := strconv.ParseUint(b.Lease.Version, 10, 64)
	return errX == nil && errY == nil && x > y
}

// answering reports whether a majority of the voting members of each list answers; the API server, which lost the Lease,
// remembers nothing of it.
func answering(terms Terms, reports map[string]MemberReport) bool {
	for _, list := range [][]MemberEntry{terms.Members, terms.Next} {
		n := 0
		for _, m := range list {
			if _, ok := reports[m.Name]; ok && m.Voter {
				n++
			}
		}
		if len(list) > 0 && n <= voters(list)/2 {
			return false
		}
	}
	return true
}

// silentFactor: a voter's vote is moved when it was silent for so many lease durations (rule Voters).
const silentFactor = 3

// nextMembers is the list that members are to change to, or nil, and why. One change at a time; the holder must serve and stay.
func nextMembers(v OperatorView) ([]MemberEntry, string) {
	terms := v.Lease.Terms
	holder, ok := v.Reports[v.Lease.Holder.Member]
	if len(terms.Next) > 0 || !ok || !holder.Serving || holder.Run != v.Lease.Holder {
		return nil, ""
	}
	wanted := map[string]bool{}
	for _, m := range v.Wanted.Members {
		wanted[m.Name] = true
	}
	target := v.Wanted.Members
	if !wanted[v.Lease.Holder.Member] {
		if slices.ContainsFunc(target, func(m MemberEntry) bool { return terms.HasMember(m.Name) }) {
			return nil, "" // it hands over to one of those first
		}
		target = together(terms.Members, target)
	}
	added := slices.ContainsFunc(target, func(m MemberEntry) bool { return !terms.HasMember(m.Name) })
	removed := slices.ContainsFunc(terms.Members, func(m MemberEntry) bool { return !wanted[m.Name] })
	if added || removed {
		for _, m := range target {
			if _, answers := v.Reports[m.Name]; !answers && !terms.HasMember(m.Name) {
				return nil, "" // a member that never answered is not made a voter
			}
		}
		next := withVotes(target, terms.Members)
		if !majority(next, func(m string) bool { _, answers := v.Reports[m]; return answers || m == APIServer }) {
			return nil, "" // nobody could take over while it goes on
		}
		return next, "the number of members changes"
	}
	return movedVote(v, terms)
}

// together is one list of both, with votes as for its size.
func together(a, b []MemberEntry) []MemberEntry {
	list := slices.Clone(a)
	for _, m := range b {
		if !slices.ContainsFunc(a, func(o MemberEntry) bool { return o.Name == m.Name }) {
			list = append(list, m)
		}
	}
	for i := range list {
		list[i].Voter = len(list) < 4 || len(list)%2 == 1 || i < len(list)-1
	}
	return list
}

// withVotes keeps the member without a vote where it can; an even number from four on has one.
func withVotes(wanted, have []MemberEntry) []MemberEntry {
	list := slices.Clone(wanted)
	if len(list) < 4 || len(list)%2 == 1 {
		return list
	}
	for _, old := range have {
		i := slices.IndexFunc(list, func(m MemberEntry) bool { return m.Name == old.Name })
		if !old.Voter && i >= 0 {
			for j := range list {
				list[j].Voter = j != i
			}
			return list
		}
	}
	return list
}

// movedVote gives the vote of a voter that has been silent for long to the member without one, if that one answers.
func movedVote(v OperatorView, terms Terms) ([]MemberEntry, string) {
	spare := slices.IndexFunc(terms.Members, func(m MemberEntry) bool { return !m.Voter })
	if spare < 0 {
		return nil, ""
	}
	if _, answers := v.Reports[terms.Members[spare].Name]; !answers {
		return nil, ""
	}
	for i, m := range terms.Members {
		if m.Voter && v.Silent[m.Name] > silentFactor*terms.WaitDuration() {
			list := slices.Clone(terms.Members)
			list[i].Voter, list[spare].Voter = false, true
			return list, "the vote of " + m.Name + ", which does not answer, moves to " + list[spare].Name
		}
	}
	return nil, ""
}

// widened names new members in the newest synchronous set before any of them can acknowledge, with no data that counts.
func widened(sets []SyncSet, list []MemberEntry) []SyncSet {
	if len(sets) == 0 {
		return sets
	}
	sets = slices.Clone(sets)
	last := sets[len(sets)-1]
	last.Replicas = maps.Clone(last.Replicas)
	for _, m := range list {
		if _, ok := last.Replicas[m.Name]; !ok && m.Name != last.Primary {
			last.Replicas[m.Name] = ""
		}
	}
	sets[len(sets)-1] = last
	return sets
}
