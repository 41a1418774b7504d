package postgresql

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

func imports(path string) option {
	return func(c *agentconfig.PostgreSQL) { c.Import = &agentconfig.Import{Member: "db-0", Path: path} }
}

// bring puts the data of a server at path on the member's volume that was killed while it ran, and whose superuser was somebody else.
func (m *member) bring(path string) {
	m.t.Helper()
	bin, err := m.binDir()
	if err != nil {
		m.t.Fatal(err)
	}
	dir := filepath.Join(m.disk.dir, path)
	run := func(stdin, name string, args ...string) {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Stdin, cmd.Dir = strings.NewReader(stdin), m.disk.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			m.t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	run("", "initdb", "--pgdata="+dir, "--username=boss", "--auth=trust", "--no-sync")
	run("CREATE TABLE precious AS SELECT generate_series(1, 1000) AS n\nCREATE ROLE reader LOGIN\nGRANT SELECT ON precious TO public\n",
		"postgres", "--single", "-D", dir, "-c", "max_connections=300", "-c", "wal_level=minimal", "-c", "max_wal_senders=0", "postgres")
	// It runs, and is killed.
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", dir, "-k", m.disk.dir, "-c", "listen_addresses=", "-c", "unix_socket_permissions=0700")
	if err := server.Start(); err != nil {
		m.t.Fatal(err)
	}
	until(m.t, "the server is ready", func() bool {
		raw, _ := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
		return strings.Contains(string(raw), "ready")
	})
	run("", "pg_isready", "-h", m.disk.dir)
	_ = server.Process.Signal(syscall.SIGKILL)
	_ = server.Wait()
	auto := "restore_command = '/nowhere/backup get %f %p'\nrecovery_target_action = 'shutdown'\nwork_mem = '5MB'\n"
	if err := os.WriteFile(filepath.Join(dir, "postgresql.auto.conf"), []byte(auto), 0o600); err != nil {
		m.t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(m.disk.dir, ".s.PGSQL*"))
	for _, l := range left {
		_ = os.Remove(l)
	}
}

// imported checks that a member serves what was brought along, and that another copies it.
func imported(t *testing.T, m *member) {
	t.Helper()
	if r, _ := m.report(); r.HasData || r.Primary {
		t.Errorf("before it was named primary: %+v", r)
	}
	m.promote(engine.Quorum{})
	if got := m.admin("SELECT count(*) FROM precious"); got != "1000" {
		t.Errorf("it has %s rows", got)
	}
	if got := m.admin("SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolcanlogin"); got != `boss o"wner postgres reader understudy` {
		t.Errorf("its roles are %s", got)
	}
	if got := m.admin("SHOW work_mem") + m.admin("SHOW restore_command"); got != "5MB" {
		t.Errorf("of its settings it has %q, want work_mem alone", got)
	}
	m.sql("CREATE TABLE t (n int)") // as the owner, in the database that was made
	other := newMember(t, 1, imports("pgdata")).start().running().follows(m)
	pr, _ := m.report()
	other.reaches(pr.Offset)
	if got := other.admin("SELECT count(*) FROM precious"); got != "1000" {
		t.Errorf("its replica has %s rows", got)
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"pgdata", "deep/down/15", "."} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			m := fromNothing(t, 0, imports(path))
			if err := os.MkdirAll(filepath.Dir(m.disk.path(path)), 0o700); err != nil {
				t.Fatal(err)
			}
			m.bring(path)
			m.start().running()
			m.wantStages(runImport, runServer)
			imported(t, m)
		})
	}
}

// Killed again and again while it prepares what was brought along, it loses nothing of it.
func TestInterruptedImport(t *testing.T) {
	t.Parallel()
	m := fromNothing(t, 0, imports("."))
	m.bring(".")
	// As a power cut in the middle of the move leaves it.
	if err := os.MkdirAll(m.disk.path(importDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(m.disk.path("base"), m.disk.path(importDir+"/base")); err != nil {
		t.Fatal(err)
	}
	m.start()
	killDuring(t, m, runImport, func() bool { return exists(m.disk.path(importDir) + "/postmaster.pid") })
	if exists(m.data()) {
		t.Fatal("what is not prepared is the data")
	}
	m.start().running()
	imported(t, m)
}

func TestImportRefused(t *testing.T) {
	t.Parallel()
	refused := func(want string, m *member) {
		t.Helper()
		m.start()
		until(t, want, func() bool {
			err := m.failure()
			return err != nil && strings.Contains(err.Error(), want) && engine.StuckFor(err) == engine.BootstrapFailed
		})
		m.kill()
		if m.disk.hasData() || exists(m.disk.path(initDir)) {
			t.Error("it made data of its own")
		}
	}
	wrong := fromNothing(t, 0, imports("elsewhere"))
	wrong.bring("pgdata")
	refused("correct spec.engine.postgresql.import.path", wrong)
	refused("is not one of a folder", fromNothing(t, 0, imports("data")))

	old := fromNothing(t, 0, imports("pgdata"))
	old.bring("pgdata")
	version := filepath.Join(old.disk.path("pgdata"), "PG_VERSION")
	if err := os.WriteFile(version, []byte("11\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("of version 11", old)
	// The person corrects it, and it goes on by itself.
	if err := os.WriteFile(version, []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if old.major == 15 {
		old.start().running()
		imported(t, old)
	}
}

// A service that has data of its own imports nothing: the member is new, and copies the primary.
func TestNothingIsImportedIntoAnEstablishedService(t *testing.T) {
	t.Parallel()
	m := fromNothing(t, 0, imports("pgdata"))
	m.bring("pgdata")
	m.Established(true)
	m.start().running()
	m.wantStages(runInit, runBootstrap, runServer)
	if !m.disk.cluster("pgdata") {
		t.Error("what was brought along was touched")
	}
}

// What was imported is never replaced by a copy before it has served: there is no other of it.
func TestImportedDataIsNotCopiedOver(t *testing.T) {
	t.Parallel()
	m, other := fromNothing(t, 0, imports("pgdata")), newMember(t, 1).start().running()
	m.bring("pgdata")
	m.start().running()
	other.promote(engine.Quorum{})
	until(t, "it refuses to follow", func() bool {
		err := m.Follow(within(t), other.address)
		return engine.StuckFor(err) == engine.RejoinFailed && strings.Contains(err.Error(), "was imported")
	})
	if r, _ := m.report(); r.MustReplace {
		t.Error("its data is to be replaced")
	}
}

// WAL on a volume of its own that was brought along stays while the data that names it is not the service's yet.
func TestBroughtWALIsNotSwept(t *testing.T) {
	t.Parallel()
	wal := t.TempDir()
	if err := os.Chmod(wal, 0o700); err != nil {
		t.Fatal(err)
	}
	m := fromNothing(t, 0, imports("mistyped"), func(c *agentconfig.PostgreSQL) { c.WALDir = wal })
	m.bring("pgdata")
	moved := filepath.Join(wal, walPrefix+"brought")
	if err := os.Rename(m.disk.path("pgdata/pg_wal"), moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(moved, m.disk.path("pgdata/pg_wal")); err != nil {
		t.Fatal(err)
	}
	m.start()
	until(t, "it is refused", func() bool { return engine.StuckFor(m.failure()) == engine.BootstrapFailed })
	m.kill()
	m.imports.Store(&agentconfig.Import{Member: "db-0", Path: "pgdata"})
	m.start().running()
	imported(t, m)
	if !exists(moved) {
		t.Error("its WAL is gone")
	}
}
