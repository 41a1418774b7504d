package failover

// Rule names a safety rule, or one clause of it, so that a test can switch it off and see what it was there for. Nothing but
// tests does: the zero value keeps them all. docs/design/2026-11-24-safety-argument.md has what each one's absence did.
type Rule uint32

// The rules that can be switched off, by the names of the design.
const (
	// RunBound: the right to write belongs to one run, not to a name.
	RunBound Rule = 1 << iota
	// MajorityServe: a holder stops when no majority acknowledged it in time.
	MajorityServe
	// GuardKills: a second process kills the engine at the instant, whatever the agent does.
	GuardKills
	// PreVote: a candidate asks first, without durable effect.
	PreVote
	// HearsBothWays: only a heartbeat that echoes an own acknowledgement is heard.
	HearsBothWays
	// PromiseDurable: a promise is on disk before it is sent, and a member that may have forgotten one waits.
	PromiseDurable
	// StartIsLastAck: a restarted agent takes its start for its last acknowledgement.
	StartIsLastAck
	// PromiseForbidsFollowing: who promised N acknowledges and follows nothing below N.
	PromiseForbidsFollowing
	// HolderRenumbers: a holder told of a higher promise takes the next epoch itself.
	HolderRenumbers
	// WaitFromAcks: silence is waited out from what voters acknowledged, not from today's policy.
	WaitFromAcks
	// Contradicted: ProcessGone does not count while a promiser's connection to that run is open.
	Contradicted
	// SameVersion: what was collected under one version of the Lease counts under no other.
	SameVersion
	// OpenOnAcks: a new holder opens only on acknowledgements of heartbeats it sent after it learned of the grant.
	OpenOnAcks
	// AckAge: such an acknowledgement counts when its sender's last lower one is over.
	AckAge
	// JointVoters: while voters change, both lists need a majority.
	JointVoters
	// SyncQuorum: a candidate is chosen only among R with R + W > N.
	SyncQuorum
	// DataEpoch: offsets compare only within one data epoch.
	DataEpoch
	// DataIdentity: a member that lost its data is not in R.
	DataIdentity
	// LeaversCount: who left the service stays in the synchronous set until the others have all that it alone may have confirmed.
	LeaversCount
	// StandsForAll: the old primary, answering with its data, stands for all of R.
	StandsForAll
	// FenceOnHolderOnly: a primary stops for a higher epoch of the Lease or of its holder, not for a promise.
	FenceOnHolderOnly
	// ClockJump: a jump of the wall clock against the lease's clock counts as lease lost.
	ClockJump
	// APIVoteWaits: the API server's vote needs the Lease unchanged since the suspicion.
	APIVoteWaits
	// ReleasedFinal: what a run released it never serves again.
	ReleasedFinal
	// OneVote: of two pods of one name only the one that the Lease names has the member's vote.
	OneVote
)

// keeps reports whether a rule is in force.
func (o *Observation) keeps(r Rule) bool { return o.Without&r == 0 }
