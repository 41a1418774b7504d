// Package patroni runs Patroni, to compare with: three PostgreSQL servers under Patroni, with an etcd of three members.
package patroni

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"understudy.dev/understudy/test/internal/peer"
)

// Settings are Patroni's, in the words of its configuration; times are in seconds.
type Settings struct {
	TTL                   int  `json:"ttl"`
	LoopWait              int  `json:"loopWait"`
	RetryTimeout          int  `json:"retryTimeout"`
	PrimaryStartTimeout   int  `json:"primaryStartTimeout"`
	SynchronousMode       bool `json:"synchronousMode"`
	SynchronousModeStrict bool `json:"synchronousModeStrict"`
}

// Quickest are the settings under which Patroni fails over soonest while a commit waits for a replica: the least that its
// documentation allows for ttl, loop_wait and retry_timeout, and no attempt to start a crashed primary again.
func Quickest() Settings {
	return Settings{TTL: 20, LoopWait: 1, RetryTimeout: 3, SynchronousMode: true, SynchronousModeStrict: true}
}

// String is for the report.
func (s Settings) String() string {
	mode := "asynchronous"
	if s.SynchronousMode {
		mode = fmt.Sprintf("synchronous_mode, strict %t", s.SynchronousModeStrict)
	}
	return fmt.Sprintf("ttl %d, loop_wait %d, retry_timeout %d, primary_start_timeout %d, %s", s.TTL, s.LoopWait, s.RetryTimeout,
		s.PrimaryStartTimeout, mode)
}

const (
	postgresPort = 5432
	restPort     = 8008
	etcdPort     = 2379
	etcdPeerPort = 2380
	superuser    = "postgres"
	database     = "postgres"
	dataPath     = "/var/lib/postgresql/data"
	etcdPath     = "/var/lib/etcd"
	scratchPath  = "/tmp"
)

// object is a part of a configuration file.
type object = map[string]any

// Parameters are those of a service of ours, so that the same server runs on both sides.
func Parameters() map[string]any {
	return object{
		"max_connections": 100, "max_worker_processes": 8, "max_prepared_transactions": 0, "max_locks_per_transaction": 64,
		"max_wal_senders": 12, "max_replication_slots": 12, "wal_level": "replica",
		"wal_keep_size": "256MB", "max_slot_wal_keep_size": "1GB",
		"wal_sender_timeout": "5s", "wal_receiver_timeout": "5s", "wal_receiver_status_interval": "1s",
		"wal_retrieve_retry_interval": "100ms", "hot_standby_feedback": "on", "checkpoint_timeout": "5min",
		"max_wal_size": "1GB", "min_wal_size": "80MB", // initdb writes others for another size of segments
		"tcp_keepalives_idle": 10, "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "wal_log_hints": "on",
		"unix_socket_directories": scratchPath, "log_line_prefix": "%m [%p] %q%u@%d ",
	}
}

// memberConfig is the file that one member's Patroni starts with. Nobody needs a password, neither members nor clients: to
// check one takes time, and the service lives as long as the measurement.
func memberConfig(s Settings, ordinal int, members, etcd []string) ([]byte, error) {
	var hosts []string
	for _, address := range etcd {
		hosts = append(hosts, fmt.Sprintf("%s:%d", address, etcdPort))
	}
	return yaml.Marshal(object{
		"scope": name, "name": peer.Pod(name, ordinal),
		"restapi": object{
			"listen":          fmt.Sprintf("0.0.0.0:%d", restPort),
			"connect_address": fmt.Sprintf("%s:%d", members[ordinal], restPort),
		},
		"etcd3":    object{"hosts": hosts},
		"watchdog": object{"mode": "off"},
		"bootstrap": object{
			"dcs": object{
				"ttl": s.TTL, "loop_wait": s.LoopWait, "retry_timeout": s.RetryTimeout,
				"primary_start_timeout": s.PrimaryStartTimeout,
				"synchronous_mode":      s.SynchronousMode, "synchronous_mode_strict": s.SynchronousModeStrict,
				"postgresql": object{
					"use_pg_rewind": true,
					// A new primary makes slots in its next loop only, and the other replica would wait for its own. What
					// it needs is kept by wal_keep_size.
					"use_slots": false,
					// A member that cannot be rewound is copied anew, as one of ours is.
					"remove_data_directory_on_rewind_failure":     true,
					"remove_data_directory_on_diverged_timelines": true,
					"parameters": Parameters(),
				},
			},
			"initdb": []any{object{"encoding": "UTF8"}, object{"locale": "C.UTF-8"}, "data-checksums"},
		},
		"postgresql": object{
			"listen":          fmt.Sprintf("0.0.0.0:%d", postgresPort),
			"connect_address": fmt.Sprintf("%s:%d", members[ordinal], postgresPort),
			"data_dir":        dataPath + "/pgdata",
			"bin_dir":         "/usr/lib/postgresql/15/bin",
			"pgpass":          scratchPath + "/pgpass",
			"use_unix_socket": true, "use_unix_socket_repl": true,
			"pg_hba": []string{
				"local all all trust", "local replication all trust", "host all all all trust", "host replication all all trust",
			},
			"authentication": object{
				"superuser":   object{"username": superuser},
				"replication": object{"username": "replicator"},
				"rewind":      object{"username": "rewinder"},
			},
		},
	})
}

// etcdConfig is the file that one member of etcd starts with. It keeps its data through the loss of a node, but does not wait
// for the disk.
func etcdConfig(ordinal int, members []string) ([]byte, error) {
	var cluster []string
	for i, address := range members {
		cluster = append(cluster, fmt.Sprintf("%s=http://%s:%d", peer.Pod(etcdName, i), address, etcdPeerPort))
	}
	return yaml.Marshal(object{
		"name": peer.Pod(etcdName, ordinal), "data-dir": etcdPath + "/data", "unsafe-no-fsync": true,
		// Patroni speaks to this one. It is on by default, but not for an etcd 3.4 with a configuration file.
		"enable-grpc-gateway":         true,
		"listen-client-urls":          fmt.Sprintf("http://0.0.0.0:%d", etcdPort),
		"advertise-client-urls":       fmt.Sprintf("http://%s:%d", members[ordinal], etcdPort),
		"listen-peer-urls":            fmt.Sprintf("http://0.0.0.0:%d", etcdPeerPort),
		"initial-advertise-peer-urls": fmt.Sprintf("http://%s:%d", members[ordinal], etcdPeerPort),
		"initial-cluster":             strings.Join(cluster, ","),
		"initial-cluster-token":       etcdName,
		"initial-cluster-state":       "new",
	})
}
