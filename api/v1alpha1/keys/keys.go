// Package keys has the labels, annotations and finalizers of Understudy without the API types, so that the agent stays
// small.
package keys

const (
	// LabelService names the ReplicatedService an object belongs to.
	LabelService = "ha.understudy.dev/service"
	// LabelNamespace and LabelMember name, on a PersistentVolume that is kept, the namespace of that ReplicatedService and the member whose it was.
	LabelNamespace = "ha.understudy.dev/namespace"
	LabelMember    = "ha.understudy.dev/member"
	// LabelServiceUID tells that ReplicatedService from a later one of its name.
	LabelServiceUID = "ha.understudy.dev/service-uid"
	// AnnotationReclaim on such a volume: the reclaim policy that it had before.
	AnnotationReclaim = "ha.understudy.dev/reclaim-policy"
	// AnnotationReadOnly on such a volume: its member began anew since it refused writes. Of value "holds" it may hold what nobody else has, and is kept until a
	// person deletes it or the service.
	AnnotationReadOnly = "ha.understudy.dev/read-only"
	// AnnotationEpoch on the primary's EndpointSlice: the epoch of the member it names. It never falls.
	AnnotationEpoch = "ha.understudy.dev/epoch"
	// AnnotationLease on the Lease: the rest of its contract as JSON.
	AnnotationLease = "ha.understudy.dev/lease"
	// AnnotationRolledBack on a StatefulSet: the template that the spec asks for and that was taken back, and why, as JSON.
	AnnotationRolledBack = "ha.understudy.dev/rolled-back"
	// AnnotationTurns on the Lease that the services under one policy share: those that fail over now, as JSON.
	AnnotationTurns = "ha.understudy.dev/turns"
	// LabelReason on a Failover that the operator asks for by itself: why it does.
	LabelReason = "ha.understudy.dev/reason"
	// AnnotationAsked on such a Failover: the epoch whose primary is meant. Of a later epoch nothing is asked.
	AnnotationAsked = "ha.understudy.dev/asked-in-epoch"
	// AnnotationApproved on a ReplicatedService: the epoch whose primary a person lets another member replace, in a mode that leaves it to
	// people.
	AnnotationApproved = "ha.understudy.dev/approved-epoch"
	// AnnotationAcknowledged on a ReplicatedService: the epoch whose failover a person has looked into, so that its cooldown is over.
	AnnotationAcknowledged = "ha.understudy.dev/acknowledged-epoch"
	// Finalizer of the ReplicatedService and its Lease.
	Finalizer = "ha.understudy.dev/protect"
)
