package postgresql

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

// Imports implements engine.Importer.
func (p *PostgreSQL) Imports() string {
	if i := p.imports.Load(); i != nil {
		return i.Member
	}
	return ""
}

// Established implements engine.Importer.
func (p *PostgreSQL) Established(yes bool) { p.settled.Store(yes) }

// importing is what this member is to import; nil: nothing.
func (p *PostgreSQL) importing() *agentconfig.Import {
	if i := p.imports.Load(); i != nil && i.Member == p.config.Member && !p.settled.Load() {
		return i
	}
	return nil
}

// errImported keeps data that was imported and never served from being replaced by a copy: it may be the only one of it.
var errImported = errors.New("this member's data was imported and the service began without it, so it is not replaced: to begin with it, make a new service that " +
	"imports it; to give it up, delete this member's PersistentVolumeClaim and then its pod")

// reserved are the names on a data volume that are ours, or the file system's.
var reserved = append([]string{trashDir, lostDir, stateDir, "lost+found"}, clusters...)

// ours reports whether an entry of the volume's root is not part of data that was brought along there; the agent's notes begin with a dot.
func ours(name string) bool {
	return slices.Contains(reserved, name) || strings.HasPrefix(name, trashDir) || strings.HasPrefix(name, ".understudy")
}

// takeImport moves the data that was brought along to where it is prepared. Until that is done nothing in it is changed, so that what
// is refused can be taken elsewhere.
func (p *PostgreSQL) takeImport() error {
	i := p.importing()
	if i == nil {
		return nil
	}
	from := p.disk.path(i.Path)
	if err := p.judgeImport(*i, from); err != nil {
		return &engine.StuckError{Reason: engine.BootstrapFailed, Err: fmt.Errorf("importing the data in %s: %w", from, err)}
	}
	if err := writeDurably(p.disk.note(importedFile), nil); err != nil {
		return err
	}
	if filepath.Clean(i.Path) == "." {
		return p.gather(from)
	}
	if err := renameDurably(from, p.disk.path(importDir)); err != nil {
		if !p.disk.cluster(importDir) {
			err = errors.Join(err, p.disk.drop(importedFile)) // nothing was
		}
		return err
	}
	return nil
}

// gather moves the content of the volume's root into a folder. PG_VERSION goes last: an interrupted move is found by it, and goes on.
func (p *PostgreSQL) gather(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("importing the data in %s: %w", root, err)
	}
	into := p.disk.path(importDir)
	if err := os.MkdirAll(into, 0o700); err != nil {
		return fmt.Errorf("importing the data in %s: %w", root, err)
	}
	for _, e := range entries {
		if name := e.Name(); name != "PG_VERSION" && !ours(name) {
			if err := os.Rename(filepath.Join(root, name), filepath.Join(into, name)); err != nil {
				return fmt.Errorf("importing the data in %s: %w", root, err)
			}
		}
	}
	if err := errors.Join(syncDir(into), syncDir(root)); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(root, "PG_VERSION"), filepath.Join(into, "PG_VERSION")); err != nil {
		return fmt.Errorf("importing the data in %s: %w", root, err)
	}
	return errors.Join(syncDir(into), syncDir(root))
}

// judgeImport says why a folder cannot be imported.
func (p *PostgreSQL) judgeImport(i agentconfig.Import, from string) error {
	first, _, _ := strings.Cut(filepath.ToSlash(filepath.Clean(i.Path)), "/")
	if !filepath.IsLocal(i.Path) || slices.Contains(reserved, first) {
		return fmt.Errorf("the path %q is not one of a folder on the volume that may be imported: rename the folder, and correct spec.engine.postgresql.import.path", i.Path)
	}
	raw, err := os.ReadFile(filepath.Join(from, "PG_VERSION"))
	if err != nil {
		return fmt.Errorf("it is no data directory of PostgreSQL (%w): bring one to the volume of member %s, or correct spec.engine.postgresql.import.path", err, i.Member)
	}
	if have := strings.TrimSpace(string(raw)); have != strconv.Itoa(p.major) {
		return fmt.Errorf("it is of version %s and the image has version %d, which cannot read it: use an image of version %s", have, p.major, have)
	}
	if exists(filepath.Join(from, "recovery.signal")) {
		return errors.New("it has a recovery.signal, so it is still to be recovered from an archive: let a server of its own finish that first")
	}
	if spaces, _ := os.ReadDir(filepath.Join(from, "pg_tblspc")); len(spaces) > 0 {
		return errors.New("it has tablespaces (pg_tblspc), for which members have no place: move what is in them to pg_default first")
	}
	if info, err := os.Stat(filepath.Join(from, "pg_wal")); filepath.Clean(i.Path) != "." && (err != nil || !info.IsDir()) {
		return errors.New("its pg_wal is not there: it may have been a link to another volume: bring the folder itself")
	}
	return nil
}

// startImport makes the cluster that was brought along the service's: its server replays what it has to, and roles and database
// that are missing are made.
func (p *PostgreSQL) startImport(bin string) (engine.Process, error) {
	cluster := p.disk.path(importDir)
	// A standby's data becomes a primary's, and nothing of another server's life counts here.
	if err := removeDurably(filepath.Join(cluster, "standby.signal"), filepath.Join(cluster, "postmaster.pid")); err != nil {
		return engine.Process{}, err
	}
	if err := cleanAutoConf(cluster, stripForeignConf); err != nil {
		return engine.Process{}, err
	}
	lines, err := p.importStatements()
	if err != nil {
		return engine.Process{}, err
	}
	return p.singleUser(bin, importDir, "import", lines)
}

// tellImport says how preparing the data failed, once; after that it is tried again.
func (p *PostgreSQL) tellImport() error {
	err := fmt.Errorf("importing data: preparing it in %s failed: %s: it is tried again", p.disk.path(importDir), p.disk.complaint("import"))
	if strings.Contains(saidAll(p.disk.note("import")), hbaFault) {
		p.refuseStart(err)
	}
	return errors.Join(&engine.StuckError{Reason: engine.BootstrapFailed, Err: err}, p.disk.forget("import"))
}

// importStatements are bootstrap's for a cluster that may have some of it. A database cannot be made in a block, so the statement that
// makes it may fail, and whether it is there is looked at afterwards.
func (p *PostgreSQL) importStatements() ([]string, error) {
	lines := []string{judgeHBAStatement, roleStatement(superuser, " SUPERUSER LOGIN")}
	own, err := p.replicatorStatements()
	if err != nil {
		return nil, err
	}
	lines = append(lines, own...)
	if p.config.Owner != "" {
		v, err := verifier("the owner's password", p.secrets.Owner)
		if err != nil {
			return nil, err
		}
		lines = append(lines, roleStatement(p.config.Owner, " LOGIN PASSWORD "+quoteLiteral(v)))
	}
	if name := p.config.Database; name != "" && name != superuser {
		lines = append(lines, "SET exit_on_error TO off", "CREATE DATABASE "+quoteName(name)+" OWNER "+quoteName(p.config.Owner), "SET exit_on_error TO on",
			block("IF NOT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = "+quoteLiteral(name)+") THEN RAISE EXCEPTION 'the database could not be made'; END IF;"))
	}
	return lines, nil
}

// roleStatement makes a role, or gives it attributes where it is.
func roleStatement(name, attributes string) string {
	return block("IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = " + quoteLiteral(name) + ") THEN ALTER ROLE " + quoteName(name) + attributes +
		"; ELSE CREATE ROLE " + quoteName(name) + attributes + "; END IF;")
}

// block is a statement of statements. Its mark is in no name that is quoted in it by accident: a name with it makes the statement fail.
func block(body string) string { return "DO $understudy$BEGIN " + body + " END$understudy$" }
