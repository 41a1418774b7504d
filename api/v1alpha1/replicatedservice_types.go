package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReplicationMode says when a write is acknowledged.
// +kubebuilder:validation:Enum=Asynchronous;Synchronous
type ReplicationMode string

const (
	// Asynchronous acknowledges a write when the primary has it. A failover may lose what was not replicated yet.
	Asynchronous ReplicationMode = "Asynchronous"
	// Synchronous acknowledges a write when a quorum of replicas has it too.
	Synchronous ReplicationMode = "Synchronous"
)

// ActiveState says whether the operator acts on a service.
// +kubebuilder:validation:Enum=Active;Paused
type ActiveState string

const (
	// StateActive: the operator reconciles the service and members may take over.
	StateActive ActiveState = "Active"
	// StatePaused: nothing is changed and nobody takes over; what runs goes on running.
	StatePaused ActiveState = "Paused"
)

// ReplicatedServiceSpec declares a service with one primary and replicas that follow it.
//
// +kubebuilder:validation:XValidation:rule="!has(self.replication) || !has(self.replication.synchronous) || self.replication.synchronous.quorum < self.replicas",message="replication.synchronous.quorum must be smaller than replicas: the primary itself is not counted"
// +kubebuilder:validation:XValidation:rule="has(self.storage) == has(oldSelf.storage)",message="storage cannot be added or removed once the service exists: create a new service and move the data"
// +kubebuilder:validation:XValidation:rule="!has(self.engine.postgresql) || !has(self.engine.postgresql.synchronousCommit) || self.engine.postgresql.synchronousCommit == 'RemoteFlush' || (has(self.replication) && self.replication.mode == 'Synchronous')",message="engine.postgresql.synchronousCommit other than RemoteFlush needs replication.mode Synchronous: without it a commit waits for no replica"
// +kubebuilder:validation:XValidation:rule="!has(self.storage) || !has(self.storage.wal) || has(self.engine.postgresql)",message="storage.wal needs engine.postgresql: no other engine keeps its log apart"
// +kubebuilder:validation:XValidation:rule="!has(self.engine.postgresql) || has(self.storage)",message="storage must be set with engine.postgresql: a database without a volume is lost with its pod"
type ReplicatedServiceSpec struct {
	// replicas is the number of members, the primary included. With one member there is nobody to take over. It may change while the
	// service runs, also through the scale subresource: new members copy the primary before they count, and the members with the
	// highest numbers leave, after a switchover if one of them is the primary. What happens to their volumes says
	// storage.retention.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=9
	// +kubebuilder:default=3
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// engine is the replicated program; exactly one of its fields is set.
	// +required
	Engine EngineSpec `json:"engine,omitzero"`

	// template shapes the pods of the members. A change renews them one at a time: the replicas' first, each caught up before
	// the next, then a switchover, then the old primary's. It stops at the first member that does not come back; set the
	// template back, and that one is renewed first. With a policy of mode Manual the switchover is left to a person.
	// +required
	Template MemberTemplate `json:"template,omitzero"`

	// storage asks for a volume a member. Without it data lives in memory or in the pod, and a new pod starts empty.
	// +optional
	Storage *StorageSpec `json:"storage,omitempty"`

	// replication says when a write is acknowledged.
	// +kubebuilder:default={mode: Asynchronous}
	// +optional
	Replication *ReplicationSpec `json:"replication,omitempty"`

	// services shapes the Services of this service.
	// +optional
	Services *ServicesSpec `json:"services,omitempty"`

	// failoverPolicyRef names the FailoverPolicy in the same namespace; without it the documented defaults hold.
	// +optional
	FailoverPolicyRef *LocalReference `json:"failoverPolicyRef,omitempty"`

	// placement says where members should run.
	// +optional
	Placement *PlacementSpec `json:"placement,omitempty"`

	// progressDeadlineSeconds is how long a member that was renewed in a rolling change may take to be well again. Then the change is taken back,
	// as far as the pods' template goes, and Stalled says so until the spec asks for something else.
	// One that copies the primary's data is waited for.
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=86400
	// +kubebuilder:default=600
	// +optional
	ProgressDeadlineSeconds *int32 `json:"progressDeadlineSeconds,omitempty"`

	// state pauses all changes to a service, failovers included.
	// +kubebuilder:default=Active
	// +optional
	State ActiveState `json:"state,omitempty"`
}

// EngineSpec is a union of the programs Understudy knows to replicate.
//
// +kubebuilder:validation:XValidation:rule="[has(self.redis), has(self.postgresql), has(self.custom)].filter(x, x).size() == 1",message="exactly one of engine.redis, engine.postgresql and engine.custom must be set"
type EngineSpec struct {
	// redis runs Redis 7 or newer, or Valkey.
	// +optional
	Redis *RedisSpec `json:"redis,omitempty"`
	// postgresql runs PostgreSQL 15 to 18.
	// +optional
	PostgreSQL *PostgreSQLSpec `json:"postgresql,omitempty"`
	// custom runs a program driven by hooks.
	// +optional
	Custom *CustomSpec `json:"custom,omitempty"`
}

// RedisSpec configures Redis or Valkey.
type RedisSpec struct {
	// port clients connect to.
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:default=6379
	// +optional
	Port int32 `json:"port,omitempty"`

	// passwordSecretRef names the Secret key with the password. If absent, the operator makes the Secret NAME-auth
	// with the key "password". The members read the Secret when their pods start: to change the password, delete the
	// members' pods afterwards, the replicas' first.
	// +optional
	PasswordSecretRef *SecretKeyReference `json:"passwordSecretRef,omitempty"`

	// parameters are lines of redis.conf, by directive. Directives that the agent must own (port, bind, replicaof,
	// requirepass, masterauth, dir, daemonize, unixsocket, rename-command, include, loadmodule, aclfile, user) are refused.
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.matches('^[a-z][a-z0-9-]{0,62}$'))",message="engine.redis.parameters: a directive is 1 to 63 lower-case letters, digits and hyphens"
	// +kubebuilder:validation:XValidation:rule="self.all(k, self[k].size() <= 512 && !self[k].contains('\\n') && !self[k].contains('\\r'))",message="engine.redis.parameters: a value is one line of at most 512 characters"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !(k in ['port', 'tls-port', 'bind', 'replicaof', 'slaveof', 'requirepass', 'masterauth', 'masteruser', 'dir', 'daemonize', 'supervised', 'pidfile', 'logfile', 'unixsocket', 'rename-command', 'include', 'loadmodule', 'aclfile', 'user', 'min-replicas-to-write', 'min-slaves-to-write', 'protected-mode', 'cluster-enabled', 'replica-read-only', 'slave-read-only']))",message="engine.redis.parameters holds a directive that Understudy sets itself (port, bind, replicaof, requirepass, masterauth, dir, min-replicas-to-write and the like): remove it"
	// +optional
	Parameters map[string]ParameterValue `json:"parameters,omitempty"`
}

// ParameterValue is the value of one engine parameter.
// +kubebuilder:validation:MaxLength=512
type ParameterValue string

// PostgreSQLSpec configures PostgreSQL.
//
// +kubebuilder:validation:XValidation:rule="!has(self.import) || has(oldSelf.import)",message="engine.postgresql.import can be given only when the service is made: make a new service that begins with that data"
type PostgreSQLSpec struct {
	// port clients connect to.
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:default=5432
	// +optional
	Port int32 `json:"port,omitempty"`

	// database made at bootstrap.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:default=app
	// +optional
	Database string `json:"database,omitempty"`

	// owner of that database.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:default=app
	// +optional
	Owner string `json:"owner,omitempty"`

	// passwordSecretRef names the Secret key with the owner's password. If absent, the operator makes the Secret
	// NAME-auth with the key "password". The password follows the Secret, a minute or two after it changes, and one that was set
	// by SQL does not last.
	// +optional
	PasswordSecretRef *SecretKeyReference `json:"passwordSecretRef,omitempty"`

	// import begins the service with data of an earlier server, instead of an empty database. It is the data directory of a server of
	// the image's major version that was stopped, or a snapshot or base backup of one with the WAL that it needs, on
	// PersistentVolumeClaim data-NAME-0, made beforehand and owned by template.userID; the other members copy it. The directory
	// becomes the service's own. Roles and databases stay; the role postgres and the owner and database named above are made
	// where absent, and the owner gets the password of passwordSecretRef; postgresql.conf and pg_hba.conf are left unread: see parameters and hostBasedAuthentication. Once the service
	// has opened, this field has no effect.
	// +optional
	Import *ImportSpec `json:"import,omitempty"`

	// pgBouncer names poolers in front of this service. A planned change of primary (switchover, drain, rolling change, end of the primary's pod) has them
	// hold their clients back until the new primary serves, so that clients see a pause and no error; it waits at most a
	// second for transactions to end, and goes on without the poolers after that. Each new primary tells them to let their clients
	// go on, also those that a person holds back. A change of this field renews the members, as one of template does.
	// +optional
	PgBouncer *PgBouncerSpec `json:"pgBouncer,omitempty"`

	// superuserPasswordSecretRef lets the role postgres log in over the network, with TLS and the password of this Secret key,
	// which it follows as the owner's does. Without it nobody is superuser but on a pod's own socket. A superuser can undo what
	// Understudy sets, so give it to people and migrations, not to applications.
	// +optional
	SuperuserPasswordSecretRef *SecretKeyReference `json:"superuserPasswordSecretRef,omitempty"`

	// synchronousCommit is what a commit waits for at the quorum's replicas. RemoteWrite: their kernels have it. It outlives
	// their engines, containers and pods, and each failover counts it; a replica whose node crashes may lose the last moments,
	// and a commit is lost if the primary fails before that replica caught up again. RemoteFlush: their disks have it;
	// PostgreSQL calls this level on, which YAML would read as true. RemoteApply: readers there see it, so a commit also waits
	// for a query that holds up replay. With mode Asynchronous no replica is waited for.
	// +kubebuilder:default=RemoteFlush
	// +optional
	SynchronousCommit SynchronousCommit `json:"synchronousCommit,omitempty"`

	// parameters are settings of postgresql.conf, by name. The members take a change in within about a minute, without a
	// restart where PostgreSQL needs none; each member's own server checks it first, and what it refuses changes nothing: see the
	// condition ConfigurationApplied. Parameters that Understudy sets itself (port, listen_addresses, hba_file, primary_conninfo,
	// synchronous_standby_names, ssl, fsync, recovery_target and the like) are refused.
	// +kubebuilder:validation:MaxProperties=128
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 128 && k.matches('^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)?$'))",message="engine.postgresql.parameters: a name is letters, digits and underscores, with one dot before an extension's own"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !self[k].matches('[\\x00-\\x1f\\x7f]'))",message="engine.postgresql.parameters: a value is one line without control characters"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !(k.lowerAscii() in ['config_file', 'hba_file', 'ident_file', 'listen_addresses', 'port', 'unix_socket_directories', 'unix_socket_permissions', 'cluster_name', 'hot_standby', 'fsync', 'full_page_writes', 'wal_log_hints', 'restart_after_crash', 'recovery_target_timeline', 'wal_retrieve_retry_interval', 'wal_receiver_status_interval', 'ssl', 'ssl_cert_file', 'ssl_key_file', 'ssl_ca_file', 'primary_conninfo', 'primary_slot_name', 'synchronous_standby_names', 'understudy.generation', 'data_directory', 'external_pid_file', 'include', 'include_dir', 'include_if_exists', 'synchronous_commit', 'restore_command', 'archive_cleanup_command', 'recovery_end_command', 'recovery_min_apply_delay', 'promote_trigger_file', 'allow_alter_system', 'ignore_invalid_pages', 'zero_damaged_pages', 'transaction_read_only', 'default_transaction_read_only', 'sync_replication_slots', 'synchronized_standby_slots']) && !k.lowerAscii().startsWith('recovery_target'))",message="engine.postgresql.parameters holds a parameter that Understudy sets itself (port, listen_addresses, hba_file, primary_conninfo, synchronous_standby_names, ssl, fsync, recovery_target and the like): remove it"
	// +optional
	Parameters map[string]ParameterValue `json:"parameters,omitempty"`

	// hostBasedAuthentication are lines of pg_hba.conf, put after the lines Understudy needs itself. None: every role may log in
	// to every database with its password. The members take a change in within about a minute; sessions that are open stay.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:XValidation:rule="self.all(l, l.matches('^host(ssl|nossl|gssenc|nogssenc)?[ \\t]'))",message="engine.postgresql.hostBasedAuthentication: a line begins with host, hostssl, hostnossl, hostgssenc or hostnogssenc"
	// +kubebuilder:validation:XValidation:rule="self.all(l, l.matches('^[^ \\t]+([ \\t]+[^ \\t]+){4}'))",message="engine.postgresql.hostBasedAuthentication: a line has at least five fields: TYPE DATABASE USER ADDRESS METHOD"
	// +kubebuilder:validation:XValidation:rule="self.all(l, !l.matches('^[^ \\t]+[ \\t]+[^ \\t]*replication'))",message="engine.postgresql.hostBasedAuthentication: replication is the members' own: name databases"
	// +kubebuilder:validation:XValidation:rule="self.all(l, !l.matches('[@\\x00-\\x08\\x0a-\\x1f\\x7f]') && !l.endsWith('\\\\'))",message="engine.postgresql.hostBasedAuthentication: a line is one line without @: name what is meant instead of a file"
	// +listType=atomic
	// +optional
	HostBasedAuthentication []string `json:"hostBasedAuthentication,omitempty"`
}

// PgBouncerSpec names poolers that a user runs. Their databases should lead to the Service NAME, and server_login_retry be 1: its default
// lets clients wait for 15 seconds after one failed connection.
type PgBouncerSpec struct {
	// hosts of the poolers: names or addresses. Of a name with several addresses, such as that of a headless Service, each is told. Not
	// the name of a Service with an address of its own before several poolers: only one of them would hear.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.all(h, h.matches('^[A-Za-z0-9:.-]+$'))",message="engine.postgresql.pgBouncer.hosts: a host is a name or an address, without port or scheme"
	// +listType=set
	// +required
	Hosts []string `json:"hosts,omitempty"`

	// port of their consoles and clients.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:default=6432
	// +optional
	Port int32 `json:"port,omitempty"`

	// database as pgbouncer.ini names it; the default is engine.postgresql.database.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Database string `json:"database,omitempty"`

	// user is one of pgbouncer.ini's admin_users.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:default=pgbouncer
	// +optional
	User string `json:"user,omitempty"`

	// passwordSecretRef names the Secret key with that user's password.
	// +required
	PasswordSecretRef SecretKeyReference `json:"passwordSecretRef,omitzero"`
}

// ImportSpec names data of an earlier PostgreSQL server.
type ImportSpec struct {
	// path of the data directory from the volume's root; a dot is the root itself.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)')",message="engine.postgresql.import.path is a path below the volume's root: no leading slash and no .."
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([.]/)*(data([.](init|copy|old|import|trash.*))?|lost|understudy|lost[+]found)(/|$)')",message="engine.postgresql.import.path names a folder that the members use themselves (data, data.*, lost, understudy): rename it"
	// +kubebuilder:default=.
	// +optional
	Path string `json:"path,omitempty"`
}

// SynchronousCommit is what a commit waits for at a replica.
// +kubebuilder:validation:Enum=RemoteWrite;RemoteFlush;RemoteApply
type SynchronousCommit string

const (
	// CommitRemoteWrite waits until the replica wrote it, not until it is on its disk.
	CommitRemoteWrite SynchronousCommit = "RemoteWrite"
	// CommitRemoteFlush waits until it is on the replica's disk.
	CommitRemoteFlush SynchronousCommit = "RemoteFlush"
	// CommitRemoteApply waits until readers of the replica see it.
	CommitRemoteApply SynchronousCommit = "RemoteApply"
)

// CustomSpec runs a program driven by hooks: commands the agent runs in the engine's container.
type CustomSpec struct {
	// port clients connect to.
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=65535
	// +required
	Port int32 `json:"port,omitempty"`

	// command starts the engine in the foreground.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=1024
	// +kubebuilder:validation:items:MinLength=1
	// +listType=atomic
	// +required
	Command []string `json:"command,omitempty"`

	// hooks are the commands by name.
	// +required
	Hooks CustomHooks `json:"hooks,omitzero"`
}

// CustomHooks are the commands a custom engine offers. Each has the deadline of the step it is part of.
type CustomHooks struct {
	// position prints the member's position as one non-negative decimal number.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=1024
	// +kubebuilder:validation:items:MinLength=1
	// +listType=atomic
	// +required
	Position []string `json:"position,omitempty"`
	// promote makes the engine writable.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=1024
	// +kubebuilder:validation:items:MinLength=1
	// +listType=atomic
	// +required
	Promote []string `json:"promote,omitempty"`
	// follow makes the engine follow the member at the address in the environment variable UPSTREAM, or nobody if empty.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=1024
	// +kubebuilder:validation:items:MinLength=1
	// +listType=atomic
	// +required
	Follow []string `json:"follow,omitempty"`
	// health exits with 0 while the engine can serve.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=1024
	// +kubebuilder:validation:items:MinLength=1
	// +listType=atomic
	// +required
	Health []string `json:"health,omitempty"`
}

// MemberTemplate is the part of a pod's shape that a user may choose. It is small on purpose: kubectl apply keeps the
// whole object in an annotation.
type MemberTemplate struct {
	// metadata adds labels and annotations to the pods.
	// +optional
	Metadata *TemplateMetadata `json:"metadata,omitempty"`

	// image of the engine; the official images work unchanged.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +required
	Image string `json:"image,omitempty"`

	// imagePullPolicy as in a container; the default is Kubernetes' own.
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	// +optional
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// imagePullSecrets as in a pod.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +optional
	ImagePullSecrets []LocalReference `json:"imagePullSecrets,omitempty"`

	// resources of the engine's container. The agent runs inside it and needs about 20 MiB of them.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// userID the engine runs as; the default is that of the official Debian based image (999), 70 or 1000 for Alpine.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	// +kubebuilder:default=999
	// +optional
	UserID int64 `json:"userID,omitempty"`

	// nodeSelector as in a pod.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations as in a pod.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// priorityClassName as in a pod.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// terminationGracePeriodSeconds is how long a member may take to hand over and end.
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=3600
	// +kubebuilder:default=30
	// +optional
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`
}

// TemplateMetadata adds labels and annotations.
type TemplateMetadata struct {
	// labels to add; those of Understudy win.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// annotations to add.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// StorageSpec asks for volumes for each member.
//
// +kubebuilder:validation:XValidation:rule="has(self.wal) == has(oldSelf.wal)",message="storage.wal cannot be added or removed once the service exists: create a new service and move the data"
// +kubebuilder:validation:XValidation:rule="quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0",message="storage.size cannot shrink: no volume can; create a new service with smaller ones and move the data"
type StorageSpec struct {
	// size of each member's data volume. It may grow, and the members' volumes with it where their storage class allows expansion.
	// +required
	Size resource.Quantity `json:"size,omitzero"`

	// storageClassName of the volumes; the cluster's default without it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`

	// wal gives PostgreSQL's write-ahead log a volume of its own, so that neither fills nor slows the other. Only with
	// engine.postgresql, and only from the beginning.
	// +optional
	WAL *WALStorageSpec `json:"wal,omitempty"`

	// retention says what happens to the volumes when the service is deleted or made smaller.
	// +kubebuilder:validation:Enum=Retain;Delete
	// +kubebuilder:default=Retain
	// +optional
	Retention VolumeRetention `json:"retention,omitempty"`
}

// WALStorageSpec asks for a volume for each member's write-ahead log.
//
// +kubebuilder:validation:XValidation:rule="quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0",message="storage.wal.size cannot shrink: no volume can; create a new service with smaller ones and move the data"
type WALStorageSpec struct {
	// size of each member's WAL volume; it may grow like storage.size. With the default parameters the log takes up to about
	// 2.5 GiB, and while a member is copied anew it has two of them.
	// +required
	Size resource.Quantity `json:"size,omitzero"`

	// storageClassName of the volumes; the cluster's default without it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`
}

// VolumeRetention says what happens to volumes nobody uses any more.
type VolumeRetention string

const (
	// RetainVolumes keeps them.
	RetainVolumes VolumeRetention = "Retain"
	// DeleteVolumes deletes them.
	DeleteVolumes VolumeRetention = "Delete"
)

// ReplicationSpec says when a write is acknowledged.
//
// +kubebuilder:validation:XValidation:rule="(self.mode == 'Synchronous') == has(self.synchronous)",message="replication.synchronous must be set when mode is Synchronous, and only then"
type ReplicationSpec struct {
	// mode of replication.
	// +kubebuilder:default=Asynchronous
	// +optional
	Mode ReplicationMode `json:"mode,omitempty"`

	// synchronous configures mode Synchronous. For Redis the promise holds for writes that the client confirmed with
	// WAIT: Redis has no synchronous commit of its own.
	// +optional
	Synchronous *SynchronousSpec `json:"synchronous,omitempty"`
}

// SynchronousSpec configures synchronous replication.
type SynchronousSpec struct {
	// quorum is W: how many replicas must have a write before it is acknowledged. The primary is not counted.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8
	// +kubebuilder:default=1
	// +optional
	Quorum int32 `json:"quorum,omitempty"`

	// onTooFewReplicas says what happens when fewer than quorum replicas are left.
	// +kubebuilder:validation:Enum=Stop;Continue
	// +kubebuilder:default=Stop
	// +optional
	OnTooFewReplicas TooFewReplicas `json:"onTooFewReplicas,omitempty"`
}

// TooFewReplicas says what a synchronous service does when it cannot reach its quorum.
type TooFewReplicas string

const (
	// StopWriting refuses writes until the quorum is back.
	StopWriting TooFewReplicas = "Stop"
	// ContinueWriting goes on with fewer and says so in a condition.
	ContinueWriting TooFewReplicas = "Continue"
)

// ServicesSpec shapes the Services made for a service.
type ServicesSpec struct {
	// primary shapes the Service NAME, which always leads to the primary.
	// +optional
	Primary *ServiceShape `json:"primary,omitempty"`

	// replicas shapes the Service NAME-replicas; it is made when this is set.
	// +optional
	Replicas *ServiceShape `json:"replicas,omitempty"`
}

// ServiceShape is what a user may choose of a Service.
type ServiceShape struct {
	// type of the Service.
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	// +kubebuilder:default=ClusterIP
	// +optional
	Type corev1.ServiceType `json:"type,omitempty"`

	// annotations of the Service.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// PlacementSpec says where members should run.
//
// +kubebuilder:validation:XValidation:rule="!has(self.failBackAfterSeconds) || has(self.preferredZone)",message="failBackAfterSeconds needs preferredZone, where the primary is to move back to"
type PlacementSpec struct {
	// spread says how strictly members are kept apart over nodes. Zones are always preferred to differ.
	// +kubebuilder:validation:Enum=Preferred;Required
	// +kubebuilder:default=Preferred
	// +optional
	Spread SpreadStrictness `json:"spread,omitempty"`

	// preferredZone of the primary, as the nodes' label topology.kubernetes.io/zone has it. Of two equally good candidates the one
	// there takes over, and a planned handover goes there if it can. Nothing moves back by itself without failBackAfterSeconds.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	PreferredZone string `json:"preferredZone,omitempty"`

	// failBackAfterSeconds moves the primary to preferredZone by a switchover once it serves elsewhere and all members, one there among them that
	// can take over, have been well for so long without a break. The time is doubled for each such move within ten times this number, up to
	// a day. Not in a cooldown, while members are renewed, in mode Manual or DryRun, or while something is stalled. Unset: the primary stays where it is.
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=604800
	// +optional
	FailBackAfterSeconds *int32 `json:"failBackAfterSeconds,omitempty"`
}

// SpreadStrictness says whether a member may share a node with another one.
type SpreadStrictness string

const (
	// SpreadPreferred lets members share a node when there is no other.
	SpreadPreferred SpreadStrictness = "Preferred"
	// SpreadRequired leaves a member pending rather than let it share a node.
	SpreadRequired SpreadStrictness = "Required"
)

// LocalReference names an object in the same namespace.
type LocalReference struct {
	// name of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`
}

// SecretKeyReference names a key of a Secret in the same namespace.
type SecretKeyReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`

	// key in the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:default=password
	// +optional
	Key string `json:"key,omitempty"`
}

// MemberRole is what a member is at present.
// +kubebuilder:validation:Enum=Primary;Replica;Unknown
type MemberRole string

const (
	// RolePrimary: the member holds the Lease and accepts writes.
	RolePrimary MemberRole = "Primary"
	// RoleReplica: the member follows the primary, or nobody yet.
	RoleReplica MemberRole = "Replica"
	// RoleUnknown: the member did not answer.
	RoleUnknown MemberRole = "Unknown"
)

// MemberState is how a member is at present.
// +kubebuilder:validation:Enum=Serving;Following;CatchingUp;Promised;Starting;Fenced;Unreachable
type MemberState string

const (
	// MemberServing: it is the primary and accepts writes.
	MemberServing MemberState = "Serving"
	// MemberFollowing: a replica with a live link to the primary and lag within the limit.
	MemberFollowing MemberState = "Following"
	// MemberCatchingUp: a replica that copies or lags by more than the limit.
	MemberCatchingUp MemberState = "CatchingUp"
	// MemberPromised: it promised a newer epoch and follows nobody for the moment.
	MemberPromised MemberState = "Promised"
	// MemberStarting: the agent or the engine is starting.
	MemberStarting MemberState = "Starting"
	// MemberFenced: its engine was killed since it lost the right to write.
	MemberFenced MemberState = "Fenced"
	// MemberUnreachable: nobody knows; never taken for healthy.
	MemberUnreachable MemberState = "Unreachable"
)

// PrimaryStatus names the primary.
type PrimaryStatus struct {
	// name of the member.
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name,omitempty"`
	// epoch it serves.
	// +required
	Epoch int64 `json:"epoch,omitempty"`
	// since when.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
}

// MemberStatus is one member as last seen.
type MemberStatus struct {
	// name of the member: its pod.
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name,omitempty"`
	// role it plays.
	// +optional
	Role MemberRole `json:"role,omitempty"`
	// state it is in.
	// +optional
	State MemberState `json:"state,omitempty"`
	// lagBytes behind the primary when the status was last written; the status is not rewritten for lag alone
	// unless it crosses the policy's limit.
	// +optional
	LagBytes *int64 `json:"lagBytes,omitempty"`
	// node it runs on.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Node string `json:"node,omitempty"`
	// zone of that node.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Zone string `json:"zone,omitempty"`
	// message says what is the matter with it, if anything.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
	// keptAside is what its data had and the primary has not, when its data was replaced last so that it could rejoin.
	// +optional
	KeptAside *KeptAside `json:"keptAside,omitempty"`
	// keptVolumes are the PersistentVolumes that it had before it began anew, its node being gone for good. With storage.retention Delete they are
	// given back to their storage class once the service is redundant without them; else they stay until a person deletes them.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=atomic
	// +optional
	KeptVolumes []string `json:"keptVolumes,omitempty"`
}

// KeptExtent says how much of what was replaced is kept.
// +kubebuilder:validation:Enum=All;Beginning;Nothing
type KeptExtent string

const (
	// KeptAll: all of it is in the files.
	KeptAll KeptExtent = "All"
	// KeptBeginning: its end did not fit what is kept.
	KeptBeginning KeptExtent = "Beginning"
	// KeptNothing: none of it is kept.
	KeptNothing KeptExtent = "Nothing"
)

// KeptAside is what a member had written or received, and the primary that it rejoined had not. It was part of no later primary's
// data, and is kept on the member's volume for people.
type KeptAside struct {
	// epoch whose data it was; 0: not known.
	// +optional
	Epoch int64 `json:"epoch,omitempty"`
	// bytes of the replication stream that it had more.
	// +kubebuilder:validation:Minimum=1
	// +required
	Bytes int64 `json:"bytes,omitempty"`
	// extent of what is kept.
	// +required
	Extent KeptExtent `json:"extent,omitempty"`
	// directory in the member's container that holds it.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Directory string `json:"directory,omitempty"`
	// firstFile that holds it.
	// +kubebuilder:validation:MaxLength=255
	// +optional
	FirstFile string `json:"firstFile,omitempty"`
	// lastFile that holds it.
	// +kubebuilder:validation:MaxLength=255
	// +optional
	LastFile string `json:"lastFile,omitempty"`
}

// LastFailover sums up the last change of primary.
type LastFailover struct {
	// name of the Failover object.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Name string `json:"name,omitempty"`
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
	// time it was decided.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
}

// ReplicatedServiceStatus is what the operator observed.
type ReplicatedServiceStatus struct {
	// observedGeneration is the generation of the spec this status is about; -1 until the first look.
	// +kubebuilder:default=-1
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions that are always present: Ready, Reconciling, Stalled, Available, Redundant, FailoverPossible,
	// ConfigurationApplied.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// primary is the member that may write, if any.
	// +optional
	Primary *PrimaryStatus `json:"primary,omitempty"`

	// members by name.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Members []MemberStatus `json:"members,omitempty"`

	// replicas is the number of pods, for the scale subresource.
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// readyReplicas is the number of members that serve or follow within the limit.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas,omitempty"`

	// readiness is readyReplicas/replicas for people.
	// +kubebuilder:validation:MaxLength=16
	// +optional
	Readiness string `json:"readiness,omitempty"`

	// maxLagBytes is the largest lagBytes of the members.
	// +optional
	MaxLagBytes *int64 `json:"maxLagBytes,omitempty"`

	// selector matches the members' pods, for the scale subresource.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Selector string `json:"selector,omitempty"`

	// lastFailover sums up the last change of primary.
	// +optional
	LastFailover *LastFailover `json:"lastFailover,omitempty"`
}

// ReplicatedService is a service with one primary and replicas that step in for it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=rsvc,categories=understudy
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')",message="metadata.name must be a DNS label of at most 40 characters that begins with a letter: the Services, pods and Lease are named after it"
// +kubebuilder:printcolumn:name="Primary",type=string,JSONPath=`.status.primary.name`
// +kubebuilder:printcolumn:name="Epoch",type=integer,JSONPath=`.status.primary.epoch`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.readiness`
// +kubebuilder:printcolumn:name="Lag",type=integer,JSONPath=`.status.maxLagBytes`,description="bytes, largest of the replicas"
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.conditions[?(@.type=="Available")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ReplicatedService struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +required
	Spec ReplicatedServiceSpec `json:"spec,omitzero"`
	// status is what was observed.
	// +kubebuilder:default:={"observedGeneration":-1}
	// +optional
	Status ReplicatedServiceStatus `json:"status,omitempty"`
}

// ReplicatedServiceList is a list of ReplicatedService.
// +kubebuilder:object:root=true
type ReplicatedServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ReplicatedService `json:"items"`
}
