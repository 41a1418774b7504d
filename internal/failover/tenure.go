package failover

import (
	"slices"
	"time"
)

// Tenure is one run's hold of the Lease.
type Tenure struct {
	Epoch   Epoch
	Learned Instant // when this run learned of the grant
	Won     *Attempt
	// Opened: the engine was promoted after a majority acknowledged this epoch (rule OpenOnAcks).
	Opened   bool
	OpenedAt Instant
	// Told is the highest promise above Epoch that a member told of.
	Told Epoch
	// Durable: this run's own promise of Epoch is on disk, so it may count itself.
	Durable bool
	Beat    Instant // when the last heartbeats were sent
	Acks    map[string]Counted
	// Joint is when the change of members under way was learned of; 0: none is.
	Joint Instant
	// dropping: the old list may have been dropped by a write whose answer is not here.
	dropping bool
	// moved are the pods to which this holder moved votes, whether or not the Lease is known to say so.
	moved map[string]string
	// writing is the W of the set in such a write.
	writing int
	// PartitionSince is when the partition choice in force was learned of.
	PartitionSince Instant
	partition      PartitionChoice
	// handedOver are the epochs whose primary released them at a position that this run had when it took over.
	handedOver map[Epoch]bool
	// Adopted is when the L in force was first served under; raised when a longer one was first seen.
	Adopted Instant
	raised  Instant
	lease   time.Duration
	// Left are those in the synchronous set who are no members any more.
	Left Left
	// Raise is the higher W that the engine has and the Lease has not.
	Raise Raise
}

// Raise says what the primary had when each write had begun to wait for more replicas, once that is known.
type Raise struct {
	Quorum int
	Since  Instant
	Known  bool
	Target int64
}

// Left says who left, since when nothing was heard of them, and what the primary had a lease after that; 0: not known yet.
type Left struct {
	Names  string
	Since  Instant
	Target int64
}

// Counted is the newest acknowledgement of one member.
type Counted struct {
	Run      Run
	Sent     Instant // our instant that it echoes
	Arrived  Instant
	Theirs   Instant // its own clock; goes back as Heartbeat.Echo
	Clear    Instant // until then something it gave below this epoch may still count
	Position Position
	DataID   string
	Healthy  bool
	Eligible bool
	// Target is what the primary had after this data was first heard of, at Since; 0: not known yet.
	Target int64
	Since  Instant
}

func newTenure(now Instant, epoch Epoch) *Tenure {
	return &Tenure{Epoch: epoch, Learned: now, Acks: map[string]Counted{}, handedOver: map[Epoch]bool{}, moved: map[string]string{}}
}

// renumber moves to a higher epoch for the same run without stopping (rule PromiseForbidsFollowing).
func (t *Tenure) renumber(now Instant, epoch Epoch) {
	t.Epoch, t.Learned, t.Durable, t.Beat = epoch, now, false, 0
}

// Heartbeat makes the heartbeat for one member.
func (o *Observation) Heartbeat(now Instant, to Run, upstream string) Heartbeat {
	t, terms := o.Tenure, o.Lease.Terms
	if terms.Set() != nil {
		terms.Partition = PreferConsistency // a synchronous primary stops when isolated, whatever the policy says
	}
	return Heartbeat{From: o.Self, To: to, Epoch: t.Epoch, Sent: now,
		LeaseMillis: terms.LeaseMillis, WaitMillis: terms.WaitMillis, Partition: terms.Partition,
		Echo: t.echo(to), Position: o.Engine.Position, Open: t.Opened, Upstream: upstream, History: o.Engine.History, HistoryFrom: o.Engine.HistoryFrom,
		LeaseVersion: o.Lease.Version}
}

func (t *Tenure) echo(to Run) Instant {
	if a := t.Acks[to.Member]; a.Run == to {
		return a.Theirs
	}
	return 0
}

// OnAcknowledgement counts an acknowledgement. One of another run, another epoch or a forgetful member counts nothing.
func (o *Observation) OnAcknowledgement(now Instant, a Acknowledgement) {
	t := o.Tenure
	if t == nil || a.To != o.Self {
		return
	}
	if a.Promise > t.Epoch && o.keeps(PromiseForbidsFollowing) {
		t.Told = max(t.Told, a.Promise)
		return
	}
	if a.Epoch != t.Epoch || a.Forgotten || (a.Echo < t.Learned && o.keeps(OpenOnAcks)) || a.Echo > now || o.outspoken(now, a.From) {
		return
	}
	c := t.Acks[a.From.Member]
	if c.Run != a.From {
		c = Counted{Run: a.From}
	}
	if c.DataID != a.DataID || c.Since == 0 || o.countsOther(a.From.Member, a.From.PodUID) {
		c.Since, c.Target = now, 0
	}
	if c.Target == 0 && o.Engine.At > max(c.Since, o.Engine.QuorumAt) && o.Engine.Writable {
		c.Target = max(o.Engine.Position.Offset, 1)
	}
	c.Sent, c.Arrived, c.Theirs = max(c.Sent, a.Echo), now, max(c.Theirs, a.Sent)
	c.Position, c.DataID, c.Healthy, c.Eligible = a.Position, a.DataID, a.Healthy, a.Eligible
	c.Clear = o.clearAt(now, a.Lower)
	t.Acks[a.From.Member] = c
	o.noteLeavers(now, a.From.Member)
	o.noteRaise()
}

// clearAt is when nothing in the list can count any more. What went to a run that provably cannot write is clear.
func (o *Observation) clearAt(now Instant, lower []LowerAcknowledgement) Instant {
	if !o.keeps(AckAge) {
		return 0
	}
	var at Instant
	for _, l := range lower {
		if o.clears(now, l) || o.cutOff(l) || l.Run == o.Self {
			continue
		}
		at = max(at, now.Add(l.Remaining+Drift(l.Remaining)))
	}
	return at
}

// clears reports whether evidence names the run of an older acknowledgement as unable to write. ProcessGone may be wrong for
// one observer alone, so it counts here only where the promisers did not contradict it.
func (o *Observation) clears(now Instant, l LowerAcknowledgement) bool {
	kind, ok := o.noWait(now, l.Run, l.Epoch)
	if !ok || kind != ProcessGone || o.ended(l.Run) || !o.keeps(Contradicted) {
		return ok
	}
	won := o.Tenure.Won
	return won != nil && won.Evidence == ProcessGone && won.Holder == l.Run
}

// cutOff reports whether the run of an older acknowledgement can confirm no write any more, however long it may think that it
// serves: every confirmation waits for the quorum of that epoch's set, and the grant was made on promises of as many of it
// that too few are left. Before it opens, the same members say so again with the same data (syncConfirmed).
func (o *Observation) cutOff(l LowerAcknowledgement) bool {
	terms, won := o.Lease.Terms, o.Tenure.Won
	return won != nil && won.Evidence == QuorumCut && terms.EveryWaits && terms.Accepts(QuorumCut) &&
		slices.ContainsFunc(o.countedSets(), func(s SyncSet) bool { return s.Epoch == l.Epoch && s.Quorum > 0 })
}

// OnDurableTenure takes in that this run's own promise of its epoch is on disk.
func (o *Observation) OnDurableTenure(now Instant) {
	if t := o.Tenure; t != nil && !t.Durable && o.Durable.Promise == t.Epoch && !o.Durable.Forgotten {
		t.Durable = true
		t.countSelf(now, o)
	}
}

// countSelf counts the holder's own vote as of the heartbeat it just sent, or now.
func (t *Tenure) countSelf(at Instant, o *Observation) {
	if t.Durable {
		t.Acks[o.Self.Member] = Counted{Run: o.Self, Sent: at, Arrived: at, Clear: o.clearAt(at, o.lower(at, t.Epoch, o.Self)), Healthy: true}
	}
}

// OnBeat takes in that heartbeats were sent.
func (o *Observation) OnBeat(now Instant) {
	if t := o.Tenure; t != nil {
		t.Beat = now
		t.OnTerms(now, o.Lease.Terms)
		t.countSelf(now, o)
	}
}

// ConfirmedAt says whether, and if not yet when, a majority's acknowledgements of this epoch count (rule OpenOnAcks).
func (o *Observation) ConfirmedAt(now Instant) (bool, Instant) {
	t := o.Tenure
	counts := func(m string) bool {
		c, ok := t.Acks[m]
		return ok && c.Clear <= now && (c.Sent >= t.Learned || m == APIServer) && o.votes(c)
	}
	if o.Lease.Terms.Majority(counts) {
		return true, 0
	}
	var next Instant
	for _, c := range t.Acks {
		if c.Clear > now && (next == 0 || c.Clear < next) {
			next = c.Clear
		}
	}
	return false, next
}

// acknowledged reports whether a member acknowledged something sent since the grant was learned of.
func (t *Tenure) acknowledged(member string) bool {
	c, ok := t.Acks[member]
	return ok && c.Sent >= t.Learned
}

// sentBy reports whether a majority acknowledged something sent at an instant or later.
func (o *Observation) sentBy(at Instant) bool {
	return o.Lease.Terms.Majority(func(m string) bool { c, ok := o.Tenure.Acks[m]; return ok && c.Sent >= at && o.votes(c) })
}

// servesUntil is the instant at which the engine must be dead: the send time of the oldest acknowledgement needed for a
// majority + L − margin (rules MajorityServe and Guard). 0: there is no majority. While members change the old list alone
// counts here: every takeover needs a majority of it too, and nobody but the holder drops it.
func (o *Observation) servesUntil() Instant {
	t, terms := o.Tenure, o.Lease.Terms
	at := o.majoritySent(terms.Members, true)
	if t.dropping && len(terms.Next) > 0 {
		at = min(at, o.majoritySent(terms.Next, true)) // the old list may be gone already
	}
	if at == 0 {
		return 0
	}
	l := t.leaseInForce(terms)
	return at.Add(l - Margin(l))
}

// renewIn is how long until the right has to be renewed at the API server, where that votes and the members alone do
// not make a majority; ok is false where they do (rule Suspect, two members).
func (o *Observation) renewIn(now Instant) (in time.Duration, ok bool) {
	t, terms := o.Tenure, o.Lease.Terms
	if !terms.APIVotes() {
		return 0, false
	}
	alone := o.majoritySent(terms.Members, false)
	if voters(terms.Members) != 2 {
		alone = now // the members' own majority is enough to serve
	}
	api := t.Acks[APIServer].Sent
	if t.Joint != 0 && api < t.Joint && !o.sentBy(t.Joint) {
		return 0, true // its vote confirms the change of members
	}
	in = terms.SuspectAfter()/2 - since(now, alone)
	if alone == 0 {
		in = 0
	}
	// Often enough that whoever watches never sees the Lease unrenewed for suspectAfter.
	every := min(terms.LeaseDuration()/3, terms.SuspectAfter()/2)
	return max(in, every-since(now, api)), true
}

// leaseInForce is the L that acknowledgements were surely given under: when L grows, what was acknowledged under the
// shorter one still counts only for that long.
func (t *Tenure) leaseInForce(terms Terms) time.Duration {
	if t.lease == 0 {
		return terms.LeaseDuration()
	}
	return min(t.lease, terms.LeaseDuration())
}

// majoritySent is the send time of the oldest acknowledgement that a majority of a list needs, the API server counted or
// not; 0: there is no majority.
func (o *Observation) majoritySent(members []MemberEntry, api bool) Instant {
	var all [16]Instant
	sent, voters := all[:0], 0
	add := func(name string) {
		voters++
		if c, ok := o.Tenure.Acks[name]; ok && o.votes(c) {
			sent = append(sent, c.Sent)
		}
	}
	for _, m := range members {
		if m.Voter {
			add(m.Name)
		}
	}
	if voters == 2 && api {
		add(APIServer)
	} else if voters == 2 {
		voters++
	}
	need := voters/2 + 1
	if voters == 0 || len(sent) < need {
		return 0
	}
	slices.Sort(sent)
	return sent[len(sent)-need]
}

// OnTerms notes the L in force. A shorter one holds at once; a longer one only when every acknowledgement that counts
// is of heartbeats that carried it.
func (t *Tenure) OnTerms(now Instant, terms Terms) {
	switch {
	case len(terms.Next) == 0:
		t.Joint = 0
	case t.Joint == 0:
		t.Joint = now
	}
	if terms.Partition != t.partition {
		t.partition, t.PartitionSince = terms.Partition, now
	}
	l := terms.LeaseDuration()
	switch {
	case t.lease == 0 || l < t.lease:
		t.lease, t.Adopted, t.raised = l, now, 0
	case l == t.lease:
		t.raised = 0
	case t.raised == 0:
		t.raised = now
	case since(now, t.raised) > t.lease:
		t.lease, t.Adopted, t.raised = l, now, 0
	}
}
