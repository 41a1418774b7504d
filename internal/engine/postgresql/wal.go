package postgresql

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// walPrefix begins the name of each folder on a WAL volume. Every cluster has one of its own, which nothing but the link in its
// pg_wal names: when the cluster's folder is renamed its WAL goes with it, and there is no second rename to be interrupted.
const walPrefix = "wal."

// newWAL makes the folder of a cluster that is about to be made, and the argument that tells its maker; none without a WAL volume.
func (d disk) newWAL() ([]string, error) {
	if d.wal == "" {
		return nil, nil
	}
	dir, err := os.MkdirTemp(d.wal, walPrefix)
	if err != nil {
		return nil, fmt.Errorf("making a folder on the WAL volume %s: %w: the engine's user must own it (fsGroup)", d.wal, err)
	}
	return []string{"--waldir=" + dir}, syncDir(d.wal)
}

// walOf is the folder on the WAL volume that a cluster's link leads to, or "".
func (d disk) walOf(name string) string {
	to, err := os.Readlink(filepath.Join(d.path(name), "pg_wal"))
	if err != nil || d.wal == "" || filepath.Dir(to) != filepath.Clean(d.wal) || !strings.HasPrefix(filepath.Base(to), walPrefix) {
		return ""
	}
	return to
}

// sweepWAL removes the folders that belong to no cluster: what was left when a cluster was being made, or removed. No process
// may be at making one meanwhile.
func (d disk) sweepWAL() {
	if d.wal == "" {
		return
	}
	if !d.cluster(dataDir) && !d.cluster(oldDir) {
		return // what is there may be of data that was brought along and not looked at yet
	}
	used := map[string]bool{}
	for _, name := range append(slices.Clone(clusters), d.brought) {
		used[d.walOf(name)] = true
	}
	found, _ := filepath.Glob(filepath.Join(d.wal, walPrefix+"*"))
	for _, dir := range found {
		if !used[dir] {
			go func() { _ = os.RemoveAll(dir) }()
		}
	}
}

// checkWAL refuses data whose WAL is not there: it is no cluster without, and what it had acknowledged may be gone.
func (d disk) checkWAL() error {
	link := filepath.Join(d.path(dataDir), "pg_wal")
	if _, err := os.Stat(link); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	to, _ := os.Readlink(link)
	return fmt.Errorf("looking for the WAL of the cluster in %s: %q is not there, so the WAL volume is not the one that belongs to this data: bring it "+
		"back; if it is lost, delete both volumes of this member and then its pod, and it copies the primary", d.path(dataDir), to)
}
