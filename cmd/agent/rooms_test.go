package main

import (
	"path/filepath"
	"testing"

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
		if readOnly(dir) {
			t.Error("a folder that takes files is read-only")
		}
	}
	if r := roomOf("data", filepath.Join(dir, "absent")); r.Volume != "data" || r.Size != 0 {
		t.Errorf("of a folder that is not there %+v", r)
	}
	if readOnly(filepath.Join(dir, "absent")) {
		t.Error("a folder that is not there is read-only")
	}
}
