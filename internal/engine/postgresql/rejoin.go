package postgresql

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"understudy.dev/understudy/internal/engine"
)

// rejoining is added to the name under which a rewound server gets what it lacks to be readable: nothing that it
// acknowledges under this name counts for anybody.
const rejoining = ".rejoin"

// catchUp is the primary whose WAL a rewound server needs before it can be read.
type catchUp struct {
	Address string `json:"address"`
	System  string `json:"system"`
	Starts  int    `json:"starts"` // of servers on the rewound data
}

// startCopy copies the primary into a fresh folder.
func (p *PostgreSQL) startCopy(bin string, w wish) (engine.Process, error) {
	if err := p.attempt(&w, "copy"); err != nil {
		return engine.Process{}, err
	}
	if err := p.disk.discard(copyDir); err != nil {
		return engine.Process{}, err
	}
	wal, err := p.disk.newWAL()
	if err != nil {
		return engine.Process{}, err
	}
	return p.recorded(p.disk.note("copy"), append([]string{
		filepath.Join(bin, "pg_basebackup"), "--pgdata=" + p.disk.path(copyDir), "--dbname=" + p.conninfo(w.Address, p.config.ApplicationName+rejoining),
		"--wal-method=stream", "--checkpoint=fast", "--slot=" + slotName(p.config.Member), "--no-manifest", "--no-password",
	}, wal...)), nil
}

// startRewind takes the data back to where it parted from the primary's. From here on it is no cluster until that ended well.
func (p *PostgreSQL) startRewind(bin string, w wish) (engine.Process, error) {
	if err := p.clearStale(); err != nil {
		return engine.Process{}, err
	}
	if err := p.attempt(&w, "rewind"); err != nil {
		return engine.Process{}, err
	}
	// pg_rewind lets a server that was killed recover first, alone, which one that is to be a standby refuses.
	if err := removeDurably(filepath.Join(p.data(), "standby.signal")); err != nil {
		return engine.Process{}, err
	}
	if err := writeDurably(p.disk.note(tornFile), nil); err != nil {
		return engine.Process{}, err
	}
	return p.recordedNamed(p.disk.note("rewind"), []string{
		// With our configuration: the recovery that pg_rewind may begin with ends with a checkpoint, and without wal_keep_size that
		// lets go of WAL which the rewind itself reads.
		filepath.Join(bin, "pg_rewind"), "--target-pgdata=" + p.data(), "--config-file=" + p.run("postgresql.conf"),
		"--source-server=" + p.conninfo(w.Address, p.config.ApplicationName+rejoining) + " dbname=" + superuser,
	})
}

// attempt counts one, durably, before it begins; and keeps aside what it is going to destroy.
func (p *PostgreSQL) attempt(w *wish, kind string) error {
	if err := p.keepLost(w.Lost); err != nil {
		return err
	}
	if w.Attempts > 0 {
		w.Reason = p.lastReason(*w) // what the next one says takes its place
	}
	w.Attempts++
	if kind == "rewind" {
		w.Rewinds++
	} else {
		w.Copies++
	}
	if err := saveJSON(p.disk.note(wishFile), w); err != nil {
		return err
	}
	return p.disk.forget(kind)
}

// rewindBegan reports whether pg_rewind came to the point after which it changes the data.
func rewindBegan(log string) bool {
	return strings.Contains(log, "rewinding from last common checkpoint")
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// wished is the wish on disk.
func (p *PostgreSQL) wished() (wish, error) {
	var w wish
	_, err := loadJSON(p.disk.note(wishFile), &w)
	return w, err
}
