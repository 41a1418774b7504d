package postgresql

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"understudy.dev/understudy/internal/engine"
)

// maxSocketPath is what the kernel allows the name of a socket.
const maxSocketPath = 107

// record runs a command, and leaves how it ended in $1.exit and what it said in $1.log: whoever asks for the next process
// was not told. The file appears after the command made its work durable, so it needs no sync of its own.
const record = `out=$1; shift; "$@" >"$out.log" 2>&1; s=$?; cat "$out.log" >&2; echo "$s" >"$out.exit.new" && mv "$out.exit.new" "$out.exit"; exit "$s"`

// Process makes the next step on the way to a running server, as the disk has it.
func (p *PostgreSQL) Process() (engine.Process, error) {
	p.mu.Lock()
	p.stage, p.upstream, p.quorum, p.slotsDue, p.pending = "", "", engine.Quorum{}, time.Time{}, nil
	p.caughtUp, p.known, p.received, p.prepared = false, place{}, 0, ""
	p.life++ // what is still ordered of the last one comes too late
	p.lifetime.end()
	p.lifetime = newLifetime()
	gone := p.lifetime.gone.Done()
	p.mu.Unlock()
	p.forgetPause()
	if p.config.TLS != nil {
		p.noteCertificates(p.certificateFiles()) // before the server reads them: a later version is read again
	}
	bin, err := p.binDir()
	if err != nil {
		return engine.Process{}, err
	}
	if err := p.checkVersions(bin); err != nil {
		return engine.Process{}, err
	}
	if err := p.prepare(); err != nil {
		return engine.Process{}, err
	}
	if err := p.countAnew(); err != nil {
		return engine.Process{}, err
	}
	const enough = 20 // changes of files, each of which leads on
	for range enough {
		s, w, err := p.disk.state()
		if err != nil {
			return engine.Process{}, err
		}
		// Both depend on the data, which the last change may have put there.
		if err := p.choose(); err != nil {
			return engine.Process{}, err
		}
		if err := writeAtomically(p.run("postgresql.conf"), []byte(p.configuration()), false); err != nil {
			return engine.Process{}, err
		}
		s.CheckDone, s.Importing = p.checked(), p.importing() != nil
		st := next(s)
		if change := p.change(st, w); change != nil {
			if err := change(); err != nil {
				return engine.Process{}, fmt.Errorf("preparing the data (%s): %w", st, err)
			}
			continue
		}
		proc, err := p.start(st, w, bin)
		if st == runServer {
			proc.Gone = gone
		}
		return proc, err
	}
	return engine.Process{}, fmt.Errorf("preparing the data in %s: it does not come to rest: please report this with what is in %s", p.disk.dir, p.disk.note(""))
}

// prepare makes everything that is not data anew: nothing of an earlier life lets anybody in or follows anybody.
func (p *PostgreSQL) prepare() error {
	d := p.disk
	if i := p.imports.Load(); i != nil {
		d.brought = i.Path
	}
	if err := d.prepare(); err != nil {
		return err
	}
	if n := len(p.socket()); n > maxSocketPath {
		return fmt.Errorf("preparing %s: the name of a socket in it would have %d bytes, and %d are possible: use a shorter folder", p.runDir, n, maxSocketPath)
	}
	if err := os.MkdirAll(p.socketDir(), 0o700); err != nil {
		return fmt.Errorf("preparing PostgreSQL's folder: %w", err)
	}
	if err := os.Chmod(p.socketDir(), 0o700); err != nil {
		return fmt.Errorf("preparing PostgreSQL's folder: %w", err)
	}
	if _, err := p.writeSettings(p.currentLife(), settings{standbys: nobody}); err != nil {
		return err
	}
	files := map[string]string{"pg_ident.conf": p.ident(), passFile: p.passfile()}
	for name, content := range files {
		if err := writeAtomically(p.run(name), []byte(content), false); err != nil {
			return err
		}
	}
	return p.writeDoor(p.currentLife(), closed)
}

// start is the process of a step.
func (p *PostgreSQL) start(st step, w wish, bin string) (engine.Process, error) {
	var proc engine.Process
	var err error
	switch st {
	case runInit:
		proc, err = p.startInit(bin)
	case runBootstrap:
		proc, err = p.startBootstrap(bin)
	case runImport:
		proc, err = p.startImport(bin)
	case runCopy:
		proc, err = p.startCopy(bin, w)
	case runRewind:
		proc, err = p.startRewind(bin, w)
	case runCheck:
		if err = prepareScratch(p.run(scratchDir), p.clusterToRun()); err == nil {
			proc = p.recorded(p.checkName(), p.checkCommand(bin, p.run(scratchDir), p.run("postgresql.conf")))
		}
	case runServer:
		proc, err = p.startServer(bin)
	case tellInit:
		err = p.tellInit()
	case tellImport:
		err = p.tellImport()
	case refuseTorn:
		w.Reason = p.lastReason(w)
		err = w.gaveUp()
	case refuseConfig:
		err = p.refusedByCheck()
	default:
		err = fmt.Errorf("preparing the data: no process for %s", st)
	}
	if err != nil {
		return engine.Process{}, err
	}
	p.mu.Lock()
	p.stage = st
	p.mu.Unlock()
	proc.Step = st != runServer
	return proc, nil
}

// clusterToRun is the cluster that the next server is to run on.
func (p *PostgreSQL) clusterToRun() string {
	for _, name := range []string{dataDir, importDir} {
		if p.disk.cluster(name) {
			return p.disk.path(name)
		}
	}
	return p.disk.path(initDir)
}

// recorded is a command whose end is recorded in a file.
func (p *PostgreSQL) recorded(out string, command []string) engine.Process {
	return engine.Process{
		Path: "/bin/sh", Args: append([]string{"sh", "-c", record, "understudy-stage", out}, command...), Dir: p.disk.dir,
		Env: append(environment(), "LC_ALL=C"),
	}
}

// environment is ours without what would steer PostgreSQL's programs.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "PG") || strings.HasPrefix(s, "LC_ALL=") })
}

// serverArgs name the data and what is ours alone.
func (p *PostgreSQL) serverArgs(data string) []string {
	args := []string{"-D", data}
	fixed := p.fixed()
	for _, k := range sortedKeys(fixed) {
		args = append(args, "-c", k+"="+fixed[k])
	}
	return args
}

// startServer starts the server as a standby, whatever it was before.
func (p *PostgreSQL) startServer(bin string) (engine.Process, error) {
	if err := errors.Join(p.clearStale(), p.portFree()); err != nil {
		return engine.Process{}, err
	}
	if err := errors.Join(p.beginCatchUp(), p.countTrial()); err != nil {
		return engine.Process{}, err
	}
	if err := cleanAutoConf(p.data(), stripAutoConf); err != nil {
		return engine.Process{}, err
	}
	for _, name := range []string{"recovery.signal", "promote", "promote.signal"} {
		if err := os.Remove(filepath.Join(p.data(), name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return engine.Process{}, fmt.Errorf("starting PostgreSQL as a standby: %w", err)
		}
	}
	if err := writeDurably(filepath.Join(p.data(), "standby.signal"), nil); err != nil {
		return engine.Process{}, err
	}
	path := filepath.Join(bin, "postgres") // also as its own name, by which it looks for its files
	return engine.Process{Path: path, Args: append([]string{path}, p.serverArgs(p.data())...), Dir: p.disk.dir, Env: environment()}, nil
}

// cleanAutoConf takes out of a cluster's postgresql.auto.conf what is ours alone.
func cleanAutoConf(cluster string, strip func(string) string) error {
	auto := filepath.Join(cluster, "postgresql.auto.conf")
	raw, err := os.ReadFile(auto)
	if err != nil {
		return nil // none: there is nothing in it
	}
	if text := strip(string(raw)); text != string(raw) {
		return writeDurably(auto, []byte(text))
	}
	return nil
}

// beginCatchUp leads a server on rewound data to the WAL that it needs to be readable, and counts it.
func (p *PostgreSQL) beginCatchUp() error {
	var catch catchUp
	found, err := loadJSON(p.disk.note(catchFile), &catch)
	if err != nil || !found {
		return err
	}
	s := settings{conninfo: p.conninfo(catch.Address, p.config.ApplicationName+rejoining), standbys: nobody}
	if _, err := p.writeSettings(p.currentLife(), s); err != nil {
		return err
	}
	catch.Starts++
	return saveJSON(p.disk.note(catchFile), catch)
}

// clearStale removes the lock files of a server that was killed: the number in them may be another process's by now, and
// then PostgreSQL would refuse to start.
func (p *PostgreSQL) clearStale() error {
	if pid := p.postmaster(); pid != 0 {
		return fmt.Errorf("starting PostgreSQL: process %d still serves the data in %s: it must end first", pid, p.data())
	}
	return removeDurably(filepath.Join(p.data(), "postmaster.pid"), fmt.Sprintf("%s/.s.PGSQL.%d.lock", p.socketDir(), p.config.Port))
}
