package v1alpha1

// Conditions of a ReplicatedService; all are always present. Ready, Reconciling and Stalled are also those of a Failover.
const (
	// ConditionReady: the service is available, redundant and as declared.
	ConditionReady = "Ready"
	// ConditionReconciling: the operator is still working towards the spec.
	ConditionReconciling = "Reconciling"
	// ConditionStalled: nothing will get better until a person acts; the message says how.
	ConditionStalled = "Stalled"
	// ConditionAvailable: a writable primary is routed.
	ConditionAvailable = "Available"
	// ConditionRedundant: as many healthy replicas as declared.
	ConditionRedundant = "Redundant"
	// ConditionFailoverPossible: at least one replica could take over now. False names each and what refused it.
	ConditionFailoverPossible = "FailoverPossible"
	// ConditionConfigurationApplied: every member runs with the engine's parameters of the spec. False says which member does
	// not, why, and what to do; the service goes on with what it had.
	ConditionConfigurationApplied = "ConfigurationApplied"
)

// Reasons of the conditions of a ReplicatedService.
const (
	// ReasonHealthy: all is as declared.
	ReasonHealthy = "Healthy"
	// ReasonProgressing: pods or volumes are being made or changed.
	ReasonProgressing = "Progressing"
	// ReasonBootstrapping: the members have not all answered yet that they are empty.
	ReasonBootstrapping = "Bootstrapping"
	// ReasonFailingOver: the Lease changed hands and the new primary is not serving yet.
	ReasonFailingOver = "FailingOver"
	// ReasonPrimaryServing: a primary serves and is routed.
	ReasonPrimaryServing = "PrimaryServing"
	// ReasonNoPrimary: no primary serves.
	ReasonNoPrimary = "NoPrimary"
	// ReasonReplicasMissing: fewer healthy replicas than declared.
	ReasonReplicasMissing = "ReplicasMissing"
	// ReasonSingleReplica: the service declares one member, so nobody can take over.
	ReasonSingleReplica = "SingleReplica"
	// ReasonCandidatesReady: at least one replica could take over now.
	ReasonCandidatesReady = "CandidatesReady"
	// ReasonNoCandidate: each replica is refused by a guard.
	ReasonNoCandidate = "NoCandidate"
	// ReasonCooldown: the last failover is not long ago, and the policy wants a pause after each.
	ReasonCooldown = "Cooldown"
	// ReasonPaused: spec.state is Paused.
	ReasonPaused = "Paused"
	// ReasonPolicyNotFound: the policy that failoverPolicyRef names does not exist.
	ReasonPolicyNotFound = "PolicyNotFound"
	// ReasonSecretNotFound: the Secret that passwordSecretRef names does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretKeyMissing: the Secret lacks the key or its value is empty.
	ReasonSecretKeyMissing = "SecretKeyMissing"
	// ReasonImageNotFound: the engine's image cannot be pulled.
	ReasonImageNotFound = "ImageNotFound"
	// ReasonEngineNotSupported: this version cannot run that engine.
	ReasonEngineNotSupported = "EngineNotSupported"
	// ReasonFieldNotSupported: this version cannot do what a field asks for.
	ReasonFieldNotSupported = "FieldNotSupported"
	// ReasonVolumeCannotGrow: a larger size is asked for than the storage gives.
	ReasonVolumeCannotGrow = "VolumeCannotGrow"
	// ReasonVolumeReadOnly: a member's volume refuses writes, and its member cannot begin anew by itself.
	ReasonVolumeReadOnly = "VolumeReadOnly"
	// ReasonVolumeFull: a member's volume has hardly any room left.
	ReasonVolumeFull = "VolumeFull"
	// ReasonPodRefused: a pod was refused or changed at admission so that it cannot be a member.
	ReasonPodRefused = "PodRefused"
	// ReasonDataFound: a new service found data on its volumes and does not guess whose it is.
	ReasonDataFound = "DataFound"
	// ReasonLeaseLost: the Lease is gone or was set back, and its epoch is not known for certain.
	ReasonLeaseLost = "LeaseLost"
	// ReasonNameTaken: an object of a needed name exists and belongs to somebody else.
	ReasonNameTaken = "NameTaken"
	// ReasonRejoinFailed: a member could not be made to follow the primary, as often as that is tried.
	ReasonRejoinFailed = "RejoinFailed"
	// ReasonMemberKeepsEnding: a member's container ends again and again, in new pods too.
	ReasonMemberKeepsEnding = "MemberKeepsEnding"
	// ReasonMemberStranded: no node that is there can reach a member's volume.
	ReasonMemberStranded = "MemberStranded"
	// ReasonNodeUnreachable: a member's node does not answer Kubernetes, and nobody says that it is out of service.
	ReasonNodeUnreachable = "NodeUnreachable"
	// ReasonMemberKeepsTerminating: a member's pod should have ended, and has not.
	ReasonMemberKeepsTerminating = "MemberKeepsTerminating"
	// ReasonMemberUnschedulable: no node takes a member's pod.
	ReasonMemberUnschedulable = "MemberUnschedulable"
	// ReasonMemberNotStarted: a node does not get a member's container to run.
	ReasonMemberNotStarted = "MemberNotStarted"
	// ReasonMemberBehind: a replica does not come closer to the primary.
	ReasonMemberBehind = "MemberBehind"
	// ReasonBudgetExhausted: too many members that the operator took away are not well again for long, so it takes away no other.
	ReasonBudgetExhausted = "BudgetExhausted"
	// ReasonBootstrapFailed: the data of a new member could not be made.
	ReasonBootstrapFailed = "BootstrapFailed"
	// ReasonEngineNotStarted: a member's engine cannot be started.
	ReasonEngineNotStarted = "EngineNotStarted"
	// ReasonRollStopped: a renewed member does not come back, or the primary does not hand over, so the others stay as they are; or the change was taken back.
	ReasonRollStopped = "RollStopped"
	// ReasonForeignBudget: a PodDisruptionBudget that is not the service's own matches its pods, so that no eviction succeeds.
	ReasonForeignBudget = "ForeignBudget"
	// ReasonNotStalled: nothing needs a person.
	ReasonNotStalled = "NotStalled"
	// ReasonConfigurationInForce: every member runs with the engine's parameters of the spec.
	ReasonConfigurationInForce = "ConfigurationInForce"
	// ReasonConfigurationRefused: the engine refused a parameter or a line, and goes on with what it had; in Stalled, a member had
	// nothing to go on with.
	ReasonConfigurationRefused = "ConfigurationRefused"
	// ReasonRestartRequired: a parameter takes effect only when a member's engine is started again.
	ReasonRestartRequired = "RestartRequired"
	// ReasonApplying: not every member has read the newest parameters yet.
	ReasonApplying = "Applying"
	// ReasonMembersUnreachable: what a member runs with is not known.
	ReasonMembersUnreachable = "MembersUnreachable"
	// ReasonReadAtStart: the engine reads its parameters only when a member starts; Reconciling names members that run older ones.
	ReasonReadAtStart = "ReadAtStart"
	// ReasonReconciled: the spec was carried out.
	ReasonReconciled = "Reconciled"
)

// Reasons of the conditions of a Failover.
const (
	// ReasonCompleted: the new primary serves and is routed.
	ReasonCompleted = "Completed"
	// ReasonSuperseded: the operator asked for it, and the primary had changed before.
	ReasonSuperseded = "Superseded"
	// ReasonInProgress: the change goes on.
	ReasonInProgress = "InProgress"
	// ReasonServiceNotFound: the service does not exist.
	ReasonServiceNotFound = "ServiceNotFound"
	// ReasonTargetRefused: the target cannot become primary.
	ReasonTargetRefused = "TargetRefused"
	// ReasonDeadlineExceeded: the change did not end in time.
	ReasonDeadlineExceeded = "DeadlineExceeded"
	// ReasonHandoverFailed: the primary could not hand over and serves on.
	ReasonHandoverFailed = "HandoverFailed"
)
