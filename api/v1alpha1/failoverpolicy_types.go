package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FailoverMode says who decides about a failover.
// +kubebuilder:validation:Enum=Automatic;Manual;DryRun
type FailoverMode string

const (
	// ModeAutomatic lets members take over by themselves.
	ModeAutomatic FailoverMode = "Automatic"
	// ModeManual waits for a Failover that a person creates.
	ModeManual FailoverMode = "Manual"
	// ModeDryRun only says what would be done.
	ModeDryRun FailoverMode = "DryRun"
)

// EvidenceType is a reason to believe that the old primary cannot write any more.
// +kubebuilder:validation:Enum=Released;ProcessGone;ContainerTerminated;NodeOutOfService;QuorumCut;LeaseExpired;Asserted
type EvidenceType string

const (
	// EvidenceReleased: that run fenced itself completely and said so.
	EvidenceReleased EvidenceType = "Released"
	// EvidenceProcessGone: the kernel closed its connection, and its port refuses.
	EvidenceProcessGone EvidenceType = "ProcessGone"
	// EvidenceContainerTerminated: the API server shows that run's container as terminated.
	EvidenceContainerTerminated EvidenceType = "ContainerTerminated"
	// EvidenceNodeOutOfService: a person or a machine put the out-of-service taint on its node.
	EvidenceNodeOutOfService EvidenceType = "NodeOutOfService"
	// EvidenceQuorumCut: it can no longer reach the quorum that each of its acknowledgements waits for.
	EvidenceQuorumCut EvidenceType = "QuorumCut"
	// EvidenceLeaseExpired: it was silent until nothing that voters acknowledged can still count.
	EvidenceLeaseExpired EvidenceType = "LeaseExpired"
	// EvidenceAsserted: a person named the run as dead in a Failover of type Forced. It is no policy's to accept.
	EvidenceAsserted EvidenceType = "Asserted"
)

// PartitionChoice says what an isolated primary does.
// +kubebuilder:validation:Enum=PreferConsistency;PreferAvailability
type PartitionChoice string

const (
	// PreferConsistency: the side without a majority stops.
	PreferConsistency PartitionChoice = "PreferConsistency"
	// PreferAvailability: an isolated asynchronous primary goes on, and what it wrote may be lost on healing.
	PreferAvailability PartitionChoice = "PreferAvailability"
)

// Acknowledgement says which writes a client counts as acknowledged.
// +kubebuilder:validation:Enum=Engine;Wait
type Acknowledgement string

const (
	// AcknowledgementEngine: the engine's plain reply.
	AcknowledgementEngine Acknowledgement = "Engine"
	// AcknowledgementWait: only writes confirmed with WAIT (Redis).
	AcknowledgementWait Acknowledgement = "Wait"
)

// DetectionSpec says how quickly a silent primary is suspected and how long its right to write lasts.
//
// +kubebuilder:validation:XValidation:rule="self.leaseDurationMilliseconds >= 3 * self.heartbeatIntervalMilliseconds",message="detection.leaseDurationMilliseconds must be at least 3 × heartbeatIntervalMilliseconds"
// +kubebuilder:validation:XValidation:rule="self.suspectAfterMilliseconds >= 3 * self.heartbeatIntervalMilliseconds",message="detection.suspectAfterMilliseconds must be at least 3 × heartbeatIntervalMilliseconds"
// +kubebuilder:validation:XValidation:rule="self.leaseDurationMilliseconds > self.suspectAfterMilliseconds",message="detection.leaseDurationMilliseconds must be larger than suspectAfterMilliseconds"
type DetectionSpec struct {
	// heartbeatIntervalMilliseconds between two heartbeats of the primary.
	// +kubebuilder:validation:Minimum=20
	// +kubebuilder:validation:Maximum=10000
	// +kubebuilder:default=100
	// +optional
	HeartbeatIntervalMilliseconds int32 `json:"heartbeatIntervalMilliseconds,omitempty"`

	// suspectAfterMilliseconds of silence a member suspects the primary. Below 3 × 200 ms + one heartbeat a single
	// lost TCP segment can be enough (200 ms is Linux' smallest retransmission time).
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=60000
	// +kubebuilder:default=800
	// +optional
	SuspectAfterMilliseconds int32 `json:"suspectAfterMilliseconds,omitempty"`

	// leaseDurationMilliseconds a primary may go on after the last heartbeat that a majority acknowledged. A silent
	// primary is replaced after about this long; it stops writing max(10 %, 200 ms) earlier.
	// +kubebuilder:validation:Minimum=600
	// +kubebuilder:validation:Maximum=300000
	// +kubebuilder:default=3000
	// +optional
	LeaseDurationMilliseconds int32 `json:"leaseDurationMilliseconds,omitempty"`

	// engineTimeoutMilliseconds is how long the engine may leave the agent's probe unanswered before it counts as
	// hung and its member gives up the right to write.
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=300000
	// +kubebuilder:default=1000
	// +optional
	EngineTimeoutMilliseconds int32 `json:"engineTimeoutMilliseconds,omitempty"`
}

// CandidatesSpec limits who may become primary.
type CandidatesSpec struct {
	// maxLagBytes a candidate may be behind the last position heard of the old primary.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1099511627776
	// +kubebuilder:default=16777216
	// +optional
	MaxLagBytes *int64 `json:"maxLagBytes,omitempty"`

	// excluded members never become primary by themselves.
	// +kubebuilder:validation:MaxItems=9
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:MinLength=1
	// +listType=set
	// +optional
	Excluded []string `json:"excluded,omitempty"`
}

// DisruptionLimits say of how many members at once, of all services of the cluster, the operator may take the next one of a service under this policy
// away: to renew it in a rolling change, to make its pod anew, or to let it begin anew with fresh volumes. One that it took away counts until it is well
// again; those that are missing without the operator's doing do not count.
type DisruptionLimits struct {
	// perNode is how many of one node.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:default=3
	// +optional
	PerNode int32 `json:"perNode,omitempty"`
	// perZone is how many of one zone, as the nodes' label topology.kubernetes.io/zone says.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:default=10
	// +optional
	PerZone int32 `json:"perZone,omitempty"`
	// perCluster is how many of all.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:default=10
	// +optional
	PerCluster int32 `json:"perCluster,omitempty"`
}

// BudgetSpec limits what happens to several services at once.
type BudgetSpec struct {
	// maxConcurrentFailovers of services under this policy, in its namespace, that begin by themselves. It delays one by 10 s at most; those of a
	// lower priorityClassName leave the turns to the others at first.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:default=10
	// +optional
	MaxConcurrentFailovers int32 `json:"maxConcurrentFailovers,omitempty"`

	// maxDisruptions limits what the operator takes away by itself, over all services. Of one service it is one member at a time.
	// +kubebuilder:default={}
	// +optional
	MaxDisruptions DisruptionLimits `json:"maxDisruptions,omitzero"`
}

// RejoinStrategy says how an old primary comes back.
// +kubebuilder:validation:Enum=Automatic;Rebuild;Manual
type RejoinStrategy string

const (
	// RejoinAutomatic resynchronises, and rebuilds when that fails.
	RejoinAutomatic RejoinStrategy = "Automatic"
	// RejoinRebuild always copies everything anew.
	RejoinRebuild RejoinStrategy = "Rebuild"
	// RejoinManual leaves the member alone until a person acts.
	RejoinManual RejoinStrategy = "Manual"
)

// RejoinSpec says how an old primary comes back.
type RejoinSpec struct {
	// strategy of the rejoin.
	// +kubebuilder:default=Automatic
	// +optional
	Strategy RejoinStrategy `json:"strategy,omitempty"`
	// maxAttempts before a person is needed.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=5
	// +optional
	MaxAttempts int32 `json:"maxAttempts,omitempty"`
}

// PartitionException declares an exception to the rule that there is never more than one writer.
// +kubebuilder:validation:Enum=Never;AcceptTwoWriters
type PartitionException string

const (
	// ExceptionNever: no exception.
	ExceptionNever PartitionException = "Never"
	// ExceptionAcceptTwoWriters: with PreferAvailability a majority may take over while the isolated primary goes on.
	ExceptionAcceptTwoWriters PartitionException = "AcceptTwoWriters"
)

// FailoverPolicySpec declares when and how services fail over.
//
// +kubebuilder:validation:XValidation:rule="!has(self.partitionException) || self.partitionException == 'Never' || self.partitionChoice == 'PreferAvailability'",message="partitionException AcceptTwoWriters needs partitionChoice PreferAvailability"
// +kubebuilder:validation:XValidation:rule="!has(self.acceptedEvidence) || !self.acceptedEvidence.exists(e, e == 'Asserted')",message="acceptedEvidence cannot name Asserted: it is a person's word in a Failover of type Forced and needs no policy's leave"
type FailoverPolicySpec struct {
	// mode says who decides.
	// +kubebuilder:default=Automatic
	// +optional
	Mode FailoverMode `json:"mode,omitempty"`

	// detection times. The default is spelled out since the API server checks the rules against it as it stands.
	// +kubebuilder:default={heartbeatIntervalMilliseconds: 100, suspectAfterMilliseconds: 800, leaseDurationMilliseconds: 3000, engineTimeoutMilliseconds: 1000}
	// +optional
	Detection DetectionSpec `json:"detection,omitzero"`

	// acceptedEvidence are the reasons that allow a takeover. NodeOutOfService is not in the default. QuorumCut alone lets a successor
	// open while a silent primary may still answer reads, at most until its lease ends; without it that is waited for.
	// +kubebuilder:validation:MaxItems=6
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:default={Released,ProcessGone,ContainerTerminated,QuorumCut,LeaseExpired}
	// +listType=set
	// +optional
	AcceptedEvidence []EvidenceType `json:"acceptedEvidence,omitempty"`

	// partitionChoice says what an isolated primary does.
	// +kubebuilder:default=PreferConsistency
	// +optional
	PartitionChoice PartitionChoice `json:"partitionChoice,omitempty"`

	// partitionException declares an exception to "never two writers".
	// +kubebuilder:default=Never
	// +optional
	PartitionException PartitionException `json:"partitionException,omitempty"`

	// candidates limits who may become primary.
	// +kubebuilder:default={}
	// +optional
	Candidates CandidatesSpec `json:"candidates,omitzero"`

	// minReplicasToWrite makes a primary refuse writes while fewer replicas than this follow it (Redis:
	// min-replicas-to-write). 0 switches it off.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=8
	// +kubebuilder:default=0
	// +optional
	MinReplicasToWrite *int32 `json:"minReplicasToWrite,omitempty"`

	// acknowledgement says which writes count as acknowledged.
	// +kubebuilder:default=Engine
	// +optional
	Acknowledgement Acknowledgement `json:"acknowledgement,omitempty"`

	// cooldownSeconds after a failover in which no other one begins by itself: whatever made one primary fail may make the next one fail too. It is
	// doubled for each further failover within ten times this number, up to an hour. Then a primary that fails is waited for, so this is for services to which a
	// pause does less harm than another failover. Switchovers, drains and forced failovers happen nevertheless, and so does the return of the same
	// member. The annotation ha.understudy.dev/acknowledged-epoch of the service, with the epoch of the failover, ends the pause. 0: none.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	// +kubebuilder:default=0
	// +optional
	CooldownSeconds *int32 `json:"cooldownSeconds,omitempty"`

	// budget limits failovers.
	// +kubebuilder:default={}
	// +optional
	Budget BudgetSpec `json:"budget,omitzero"`

	// rejoin says how an old primary comes back.
	// +kubebuilder:default={}
	// +optional
	Rejoin RejoinSpec `json:"rejoin,omitzero"`
}

// FailoverPolicy declares when and how services fail over.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=fpol,categories=understudy
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Suspect",type=integer,JSONPath=`.spec.detection.suspectAfterMilliseconds`,description="milliseconds"
// +kubebuilder:printcolumn:name="Lease",type=integer,JSONPath=`.spec.detection.leaseDurationMilliseconds`,description="milliseconds"
// +kubebuilder:printcolumn:name="Partition",type=string,JSONPath=`.spec.partitionChoice`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type FailoverPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +kubebuilder:default={}
	// +required
	Spec FailoverPolicySpec `json:"spec,omitzero"`
}

// FailoverPolicyList is a list of FailoverPolicy.
// +kubebuilder:object:root=true
type FailoverPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []FailoverPolicy `json:"items"`
}
