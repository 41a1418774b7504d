// Package policy turns a FailoverPolicy into the terms a Lease holds. It is the one place where the documented
// defaults of a service without a policy stand; a test compares them with those of the CRD.
package policy

import (
	"fmt"
	"slices"

	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
)

// Defaults are the policy of a service that names none.
func Defaults() v1alpha1.FailoverPolicySpec {
	return v1alpha1.FailoverPolicySpec{
		Mode: v1alpha1.ModeAutomatic,
		Detection: v1alpha1.DetectionSpec{
			HeartbeatIntervalMilliseconds: 100,
			SuspectAfterMilliseconds:      800,
			LeaseDurationMilliseconds:     3000,
			EngineTimeoutMilliseconds:     1000,
		},
		AcceptedEvidence: []v1alpha1.EvidenceType{
			v1alpha1.EvidenceReleased, v1alpha1.EvidenceProcessGone, v1alpha1.EvidenceContainerTerminated,
			v1alpha1.EvidenceQuorumCut, v1alpha1.EvidenceLeaseExpired,
		},
		PartitionChoice:    v1alpha1.PreferConsistency,
		PartitionException: v1alpha1.ExceptionNever,
		Candidates:         v1alpha1.CandidatesSpec{MaxLagBytes: ptr.To[int64](16 << 20)},
		MinReplicasToWrite: ptr.To[int32](0),
		Acknowledgement:    v1alpha1.AcknowledgementEngine,
		CooldownSeconds:    ptr.To[int32](0),
		Budget: v1alpha1.BudgetSpec{
			MaxConcurrentFailovers: 10, MaxDisruptions: v1alpha1.DisruptionLimits{PerNode: 3, PerZone: 10, PerCluster: 10},
		},
		Rejoin: v1alpha1.RejoinSpec{Strategy: v1alpha1.RejoinAutomatic, MaxAttempts: 5},
	}
}

// Members lists the members of a new service with their votes: an even number from four on leaves the highest ordinal
// without one, so that majorities stay odd.
func Members(service string, replicas int32) []failover.MemberEntry {
	out := make([]failover.MemberEntry, 0, replicas)
	for i := range int(replicas) {
		last := i == int(replicas)-1
		out = append(out, failover.MemberEntry{
			Name:  names.Member(service, i),
			Voter: replicas < 4 || replicas%2 == 1 || !last,
		})
	}
	return out
}

// Terms are what the Lease of a service is to hold under a policy.
func Terms(spec v1alpha1.FailoverPolicySpec, service v1alpha1.ReplicatedServiceSpec, members []failover.MemberEntry) failover.Terms {
	d := spec.Detection
	terms := failover.Terms{
		Members:             members,
		LeaseMillis:         int64(d.LeaseDurationMilliseconds),
		WaitMillis:          int64(d.LeaseDurationMilliseconds),
		HeartbeatMillis:     int64(d.HeartbeatIntervalMilliseconds),
		SuspectMillis:       int64(d.SuspectAfterMilliseconds),
		EngineTimeoutMillis: int64(d.EngineTimeoutMilliseconds),
		Partition:           failover.PartitionChoice(spec.PartitionChoice),
		TwoWriters:          spec.PartitionException == v1alpha1.ExceptionAcceptTwoWriters,
		// Redis acknowledges before a replica has the write; PostgreSQL's commits wait by themselves.
		EveryWaits:         spec.Acknowledgement == v1alpha1.AcknowledgementWait || service.Engine.PostgreSQL != nil,
		Mode:               failover.Mode(spec.Mode),
		MaxLagBytes:        ptr.Deref(spec.Candidates.MaxLagBytes, 0),
		Excluded:           slices.Clone(spec.Candidates.Excluded),
		MinReplicasToWrite: int(ptr.Deref(spec.MinReplicasToWrite, 0)),
		CooldownMillis:     int64(ptr.Deref(spec.CooldownSeconds, 0)) * 1000,
	}
	slices.Sort(terms.Excluded)
	if r := service.Replication; r != nil && r.Mode == v1alpha1.Synchronous && r.Synchronous != nil {
		terms.Quorum, terms.OnTooFew = int(r.Synchronous.Quorum), failover.TooFewReplicas(r.Synchronous.OnTooFewReplicas)
	} else {
		terms.EveryWaits = false // nothing is waited for
	}
	if service.State == v1alpha1.StatePaused {
		terms.Mode = failover.ModePaused
	}
	for _, e := range spec.AcceptedEvidence {
		terms.Accepted = append(terms.Accepted, failover.EvidenceKind(e))
	}
	slices.Sort(terms.Accepted)
	return terms
}

// ByHolder reports whether have lacks something of want that only the holder may put into force.
func ByHolder(have, want failover.Terms) bool {
	excluded := slices.Clone(have.Excluded)
	slices.Sort(excluded)
	return have.LeaseMillis != want.LeaseMillis || have.HeartbeatMillis != want.HeartbeatMillis ||
		have.SuspectMillis != want.SuspectMillis || have.EngineTimeoutMillis != want.EngineTimeoutMillis ||
		have.Partition != want.Partition || have.TwoWriters != want.TwoWriters || have.EveryWaits != want.EveryWaits ||
		have.Quorum != want.Quorum || have.OnTooFew != want.OnTooFew || have.MaxLagBytes != want.MaxLagBytes ||
		have.MinReplicasToWrite != want.MinReplicasToWrite || !slices.Equal(excluded, want.Excluded)
}

// Unsupported names the fields of a policy that ask for what this version cannot do yet.
func Unsupported(spec v1alpha1.FailoverPolicySpec, replicas int32) []string {
	var out []string
	if s := spec.Rejoin.Strategy; s != "" && s != v1alpha1.RejoinAutomatic {
		out = append(out, "spec.rejoin.strategy "+string(s)+": it is treated as Automatic; set it to Automatic")
	}
	if most := Defaults().Rejoin.MaxAttempts; spec.Rejoin.MaxAttempts != 0 && spec.Rejoin.MaxAttempts != most {
		out = append(out, fmt.Sprintf("spec.rejoin.maxAttempts %d: a rejoin is tried %d times; set it to that", spec.Rejoin.MaxAttempts, most))
	}
	if ptr.Deref(spec.MinReplicasToWrite, 0) >= replicas {
		out = append(out, "spec.minReplicasToWrite: it must be smaller than the service's replicas, or nothing could ever be written; lower it")
	}
	return out
}
