package postgresql

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"regexp"
	"strings"
)

const passFile = "members.pass"

// conninfo is how this member reaches the primary. There is no password in it: it ends in arguments and settings.
func (p *PostgreSQL) conninfo(address, name string) string {
	return p.conninfoBase(address, name) + " keepalives_idle=5 keepalives_interval=2 keepalives_count=3 tcp_user_timeout=10000"
}

// conninfoBase leaves out what pgx does not know.
func (p *PostgreSQL) conninfoBase(address, name string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, "5432"
	}
	fields := []string{"host", host, "port", port, "user", replicator, "application_name", name, "connect_timeout", "2"}
	if t := p.config.TLS; t != nil {
		fields = append(fields, "sslmode", "verify-ca", "sslrootcert", t.CAFile, "sslcert", t.CertFile, "sslkey", t.KeyFile)
	} else {
		fields = append(fields, "sslmode", "disable", "passfile", p.run(passFile))
	}
	var parts []string
	for i := 0; i < len(fields); i += 2 {
		parts = append(parts, fields[i]+"="+quoteConninfo(fields[i+1]))
	}
	return strings.Join(parts, " ")
}

func quoteConninfo(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(v) + "'"
}

// passfile gives the members' password to libpq.
func (p *PostgreSQL) passfile() string {
	if p.secrets.Replication == "" {
		return ""
	}
	return "*:*:*:" + replicator + ":" + strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(p.secrets.Replication) + "\n"
}

// slotName is the physical replication slot of a member.
func slotName(member string) string {
	safe := strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			return r
		}
		return '_'
	}, strings.ToLower(member))
	if len(safe) > 40 { // a name has 63 bytes at most
		safe = safe[:40] + "_" + digest(member)[:8]
	}
	return slotPrefix + safe
}

const slotPrefix = "understudy_"

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// stamp is what a server puts in front of each line of its log: when, and which process.
var stamp = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \S+ \S+ \[\d+\] `)

// saidBy is the last thing that a program said, the same each time that it fails in the same way.
func saidBy(out string) string { return lastLines(stamp.ReplaceAllString(saidAll(out), "")) }
