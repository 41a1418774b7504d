package postgresql

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"understudy.dev/understudy/internal/engine"
)

// segmentMegabytes is the size of a WAL segment. A promotion copies the segment it ends in to the new timeline and syncs it, each replica
// then makes the same segment anew and receives it from its beginning; all that is in the way of the first commit. The smallest that there is
// may cost a bulk load a tenth.
const segmentMegabytes = "1"

// startInit makes a cluster, from nothing: what an earlier try left is removed.
func (p *PostgreSQL) startInit(bin string) (engine.Process, error) {
	if err := p.disk.discard(initDir); err != nil {
		return engine.Process{}, err
	}
	if err := p.disk.forget("init", "bootstrap"); err != nil {
		return engine.Process{}, err
	}
	locale, encoding := p.config.Locale, p.config.Encoding
	if locale == "" {
		locale = "C.UTF-8"
	}
	if encoding == "" {
		encoding = "UTF8"
	}
	wal, err := p.disk.newWAL()
	if err != nil {
		return engine.Process{}, err
	}
	return p.recordedNamed(p.disk.note("init"), append([]string{
		filepath.Join(bin, "initdb"), "--pgdata=" + p.disk.path(initDir), "--username=" + superuser, "--auth=trust",
		"--data-checksums", "--wal-segsize=" + segmentMegabytes, "--locale=" + locale, "--encoding=" + encoding,
	}, wal...))
}

// tellInit says how making a cluster failed, once.
func (p *PostgreSQL) tellInit() error {
	kind, program := "init", "initdb"
	if p.disk.done(kind) == succeed {
		kind, program = "bootstrap", "the bootstrap"
	}
	err := fmt.Errorf("making a new cluster in %s: %s failed: %s: it is tried again", p.disk.path(initDir), program, p.disk.complaint(kind))
	if strings.Contains(saidAll(p.disk.note(kind)), hbaFault) {
		p.refuseStart(err)
	}
	return errors.Join(&engine.StuckError{Reason: engine.BootstrapFailed, Err: err}, p.disk.forget("init", "bootstrap"))
}

// startBootstrap makes roles and database in the new cluster before any server runs on it: no one else can be there, and no
// order's time is over before it is done.
func (p *PostgreSQL) startBootstrap(bin string) (engine.Process, error) {
	lines, err := p.bootstrap()
	if err != nil {
		return engine.Process{}, err
	}
	return p.singleUser(bin, initDir, "bootstrap", lines)
}

// singleUser carries statements out in a cluster that no server runs on, each a line.
func (p *PostgreSQL) singleUser(bin, cluster, kind string, lines []string) (engine.Process, error) {
	for _, line := range lines {
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
			return engine.Process{}, fmt.Errorf("making the database %q of owner %q: a name holds a control character: correct it", p.config.Database, p.config.Owner)
		}
	}
	candidate := p.run("pg_hba.candidate")
	if err := writeAtomically(candidate, []byte(strings.Join(slices.Concat(p.used().HBA, []string{""}), "\n")), false); err != nil {
		return engine.Process{}, err
	}
	// With the service's parameters: what the data saw last is the least that a standby starts with.
	args := append([]string{filepath.Join(bin, "postgres"), "--single"}, p.serverArgs(p.disk.path(cluster))...)
	proc, err := p.recordedNamed(p.disk.note(kind), append(args, "-c", "hba_file="+candidate, "-c", "synchronous_standby_names=", "-c", "exit_on_error=on",
		"-c", "log_min_error_statement=panic", superuser))
	proc.Stdin = []byte(strings.Join(lines, "\n") + "\n")
	return proc, err
}

const hbaFault = "in the pg_hba lines"

// judgeHBAStatement fails where the user's lines of pg_hba.conf have a fault: only a server can tell, and a new service has no
// lines from before to go on with.
const judgeHBAStatement = "DO $$DECLARE fault text; BEGIN " +
	"SELECT pg_catalog.string_agg(pg_catalog.format('line %s: %s', line_number, error), '; ') INTO fault FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL; " +
	"IF fault IS NOT NULL THEN RAISE EXCEPTION '" + hbaFault + ": %: correct spec.engine.postgresql.hostBasedAuthentication', fault; END IF; END$$"

// bootstrap are the statements that make a new cluster the service's.
func (p *PostgreSQL) bootstrap() ([]string, error) {
	lines, err := p.replicatorStatements()
	if err != nil {
		return nil, err
	}
	lines = append([]string{judgeHBAStatement}, lines...)
	if p.config.Owner != "" {
		v, err := verifier("the owner's password", p.secrets.Owner)
		if err != nil {
			return nil, err
		}
		lines = append(lines, "CREATE ROLE "+quoteName(p.config.Owner)+" LOGIN PASSWORD "+quoteLiteral(v))
	}
	if p.config.Database != "" && p.config.Database != superuser {
		lines = append(lines, "CREATE DATABASE "+quoteName(p.config.Database)+" OWNER "+quoteName(p.config.Owner))
	}
	return lines, nil
}

// replicatorStatements make the members' own role.
func (p *PostgreSQL) replicatorStatements() ([]string, error) {
	attributes := " LOGIN REPLICATION"
	if p.secrets.Replication != "" {
		v, err := verifier("the members' password", p.secrets.Replication)
		if err != nil {
			return nil, err
		}
		attributes += " PASSWORD " + quoteLiteral(v)
	}
	lines := []string{roleStatement(replicator, attributes), "GRANT pg_monitor, pg_checkpoint TO " + replicator}
	// What pg_rewind reads the primary's files with.
	for _, f := range []string{"pg_ls_dir(text, boolean, boolean)", "pg_stat_file(text, boolean)", "pg_read_binary_file(text)",
		"pg_read_binary_file(text, bigint, bigint, boolean)"} {
		lines = append(lines, "GRANT EXECUTE ON FUNCTION pg_catalog."+f+" TO "+replicator)
	}
	return lines, nil
}

// ensureReplicator makes the members' role on data that was brought along.
func (p *PostgreSQL) ensureReplicator(ctx context.Context, c *conn) error {
	rows, err := c.query(ctx, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = '"+replicator+"'")
	if err != nil || len(rows) > 0 {
		return err
	}
	lines, err := p.replicatorStatements()
	if err != nil {
		return err
	}
	_, err = c.query(ctx, "BEGIN; "+strings.Join(lines, "; ")+"; COMMIT")
	return err
}

func quoteName(s string) string    { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
