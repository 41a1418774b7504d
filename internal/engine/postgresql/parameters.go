package postgresql

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"understudy.dev/understudy/internal/agentconfig"
)

// mostMembers is how many a service may have.
const mostMembers = 9

// defaults a user may change.
func defaults(c agentconfig.PostgreSQL) map[string]string {
	walSenders := strconv.Itoa(4 * mostMembers) // a standby stops replaying when its primary has more, so it is no matter of how many there are now
	return map[string]string{
		"wal_level": "replica",
		// What a standby compares with its primary's is the same everywhere, whatever the place where initdb ran had room for.
		"max_connections": "100", "max_worker_processes": "8", "max_prepared_transactions": "0", "max_locks_per_transaction": "64",
		"max_wal_senders":        walSenders,
		"max_replication_slots":  walSenders,
		"wal_keep_size":          "256MB", // a replica that was away for a moment needs no copy, whoever is primary now
		"max_slot_wal_keep_size": "1GB",   // a replica that stays away does not fill the disk
		"wal_sender_timeout":     "5s",
		"wal_receiver_timeout":   "5s",
		"hot_standby_feedback":   "on",
		"password_encryption":    "scram-sha-256",
		"log_line_prefix":        "%m [%p] %q%u@%d ",
		"checkpoint_timeout":     "5min",
		"tcp_keepalives_idle":    "10",
	}
}

// fixed are ours alone. They are given as arguments, which neither a file nor ALTER SYSTEM can override.
func (p *PostgreSQL) fixed() map[string]string {
	f := map[string]string{
		"config_file":              p.run("postgresql.conf"),
		"hba_file":                 p.run("pg_hba.conf"),
		"ident_file":               p.run("pg_ident.conf"),
		"listen_addresses":         "*", // it cannot change while the server runs; pg_hba.conf is the door
		"port":                     strconv.Itoa(p.config.Port),
		"unix_socket_directories":  p.socketDir(),
		"unix_socket_permissions":  "0700",
		"cluster_name":             p.config.Member,
		"hot_standby":              "on",
		"fsync":                    "on",
		"full_page_writes":         "on",
		"wal_log_hints":            "on",  // for pg_rewind
		"restart_after_crash":      "off", // whether and as what it starts again is decided elsewhere
		"recovery_target_timeline": "latest",
		// A promotion, and a replica whose primary is gone, wait for this before they look again.
		"wal_retrieve_retry_interval":  "100ms",
		"wal_receiver_status_interval": "1s",
	}
	if t := p.config.TLS; t != nil {
		f["ssl"], f["ssl_cert_file"], f["ssl_key_file"], f["ssl_ca_file"] = "on", t.CertFile, t.KeyFile, t.CAFile
	}
	return f
}

// managedNames are the parameters that change while the server runs.
var managedNames = []string{"primary_conninfo", "primary_slot_name", "synchronous_standby_names", generationName}

// Owned are the parameters that a user may not set: the fixed ones, those that change while the server runs, and those that would
// lead data, files or recovery elsewhere. The API refuses the same.
var Owned = []string{
	"config_file", "hba_file", "ident_file", "listen_addresses", "port", "unix_socket_directories", "unix_socket_permissions",
	"cluster_name", "hot_standby", "fsync", "full_page_writes", "wal_log_hints", "restart_after_crash", "recovery_target_timeline",
	"wal_retrieve_retry_interval", "wal_receiver_status_interval", "ssl", "ssl_cert_file", "ssl_key_file", "ssl_ca_file",
	"primary_conninfo", "primary_slot_name", "synchronous_standby_names", generationName,
	"data_directory", "external_pid_file", "include", "include_dir", "include_if_exists", "synchronous_commit", "restore_command",
	"archive_cleanup_command", "recovery_end_command", "recovery_min_apply_delay", "promote_trigger_file", "allow_alter_system",
	"ignore_invalid_pages", "zero_damaged_pages", "transaction_read_only", "default_transaction_read_only",
	"sync_replication_slots", "synchronized_standby_slots",
}

var parameterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

// checkParameters refuses what a user may not set.
func (p *PostgreSQL) checkParameters(parameters map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		value, lower := parameters[name], strings.ToLower(name)
		refuse := func(why string) error {
			return fmt.Errorf("configuring PostgreSQL: parameter %q = %q %s", name, value, why)
		}
		switch {
		case !parameterName.MatchString(name):
			return refuse("is no parameter's name: use letters, digits and underscores")
		case slices.Contains(Owned, lower), strings.HasPrefix(lower, "recovery_target"):
			return refuse("is set by the operator: remove it; the service's own fields say the same where it may be chosen")
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return refuse("holds a control character: write it on one line")
		case lower == "wal_level" && value != "replica" && value != "logical":
			return refuse("would end replication: use replica or logical")
		case lower == "max_wal_senders" && tooFew(value, sendersFor(1)):
			return refuse("leaves too few connections for the members and the agent: two for each member and four more are needed")
		case lower == "max_slot_wal_keep_size" && strings.HasPrefix(strings.TrimSpace(value), "-"):
			return refuse("would let a replica that stays away fill the disk: give a size")
		}
	}
	return nil
}

// sendersFor is how many WAL senders the members and the agent need.
func sendersFor(members int) int { return 2*members + 4 }

func tooFew(value string, least int) bool {
	n, err := strconv.Atoi(strings.TrimSpace(value))
	return err == nil && n < least
}

// configuration is postgresql.conf: our defaults, what the user set, and last the file of what changes while it runs.
func (p *PostgreSQL) configuration() string { return p.configurationOf(p.used()) }

func (p *PostgreSQL) configurationOf(r agentconfig.Reloadable) string {
	lines := defaults(p.config)
	for k, v := range r.Parameters {
		lines[strings.ToLower(k)] = v
	}
	raise(lines, floors(p.data()))
	raise(lines, map[string]int{"max_wal_senders": sendersFor(mostMembers)}) // how many members there are may change while it runs
	lines[preloadName] = strings.TrimSuffix(walReceiver+","+lines[preloadName], ",")
	lines["synchronous_commit"] = p.config.SynchronousCommit
	if lines["synchronous_commit"] == "" {
		lines["synchronous_commit"] = "on"
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintf(&b, "%s = %s\n", k, quoteSetting(lines[k]))
	}
	fmt.Fprintf(&b, "include %s\n", quoteSetting(p.run(managedFile)))
	return b.String()
}

const (
	preloadName = "shared_preload_libraries"
	// walReceiver is what each process that receives WAL loads before it connects, with libpq and its libraries. Loaded once, with the server,
	// it is no part of a failover, in which each replica starts two.
	walReceiver = "libpqwalreceiver"
)

// quoteSetting writes a value for postgresql.conf, where a backslash escapes.
func quoteSetting(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(v) + "'"
}

// stripAutoConf removes our parameters from the text of postgresql.auto.conf, into which a copy or ALTER SYSTEM may have
// brought them and which would override our own file.
func stripAutoConf(text string) string {
	return stripped(text, func(name string) bool { return slices.Contains(managedNames, name) })
}

// stripForeignConf does that to another server's, of which nothing may lead data, files or recovery elsewhere either.
func stripForeignConf(text string) string {
	return stripped(text, func(name string) bool {
		return slices.Contains(Owned, name) || strings.HasPrefix(name, "recovery_target")
	})
}

func stripped(text string, goes func(name string) bool) string {
	var kept []string
	for _, line := range strings.Split(text, "\n") {
		if name, _, _ := strings.Cut(line, "="); !goes(strings.ToLower(strings.TrimSpace(name))) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}
