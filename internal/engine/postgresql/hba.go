package postgresql

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// door says who may connect. Whoever is in stays in when it closes.
type door string

const (
	closed    door = "closed"    // only the agent, over the socket in its own folder
	following door = "following" // clients that read; no member, since nobody may follow one that is not primary
	detached  door = "detached"  // clients that read, and members: it may be the next primary, and whoever is told so connects before it is
	open      door = "open"      // clients and members
	// membersOnly: clients are kept out, and replicas go on.
	membersOnly door = "members"
)

// replicator is the role as which members follow, copy and rewind.
const replicator = "understudy"

// superuser is the role as which the agent orders.
const superuser = "postgres"

var hbaKind = regexp.MustCompile(`^(host|hostssl|hostnossl|hostgssenc|hostnogssenc)\s`)

// checkHBA refuses lines that would reach further than a client's.
func checkHBA(lines []string) error {
	for _, line := range lines {
		refuse := func(why string) error { return fmt.Errorf("configuring PostgreSQL: the pg_hba line %q %s", line, why) }
		fields := strings.Fields(line)
		switch {
		case strings.ContainsAny(line, "\r\n\x00") || strings.HasSuffix(line, `\`):
			return refuse("must be one line")
		case !hbaKind.MatchString(line):
			return refuse("must begin with host, hostssl, hostnossl, hostgssenc or hostnogssenc")
		case len(fields) < 5:
			return refuse("lacks a field: it is TYPE DATABASE USER ADDRESS METHOD")
		case strings.Contains(fields[1], "replication"):
			return refuse("names replication, which is the members' own")
		case strings.ContainsRune(line, '@'):
			return refuse("reads a file with @: name what is meant")
		}
	}
	return nil
}

// hba is pg_hba.conf for a door, with the user's lines. The socket's folder is this user's alone, which is what `peer` would check; `peer` needs a
// name for the user, and a pod may run under any number.
func (p *PostgreSQL) hba(d door, users []string) string {
	lines := []string{"local all " + superuser + " trust"}
	tls := p.config.TLS != nil
	members := d == open || d == membersOnly || d == detached
	if members && tls {
		// verify-full: the certificate is a member's; the map says that its name is one.
		lines = append(lines, "hostssl replication,"+superuser+" "+replicator+" all cert map=members")
	}
	if members && !tls {
		lines = append(lines, "host replication,"+superuser+" "+replicator+" all scram-sha-256")
	}
	if clients := d == open || d == following || d == detached; clients && tls && p.config.SuperuserLogin {
		lines = append(lines, "hostssl all "+superuser+" all scram-sha-256")
	}
	lines = append(lines, "host all "+replicator+" all reject", "host all "+superuser+" all reject", "host replication all all reject")
	switch {
	case d == closed || d == membersOnly:
	case len(users) > 0:
		lines = append(lines, users...)
	default:
		lines = append(lines, "host all all all scram-sha-256")
	}
	return strings.Join(lines, "\n") + "\n"
}

// ident maps the members' certificates to the role they may use. The service's own authority signs for its members only, of whom there may
// be more tomorrow.
func (p *PostgreSQL) ident() string {
	service := p.config.Member[:strings.LastIndexByte(p.config.Member, '-')+1]
	return fmt.Sprintf("members /^%s[0-9]+$ %s\n", regexp.QuoteMeta(service), replicator)
}

func (p *PostgreSQL) writeDoor(life int, d door) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != life {
		return errEnded
	}
	p.door = d
	return writeAtomically(p.run("pg_hba.conf"), []byte(p.hba(d, p.tuning.inUse.HBA)), false)
}

// writeHBA replaces the file without another door.
func (p *PostgreSQL) writeHBA(life int, text string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != life {
		return errEnded
	}
	return writeAtomically(p.run("pg_hba.conf"), []byte(text), false)
}

func (p *PostgreSQL) doorNow() door {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.door
}

// setDoor rewrites pg_hba.conf and returns when every connection that is accepted from now on is judged by it.
func (p *PostgreSQL) setDoor(ctx context.Context, c *conn, d door) error {
	if err := p.writeDoor(c.life, d); err != nil {
		return err
	}
	return p.applyFiles(ctx, c)
}

// applyFiles reloads with the settings as they are. The postmaster tells its children before it reads pg_hba.conf, but it
// does both before it accepts anybody: so one more connection proves that it read the file.
func (p *PostgreSQL) applyFiles(ctx context.Context, c *conn) error {
	p.mu.Lock()
	s := p.settings
	p.mu.Unlock()
	if err := p.apply(ctx, c, s); err != nil {
		return err
	}
	return p.proveDoor(ctx)
}

// proveDoor returns when pg_hba.conf, as it was before the last reload, is what everybody is judged by.
func (p *PostgreSQL) proveDoor(ctx context.Context) error {
	proof, err := p.dial(ctx)
	if err != nil {
		return fmt.Errorf("verifying pg_hba.conf: %w", err)
	}
	proof.close()
	return nil
}
