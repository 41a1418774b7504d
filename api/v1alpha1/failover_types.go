package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FailoverType says what kind of change of primary this is.
// +kubebuilder:validation:Enum=Switchover;Forced;Automatic
type FailoverType string

const (
	// TypeSwitchover is asked for by a person, or by the operator when the primary's node is to be emptied or its pod renewed;
	// the primary hands over and nothing is lost.
	TypeSwitchover FailoverType = "Switchover"
	// TypeForced is asked for by a person who names the dead run.
	TypeForced FailoverType = "Forced"
	// TypeAutomatic records what the members did by themselves.
	TypeAutomatic FailoverType = "Automatic"
)

// FailoverSpec asks for, or records, one change of primary. It cannot be changed: create another one.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a Failover cannot be changed: create another one"
// +kubebuilder:validation:XValidation:rule="(self.type == 'Forced') == has(self.assertDead)",message="assertDead must be set when type is Forced, and only then: it names the run you know to be dead"
type FailoverSpec struct {
	// serviceRef names the ReplicatedService in the same namespace.
	// +required
	ServiceRef LocalReference `json:"serviceRef,omitzero"`

	// type of the change.
	// +kubebuilder:default=Switchover
	// +optional
	Type FailoverType `json:"type,omitempty"`

	// target is the member that is to become primary; without it the best candidate is taken.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Target string `json:"target,omitempty"`

	// assertDead is a person's word that the named run cannot write any more.
	// +optional
	AssertDead *AssertDead `json:"assertDead,omitempty"`

	// deadlineSeconds after which a change that did not begin is given up.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	// +kubebuilder:default=30
	// +optional
	DeadlineSeconds int32 `json:"deadlineSeconds,omitempty"`
}

// AssertDead names a run that a person knows to be dead.
type AssertDead struct {
	// member is the pod's name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Member string `json:"member,omitempty"`
	// podUID of that pod, so that a later one of the same name is not meant.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +required
	PodUID string `json:"podUID,omitempty"`
	// epoch it held.
	// +kubebuilder:validation:Minimum=1
	// +required
	Epoch int64 `json:"epoch,omitempty"`
}

// FailoverStep is one step on the way from the fault to the client's first write.
// +kubebuilder:validation:Enum=Detected;Promised;Granted;Confirmed;Promoted;Routed
type FailoverStep string

const (
	// StepDetected: the new primary's agent learned that the old one is gone, or was asked to take over.
	StepDetected FailoverStep = "Detected"
	// StepPromised: a majority promised and the evidence was complete.
	StepPromised FailoverStep = "Promised"
	// StepGranted: the compare-and-swap of the Lease succeeded.
	StepGranted FailoverStep = "Granted"
	// StepConfirmed: a majority acknowledged a heartbeat of the new epoch.
	StepConfirmed FailoverStep = "Confirmed"
	// StepPromoted: the engine accepts writes.
	StepPromoted FailoverStep = "Promoted"
	// StepRouted: the EndpointSlice names the new primary.
	StepRouted FailoverStep = "Routed"
)

// TimelineEntry is when one step was done.
type TimelineEntry struct {
	// step that was done.
	// +required
	Step FailoverStep `json:"step,omitempty"`
	// elapsedMicroseconds since Detected, by the new primary's clock.
	// +kubebuilder:validation:Minimum=0
	// +required
	ElapsedMicroseconds *int64 `json:"elapsedMicroseconds,omitempty"`
}

// LossPrecision says how sure bytesLost is.
// +kubebuilder:validation:Enum=Exact;AtLeast
type LossPrecision string

const (
	// LossExact: the old primary handed over, or it rejoined and its engine compared the two: the number is what it had more.
	LossExact LossPrecision = "Exact"
	// LossAtLeast: the old primary may have had more: what it wrote after it was heard last or, once it is back, after it had
	// looked at its engine last, one heartbeat interval before the engine's end at most.
	LossAtLeast LossPrecision = "AtLeast"
)

// FailoverStatus says how the change went.
type FailoverStatus struct {
	// observedGeneration is the generation of the spec this status is about; -1 until the first look.
	// +kubebuilder:default=-1
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready (the change is done), Reconciling (it goes on), Stalled (it failed; the message says why).
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// from is the old primary.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	From string `json:"from,omitempty"`
	// to is the new primary.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	To string `json:"to,omitempty"`
	// epoch of the new primary.
	// +optional
	Epoch int64 `json:"epoch,omitempty"`
	// evidence that allowed it.
	// +optional
	Evidence EvidenceType `json:"evidence,omitempty"`
	// bytesLost is how much the old primary had that the new one does not, in bytes of the replication stream. It may grow when
	// the old primary is back. With synchronous replication its quorum never confirmed any of that.
	// +optional
	BytesLost *int64 `json:"bytesLost,omitempty"`
	// bytesLostPrecision says how sure that is.
	// +optional
	BytesLostPrecision LossPrecision `json:"bytesLostPrecision,omitempty"`
	// startTime by the new primary's wall clock.
	// +optional
	StartTime *metav1.MicroTime `json:"startTime,omitempty"`
	// completionTime by the operator's wall clock.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`
	// elapsedMilliseconds from Detected to the last step.
	// +optional
	ElapsedMilliseconds *int64 `json:"elapsedMilliseconds,omitempty"`
	// timeline has the time of each step.
	// +listType=map
	// +listMapKey=step
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Timeline []TimelineEntry `json:"timeline,omitempty"`
}

// Failover is one change of primary: asked for by a person or the operator, or recorded by the operator.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=fo,categories=understudy
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.serviceRef.name`
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="From",type=string,JSONPath=`.status.from`
// +kubebuilder:printcolumn:name="To",type=string,JSONPath=`.status.to`
// +kubebuilder:printcolumn:name="Epoch",type=integer,JSONPath=`.status.epoch`
// +kubebuilder:printcolumn:name="Evidence",type=string,JSONPath=`.status.evidence`
// +kubebuilder:printcolumn:name="Ms",type=integer,JSONPath=`.status.elapsedMilliseconds`,description="milliseconds from detection to the last step"
// +kubebuilder:printcolumn:name="Lost",type=integer,JSONPath=`.status.bytesLost`,description="bytes"
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Failover struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is asked for.
	// +required
	Spec FailoverSpec `json:"spec,omitzero"`
	// status is how it went.
	// +kubebuilder:default:={"observedGeneration":-1}
	// +optional
	Status FailoverStatus `json:"status,omitempty"`
}

// FailoverList is a list of Failover.
// +kubebuilder:object:root=true
type FailoverList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Failover `json:"items"`
}
