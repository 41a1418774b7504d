package main

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/agent"
	"understudy.dev/understudy/internal/agentconfig"
)

func TestRooms(t *testing.T) {
	for name, c := range map[string]struct {
		config agentconfig.Config
		want   int
	}{
		"no volume":            {agentconfig.Config{Redis: &agentconfig.Redis{}}, 0},
		"Redis":                {agentconfig.Config{Redis: &agentconfig.Redis{Persistent: true}}, 1},
		"PostgreSQL":           {agentconfig.Config{PostgreSQL: &agentconfig.PostgreSQL{Persistent: true}}, 1},
		"with WAL of its own":  {agentconfig.Config{PostgreSQL: &agentconfig.PostgreSQL{Persistent: true, WALDir: "/wal"}}, 2},
		"and without a volume": {agentconfig.Config{PostgreSQL: &agentconfig.PostgreSQL{WALDir: "/wal"}}, 0},
	} {
		rooms := roomsOf(c.config)
		if (rooms == nil) != (c.want == 0) || rooms != nil && len(rooms()) != c.want {
			t.Errorf("%s: not %d volumes are asked", name, c.want)
		}
	}
	dir := t.TempDir()
	if r := roomOf("data", dir); r.Volume != "data" || r.Size <= 0 || r.Free < 0 || r.Free > r.Size {
		t.Errorf("%+v", r)
	}
	for range 2 { // with the file that is opened, and without
		if got := writes(probe(dir)); got != agent.WritesTaken {
			t.Errorf("of a folder that takes files: %v", got)
		}
	}
	if r := roomOf("data", filepath.Join(dir, "absent")); r.Volume != "data" || r.Size != 0 {
		t.Errorf("of a folder that is not there %+v", r)
	}
	if got := writes(probe(filepath.Join(dir, "absent"))); got != agent.WritesUnknown {
		t.Errorf("of a folder that is not there: %v", got)
	}
}

// Only what a file system says of itself counts as a refusal.
func TestWrites(t *testing.T) {
	for err, want := range map[error]agent.Writes{
		nil: agent.WritesTaken, unix.EROFS: agent.WritesRefused, unix.EIO: agent.WritesRefused, unix.ENOSPC: agent.WritesUnknown, unix.EACCES: agent.WritesUnknown,
		unix.EDQUOT: agent.WritesUnknown,
	} {
		if got := writes(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
