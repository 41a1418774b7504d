package agentconfig

// PostgreSQL configures the engine.
type PostgreSQL struct {
	Port int `json:"port"`
	// Persistent says that DataDir is a volume that outlives the pod.
	Persistent bool `json:"persistent"`
	// WALDir is a volume of its own for the WAL; empty: it is with the data.
	WALDir string `json:"walDir,omitempty"`
	// BinDir holds postgres and its tools; empty: they are looked for in PATH and in /usr/lib/postgresql.
	BinDir string `json:"binDir,omitempty"`
	// ApplicationName is the identity under which this member follows: its name, a dot, and something of this very pod.
	ApplicationName string `json:"applicationName,omitempty"`
	// Member is this member's name, and Members are the names of all.
	Member  string   `json:"member,omitempty"`
	Members []string `json:"members,omitempty"`
	// Parameters are those of postgresql.conf.
	Parameters map[string]string `json:"parameters,omitempty"`
	// HBA are the user's lines of pg_hba.conf; none: every role may log in to every database with its password.
	HBA []string `json:"hba,omitempty"`
	// SuperuserLogin lets the role postgres in over the network, with TLS and its password.
	SuperuserLogin bool `json:"superuserLogin,omitempty"`
	// SynchronousCommit is what a commit waits for where the session does not say otherwise; empty: on.
	SynchronousCommit string `json:"synchronousCommit,omitempty"`
	// Database and Owner are made when the service is; both or neither.
	Database string `json:"database,omitempty"`
	Owner    string `json:"owner,omitempty"`
	// Locale and Encoding of the databases; empty: C.UTF-8 and UTF8.
	Locale   string `json:"locale,omitempty"`
	Encoding string `json:"encoding,omitempty"`
	// Import, if set, says where data is that becomes that of a new service.
	Import *Import `json:"import,omitempty"`
	// PgBouncer, if set, is told to hold its clients back during a switchover.
	PgBouncer *PgBouncer `json:"pgBouncer,omitempty"`
	// TLS, if set, is used for clients and between members, who then log in with their certificates.
	TLS *PostgreSQLTLS `json:"tls,omitempty"`
	// KeepLostBytes bounds how much WAL that nobody else has is kept aside when a member rejoins; 0: 64 MiB.
	KeepLostBytes int64 `json:"keepLostBytes,omitempty"`
}

// PgBouncer are the poolers before a service, and how to log in to their consoles.
type PgBouncer struct {
	Hosts    []string `json:"hosts"`
	Port     int      `json:"port"`
	Database string   `json:"database"`
	User     string   `json:"user"`
}

// Import names data of an earlier server.
type Import struct {
	// Member has it on its volume.
	Member string `json:"member"`
	// Path of the data directory from the volume's root; ".": that is it.
	Path string `json:"path"`
}

// PostgreSQLTLS names the files of this member's certificate. Its common name is the member's name.
type PostgreSQLTLS struct {
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
	CAFile   string `json:"caFile"`
}
