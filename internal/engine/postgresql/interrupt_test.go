package postgresql

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

// killDuring kills the member's processes while a stage has its folder half made.
func killDuring(t *testing.T, m *member, st step, when func() bool) {
	t.Helper()
	until(t, string(st)+" is under way", func() bool { return m.stageNow() == st && when() })
	m.kill()
	if s, _, err := m.disk.state(); err != nil || s.InitDone == succeed && st == runInit || s.CopyDone == succeed {
		t.Fatalf("%s was over before it was killed: %+v, %v", st, s, err)
	}
}

func TestInterruptedInit(t *testing.T) {
	t.Parallel()
	m := fromNothing(t, 0).start()
	killDuring(t, m, runInit, func() bool { return exists(m.disk.path(initDir) + "/PG_VERSION") })
	if exists(m.data()) {
		t.Fatal("a half made cluster is the data")
	}
	m.start().running()
	m.promote(engine.Quorum{})
	m.sql("CREATE TABLE t (n int)")
	until(t, "nothing is left of it", func() bool { left, _ := filepath.Glob(m.disk.path("data.*")); return len(left) == 0 })
}

func TestInterruptedCopyKeepsTheData(t *testing.T) {
	t.Parallel()
	a, b := newMember(t, 0).start().running(), fromNothing(t, 1).start().running()
	a.promote(engine.Quorum{})
	b.promote(engine.Quorum{}) // a service of its own: foreign data, which must not go before a copy has streamed
	b.sql("CREATE TABLE precious (n int)")
	a.sql("CREATE TABLE t AS SELECT generate_series(1, 300000) AS n")
	b.crash()
	until(t, "b is a standby again", func() bool { r, ok := b.report(); return ok && !r.Primary })
	if err := b.follow(within(t), a.address); err != nil {
		t.Fatal(err)
	}
	killDuring(t, b, runCopy, func() bool { return exists(b.disk.path(copyDir) + "/base") })
	if !b.disk.cluster(dataDir) {
		t.Fatal("the old data is gone before there is a copy")
	}
	b.start()
	until(t, "the copy is in its place", func() bool { s, _, _ := b.disk.state(); return s.Old && s.Data && s.Wish == wishNone })
	b.running()
	if !b.disk.cluster(oldDir) {
		t.Error("the old data is gone before the copy has streamed")
	}
	b.follows(a)
	until(t, "the old data is let go", func() bool { _, _ = b.report(); return !exists(b.disk.path(oldDir)) })
	until(t, "the copy is readable", func() bool { c, err := b.client(); return err == nil && c.Close(within(t)) == nil })
	if got := b.sql("SELECT count(*) FROM t"); got != "300000" {
		t.Errorf("%s rows", got)
	}
}

func stepNames(steps []step) []string {
	var names []string
	for _, s := range steps {
		names = append(names, string(s))
	}
	return names
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	refusedFor := func(reason engine.Stuck, what, want string, m *member) {
		t.Helper()
		m.start()
		until(t, what, func() bool {
			err := m.failure()
			return err != nil && strings.Contains(err.Error(), want) && engine.StuckFor(err) == reason
		})
		m.kill()
	}
	refused := func(what, want string, m *member) {
		t.Helper()
		refusedFor("", what, want, m)
	}
	set := func(k, v string) option {
		return func(c *agentconfig.PostgreSQL) { c.Parameters[k] = v }
	}
	refusedFor(engine.ConfigurationRefused, "ours", `parameter "port" = "1" is set by the operator`, newMember(t, 0, set("port", "1")))
	refusedFor(engine.ConfigurationRefused, "no value", `invalid value for parameter "work_mem": "lots"`, fromNothing(t, 0, set("work_mem", "lots")))
	refusedFor(engine.ConfigurationRefused, "no parameter", `unrecognized configuration parameter "no_such"`, newMember(t, 0, set("no_such", "1")))
	refusedFor(engine.BootstrapFailed, "no locale", `initdb failed`, fromNothing(t, 0, func(c *agentconfig.PostgreSQL) { c.Locale = "xx_XX" }))
	refused("no PostgreSQL", "has no program postgres", newMember(t, 0, func(c *agentconfig.PostgreSQL) { c.BinDir = "/bin" }))
	refusedFor(engine.ConfigurationRefused, "a bad line of pg_hba", "must begin with host", newMember(t, 0, func(c *agentconfig.PostgreSQL) { c.HBA = []string{"local all all trust"} }))

	old := newMember(t, 0).start().running()
	old.kill()
	version := filepath.Join(old.data(), "PG_VERSION")
	right, err := os.ReadFile(version)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(version, []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("another version", "is of version 9 and the image has version", old)
	if err := os.WriteFile(version, right, 0o600); err != nil {
		t.Fatal(err)
	}
	old.start().running()

	busy := newMember(t, 0)
	l, err := net.Listen("tcp4", ":"+strconv.Itoa(busy.config.Port))
	if err != nil {
		t.Fatal(err)
	}
	refused("a port in use", "its port "+strconv.Itoa(busy.config.Port)+" is in use", busy)
	_ = l.Close()
	busy.start().running()

	taken := fromNothing(t, 0)
	if err := os.MkdirAll(filepath.Join(taken.data(), "holiday photos"), 0o700); err != nil {
		t.Fatal(err)
	}
	refused("a folder of something else", "it is no cluster of PostgreSQL", taken)
	if !exists(filepath.Join(taken.data(), "holiday photos")) {
		t.Error("what is no cluster was removed")
	}
}

// A server always starts as a standby, and one with less than its data has seen would not start.
func TestLoweredParametersDoNotStopAStandby(t *testing.T) {
	t.Parallel()
	m := newMember(t, 0).start().running()
	m.promote(engine.Quorum{})
	m.kill()
	m.ask(with(map[string]string{"max_connections": "12"}))
	m.start().running()
	least := floors(m.data())
	if least["max_connections"] != 20 || least["max_wal_senders"] != 4*mostMembers || least["max_locks_per_transaction"] != 64 {
		t.Errorf("pg_control says %v", least)
	}
}

func TestNoPasswordIsSeen(t *testing.T) {
	t.Parallel()
	a, b := fromNothing(t, 0), newMember(t, 1)
	seen, stop, over := "", make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			for _, pid := range everybody() {
				for _, file := range []string{"cmdline", "environ"} {
					raw, _ := os.ReadFile("/proc/" + pid + "/" + file)
					if strings.Contains(string(raw), "pass:word") || strings.Contains(string(raw), ownerPassword) {
						seen = pid + " " + file + ": " + string(raw)
					}
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	a.start().running()
	a.promote(engine.Quorum{})
	b.start().running().follows(a)
	close(stop)
	<-over
	if seen != "" {
		t.Errorf("a password is in a process's arguments or environment: %q", seen)
	}
	for _, m := range []*member{a, b} {
		if err := filepath.Walk(m.disk.dir, func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() {
				return nil //nolint:nilerr // files come and go
			}
			if raw, _ := os.ReadFile(path); strings.Contains(string(raw), "pass:word") || strings.Contains(string(raw), ownerPassword) {
				t.Errorf("a password is in %s", path)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if strings.Contains(m.said(), "pass:word") || strings.Contains(m.said(), "SCRAM-SHA-256$") {
			t.Error("a password or its verifier is in the log")
		}
	}
	if info, err := os.Stat(a.run(passFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func everybody() []string {
	entries, _ := os.ReadDir("/proc")
	var pids []string
	for _, e := range entries {
		if c := e.Name()[0]; c >= '0' && c <= '9' {
			pids = append(pids, e.Name())
		}
	}
	return pids
}
