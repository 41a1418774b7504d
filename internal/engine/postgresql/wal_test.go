package postgresql

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

// ownWAL gives a member a WAL volume.
func ownWAL(t *testing.T) option {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "us-wal")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil { // as a new volume has
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return func(c *agentconfig.PostgreSQL) { c.WALDir = dir }
}

// wantOneWAL waits until a member's WAL volume holds its data's WAL and nothing else of ours.
func (m *member) wantOneWAL() {
	m.t.Helper()
	var found []string
	until(m.t, "the WAL volume of "+m.name+" holds one cluster's WAL", func() bool {
		_, _ = m.report()
		found, _ = filepath.Glob(filepath.Join(m.disk.wal, walPrefix+"*"))
		return len(found) == 1 && found[0] == m.disk.walOf(dataDir) && exists(filepath.Join(found[0], "archive_status"))
	})
	if !exists(filepath.Join(m.disk.wal, "lost+found")) {
		m.t.Error("something that is not ours was removed")
	}
}

// A cluster is made, copied, rewound and copied over with its WAL on a volume of its own, and killed at the tender moments.
func TestWALOnItsOwnVolume(t *testing.T) {
	t.Parallel()
	a, b := fromNothing(t, 0, ownWAL(t)).start(), fromNothing(t, 1, ownWAL(t)).start()
	killDuring(t, a, runInit, func() bool { return exists(a.disk.path(initDir) + "/PG_VERSION") })
	a.start().running()
	a.promote(engine.Quorum{})
	a.sql("CREATE TABLE t AS SELECT generate_series(1, 300000) AS n")
	a.wantOneWAL()

	b.running()
	if err := b.follow(within(t), a.address); err != nil {
		t.Fatal(err)
	}
	killDuring(t, b, runCopy, func() bool { return exists(b.disk.path(copyDir) + "/base") })
	b.start().follows(a)
	r, _ := a.report()
	b.reaches(r.Offset)
	b.wantOneWAL()

	if _, err := b.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	a.sql("INSERT INTO t VALUES (0)") // lost
	b.promote(engine.Quorum{})
	a.crash()
	until(t, "a is a standby again", func() bool { r, ok := a.report(); return ok && !r.Primary })
	a.follows(b)
	ran := stepNames(a.ran())
	if got := fmt.Sprint(ran[len(ran)-2:]); got != "[Rewind Server]" {
		t.Errorf("it rejoined by %v", ran)
	}
	if l, err := a.Lost(); err != nil || l == nil || len(l.Segments) == 0 {
		t.Errorf("what was lost: %+v, %v", l, err)
	}
	a.wantOneWAL()
	if got := a.admin("SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Errorf("in recovery: %s", got)
	}
}

func TestLostWALVolume(t *testing.T) {
	t.Parallel()
	m := fromNothing(t, 0, ownWAL(t)).start().running()
	m.kill()
	if err := os.RemoveAll(m.disk.walOf(dataDir)); err != nil {
		t.Fatal(err)
	}
	m.start()
	until(t, "it says that the WAL is gone", func() bool {
		err := m.failure()
		return err != nil && strings.Contains(err.Error(), "the WAL volume is not the one that belongs to this data")
	})
	if !m.disk.cluster(dataDir) {
		t.Error("the data is gone too")
	}
}

// putCluster puts what stands for a cluster into a folder, with its WAL in a folder of its own.
func putCluster(t *testing.T, d disk, name string) {
	t.Helper()
	args, err := d.newWAL()
	if err != nil {
		t.Fatal(err)
	}
	to := strings.TrimPrefix(args[0], "--waldir=")
	if err := os.MkdirAll(d.path(name), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(to, "segment"), filepath.Join(d.path(name), "PG_VERSION")} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(to, filepath.Join(d.path(name), "pg_wal")); err != nil {
		t.Fatal(err)
	}
}

// From every state of the folders, the changes of files are made for real and the sweep of a new start comes after each: a cluster
// that is still there has its WAL, and in the end there is no WAL without its cluster.
func TestNoStepParsClusterAndWAL(t *testing.T) {
	t.Parallel()
	n := 0
	for bits := range 1 << 4 {
		for _, w := range []wish{{}, {Kind: wishCopy, Armed: true}, {Kind: wishRewind, Armed: true}} {
			for _, end := range []outcome{unknown, succeed, failed} {
				walkFolders(t, bits, w, end)
				n++
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d walks", n)
	}
}

func walkFolders(t *testing.T, bits int, w wish, end outcome) {
	t.Helper()
	p := New(agentconfig.PostgreSQL{WALDir: t.TempDir()}, t.TempDir(), t.TempDir(), Secrets{})
	d := p.disk
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	for i, name := range clusters {
		if bits&(1<<i) != 0 {
			putCluster(t, d, name)
		}
	}
	if err := saveJSON(d.note(wishFile), w); err != nil {
		t.Fatal(err)
	}
	record := func(kind string, end outcome) {
		if end == unknown {
			return
		}
		if err := os.WriteFile(d.note(kind+".exit"), map[outcome][]byte{succeed: []byte("0"), failed: []byte("1")}[end], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	record("copy", end)
	for range 20 {
		s, w, err := d.state()
		if err != nil {
			t.Fatalf("from %04b %+v %s: %v", bits, w, end, err)
		}
		s.CheckDone = succeed
		st := next(s)
		if change := p.change(st, w); change != nil {
			if err := change(); err != nil {
				t.Fatal(err)
			}
		} else if !process(t, p, st, w, record) {
			break
		}
		d.sweepWAL()
		wantWAL(t, d, fmt.Sprintf("from %04b %+v %s, after %s", bits, w, end, st))
	}
	if err := d.discard(oldDir); err != nil { // as when the data streams
		t.Fatal(err)
	}
	until(t, "no WAL is left without its cluster", func() bool {
		d.sweepWAL()
		found, _ := filepath.Glob(filepath.Join(d.wal, walPrefix+"*"))
		there := 0
		for _, name := range clusters {
			if d.walOf(name) != "" {
				there++
			}
		}
		return len(found) == there
	})
}

// process stands for a process that ends well, and reports whether there is anything to come after it.
func process(t *testing.T, p *PostgreSQL, st step, w wish, record func(string, outcome)) bool {
	t.Helper()
	d := p.disk
	switch st {
	case runInit:
		if _, err := p.startInit("/bin"); err != nil {
			t.Fatal(err)
		}
		putCluster(t, d, initDir)
		record("init", succeed)
	case runBootstrap:
		record("bootstrap", succeed)
	case runCopy:
		if _, err := p.startCopy("/bin", w); err != nil {
			t.Fatal(err)
		}
		putCluster(t, d, copyDir)
		record("copy", succeed)
	case runRewind:
		record("rewind", succeed)
	default:
		return false
	}
	return true
}

func wantWAL(t *testing.T, d disk, when string) {
	t.Helper()
	for _, name := range clusters {
		if wal := d.walOf(name); d.cluster(name) && !exists(filepath.Join(wal, "segment")) {
			t.Fatalf("%s: %s has lost its WAL %q", when, name, wal)
		}
	}
}
