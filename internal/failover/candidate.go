package failover

import (
	"fmt"
	"slices"
	"strings"
)

// MemberVerdict says whether a member may become primary, or the guard that refuses it and why.
type MemberVerdict struct {
	Eligible bool
	Guard    string
	Message  string
}

// guard is one reason not to let a member become primary. It returns a sentence when it refuses.
type guard struct {
	name    string
	refuses func(now Instant, o *Observation) string
}

// guards are asked in this order; the first that refuses is reported.
var guards = []guard{
	{"NotAMember", func(_ Instant, o *Observation) string {
		if o.Lease.Terms.HasMember(o.Self.Member) {
			return ""
		}
		return "the Lease does not list it as a member"
	}},
	{"Leaving", func(_ Instant, o *Observation) string {
		if o.Leaving {
			return "its pod is being ended"
		}
		return ""
	}},
	{"Excluded", func(_ Instant, o *Observation) string {
		if slices.Contains(o.Lease.Terms.Excluded, o.Self.Member) {
			return "the policy's candidates.excluded names it"
		}
		return ""
	}},
	{"VolumeReadOnly", func(_ Instant, o *Observation) string {
		if len(o.ReadOnly) == 0 {
			return ""
		}
		return "its volume " + strings.Join(o.ReadOnly, ", ") + " refuses what is written"
	}},
	{"MayHaveForgotten", func(now Instant, o *Observation) string {
		if !o.MayVote(now) {
			return "it may have forgotten a promise and waits until none can count any more"
		}
		return ""
	}},
	{"EngineDown", func(_ Instant, o *Observation) string {
		if o.Engine.State != EngineRunning {
			return "its engine is not running"
		}
		return ""
	}},
	{"EngineUnhealthy", func(_ Instant, o *Observation) string {
		if !o.Engine.Healthy {
			return "its engine does not answer"
		}
		return ""
	}},
	{"ImportPending", func(_ Instant, o *Observation) string {
		if by := o.ImportedBy; o.Lease.Terms.Opened == 0 && by != "" && by != o.Self.Member {
			return "the service begins with data that " + by + " is to import: this member's own is empty"
		}
		return ""
	}},
	{notSynchronised, func(_ Instant, o *Observation) string {
		if o.Lease.Terms.Set() != nil {
			return o.notNamed()
		}
		if o.Lease.Terms.Opened > 0 && o.Engine.Position.DataEpoch < o.Lease.Terms.Opened {
			return fmt.Sprintf("it has not finished copying the data of epoch %d; it has epoch %d", o.Lease.Terms.Opened, o.Engine.Position.DataEpoch)
		}
		return ""
	}},
	{"Lagging", func(_ Instant, o *Observation) string {
		if o.Lease.Terms.Set() != nil {
			return "" // R of the set say who has all that was acknowledged, whatever else the primary had
		}
		lag, known := o.Lag()
		if known && lag > o.Lease.Terms.MaxLagBytes {
			return fmt.Sprintf("it is %d bytes behind, more than the policy's candidates.maxLagBytes of %d", lag, o.Lease.Terms.MaxLagBytes)
		}
		return ""
	}},
}

// notNamed says why a member's data is not what the synchronous sets count, or nothing.
func (o *Observation) notNamed() string {
	if !o.keeps(SyncQuorum) || len(o.countedSets()) == 0 {
		return ""
	}
	for _, s := range o.countedSets() {
		own := s.Replicas[o.Self.Member]
		if s.Primary == o.Self.Member {
			own = s.PrimaryData
		}
		if o.identified(own, o.Engine.DataID) {
			return ""
		}
	}
	return "it does not have the data that the synchronous set counts on: it has not caught up since it lost its own"
}

// Verdict asks every guard about this member itself.
func Verdict(now Instant, o *Observation) MemberVerdict {
	for _, g := range guards {
		if msg := g.refuses(now, o); msg != "" {
			return MemberVerdict{Guard: g.name, Message: msg}
		}
	}
	return MemberVerdict{Eligible: true, Guard: "Eligible", Message: "it could take over now"}
}

// Rank orders this member among the candidates.
func (o *Observation) Rank(now Instant) Rank {
	return Rank{Eligible: Verdict(now, o).Eligible, Position: o.position(), Preferred: slices.Contains(o.Lease.Terms.Preferred, o.Self.Member), Ordinal: o.Ordinal,
		Stays: o.Lease.Terms.Stays(o.Self.Member)}
}

// position is what this member has, as it compares with others.
func (o *Observation) position() Position {
	p := o.Engine.Position
	if !o.keeps(DataEpoch) {
		p.DataEpoch, p.Whole = 0, false
	}
	return p
}

// Lag is how far this member is behind the last position heard of the holder; offsets of different data epochs do not
// compare, and then nothing is known.
func (o *Observation) Lag() (int64, bool) {
	if !o.Heard.Known || (o.Heard.Position.DataEpoch != o.Engine.Position.DataEpoch && o.keeps(DataEpoch)) {
		return 0, false
	}
	return max(0, o.Heard.Position.Offset-o.Engine.Position.Offset), true
}

// lagNeedsAll reports that this member's lag is unknown, so that it may take over only when every member answered and
// none has more (an unknown lag is no candidate otherwise).
func (o *Observation) lagNeedsAll() bool {
	_, known := o.Lag()
	return !known && o.Lease.Terms.Opened > 0 && o.Lease.Terms.Set() == nil
}

// notSynchronised names the guard that a last resort may pass.
const notSynchronised = "NotSynchronised"

// lastResort reports that every member promised, that none has the data of the last epoch that opened, and that engines
// keep none over a restart: that data is gone whoever takes over, so the member that has most of what is left may, even if
// that is nothing (rule Bootstrap, last sentence).
func (o *Observation) lastResort(a *Attempt) bool {
	if o.Engine.Persistent || a == nil {
		return false
	}
	if sets := o.countedSets(); len(sets) > 0 {
		have := promisedData(a)
		return !slices.ContainsFunc(sets, func(s SyncSet) bool { return !o.vanished(s, have) })
	}
	for _, m := range o.Lease.Terms.Names() {
		if p, ok := a.Promises[m]; !ok || !p.Given || p.Position.DataEpoch >= o.Lease.Terms.Opened {
			return false
		}
	}
	return true
}

// mayTry reports whether a member without the data may ask the others whether it is the last resort: some time after those
// with the data would have asked.
func (o *Observation) mayTry(now Instant, v MemberVerdict, detected Instant) bool {
	wait := o.Lease.Terms.SuspectAfter()
	if len(o.Lease.Terms.Names()) == 1 {
		wait = 0
	}
	return v.Guard == notSynchronised && !o.Engine.Persistent && since(now, detected) >= wait
}

// bestOf reports whether this member is the best of those that promised, and that enough promised for it to know.
func (o *Observation) bestOf(now Instant, a *Attempt) (bool, string) {
	if v := Verdict(now, o); !v.Eligible && (v.Guard != notSynchronised || !o.lastResort(a)) {
		return false, v.Message
	}
	if r := o.Release; a.Asked && r != nil && r.Final && !o.Engine.Position.Less(r.Position) {
		return true, "" // it was asked, and it has all that the old primary had
	}
	if missing := o.syncMissing(a); missing != "" {
		return false, "it cannot know that it has all that was acknowledged: " + missing
	}
	if missing := o.surpassed(promisedData(a), o.handedOver); missing != "" {
		return false, "others have more of the data that was acknowledged, and without them it cannot know: " + missing
	}
	mine := o.Rank(now)
	answered := 0
	for _, m := range o.Lease.Terms.Names() {
		p, ok := a.Promises[m]
		if !ok || !p.Given {
			continue
		}
		answered++
		if m != o.Self.Member && p.Rank.Better(mine) && p.From != a.Holder {
			return false, m + " is the better candidate"
		}
	}
	if o.lagNeedsAll() && answered < len(o.Lease.Terms.Names()) {
		return false, "its lag is unknown and not every member answered"
	}
	return true, ""
}
