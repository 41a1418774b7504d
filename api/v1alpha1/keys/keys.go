// Package keys has the labels, annotations and finalizers of Understudy without the API types, so that the agent stays
// small.
package keys

const (
	// LabelService names the ReplicatedService an object belongs to.
	LabelService = "ha.understudy.dev/service"
	// AnnotationEpoch on the primary's EndpointSlice: the epoch of the member it names. It never falls.
	AnnotationEpoch = "ha.understudy.dev/epoch"
	// AnnotationLease on the Lease: the rest of its contract as JSON.
	AnnotationLease = "ha.understudy.dev/lease"
	// Finalizer of the ReplicatedService and its Lease.
	Finalizer = "ha.understudy.dev/protect"
)
