package postgresql

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Names below the data volume. The cluster is in a folder of its own, so that another can take its place by a rename.
const (
	dataDir      = "data"
	initDir      = "data.init"   // a cluster being made
	importDir    = "data.import" // one that was brought along, being prepared
	copyDir      = "data.copy"   // one being copied from the primary
	oldDir       = "data.old"    // what a copy took the place of, until the copy is proven
	trashDir     = "data.trash"  // being removed
	lostDir      = "lost"        // WAL that nobody else has
	stateDir     = "understudy"  // our notes:
	emptyFile    = "empty"       // the data was never part of the service
	importedFile = "imported"    // it was brought along, and nobody has a copy of it
	tornFile     = "torn"        // a rewind of the data began
	wishFile     = "wish.json"
	catchFile    = "catch-up.json" // the data was rewound, and needs this primary's WAL before it can be read
	lostFile     = "lost.json"
)

// clusters are the folders that may hold one.
var clusters = []string{dataDir, initDir, importDir, copyDir, oldDir}

// disk is the data volume, and the WAL volume where there is one.
type disk struct {
	dir, wal string
	// brought is where data was brought along to; "": nowhere.
	brought string
	// absent are the notes that are known not to come back after a power cut; nil: nothing is known.
	absent *sync.Map
}

func (d disk) path(name string) string  { return filepath.Join(d.dir, name) }
func (d disk) note(name string) string  { return filepath.Join(d.dir, stateDir, name) }
func (d disk) cluster(name string) bool { return exists(filepath.Join(d.dir, name, "PG_VERSION")) }

// drop removes notes durably. Of one that was removed so before and is not there the disk is not asked again: it takes its time
// when others write, and drop is in the way of each failover.
func (d disk) drop(names ...string) error {
	var paths []string
	for _, name := range names {
		path := d.note(name)
		if d.absent != nil {
			if _, known := d.absent.Load(path); known && !exists(path) {
				continue
			}
			d.absent.Delete(path)
		}
		paths = append(paths, path)
	}
	if err := removeDurably(paths...); err != nil {
		return err
	}
	for _, path := range paths {
		if d.absent != nil {
			d.absent.Store(path, true)
		}
	}
	return nil
}

// hasData reports whether the volume holds data that is, or may be, the service's own. While a new cluster is being made there is
// none. A step may rename between the looks, so the first is repeated; who makes a cluster marks it before it becomes the data.
func (d disk) hasData() bool {
	data, old := d.path(dataDir), d.path(oldDir)
	return (exists(data) || exists(old) || exists(data)) && !exists(d.note(emptyFile))
}

// prepare makes the folder of our notes, and finishes removing what was being removed.
func (d disk) prepare() error {
	if err := os.MkdirAll(d.note(""), 0o700); err != nil {
		return fmt.Errorf("preparing the data volume %s: %w: the engine's user must own it (fsGroup)", d.dir, err)
	}
	d.emptyTrash()
	d.sweepWAL()
	return d.private()
}

// private takes back from the group what a kubelet gave it (fsGroup): PostgreSQL refuses data that others than its user may write.
func (d disk) private() error {
	for _, name := range clusters {
		if err := os.Chmod(d.path(name), 0o700); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("preparing %s: %w: the engine's user must own it", d.path(name), err)
		}
	}
	return nil
}

// discard removes a folder for good, with its WAL: out of the way at once, its content beside everything else.
func (d disk) discard(name string) error {
	if !exists(d.path(name)) {
		return nil
	}
	wal := d.walOf(name)
	trash, err := os.MkdirTemp(d.dir, trashDir)
	if err != nil {
		return fmt.Errorf("removing %s: %w", d.path(name), err)
	}
	if err := renameDurably(d.path(name), filepath.Join(trash, name)); err != nil {
		return err
	}
	go func() {
		if wal != "" {
			_ = os.RemoveAll(wal)
		}
		_ = os.RemoveAll(trash)
	}()
	return nil
}

// emptyTrash removes what an earlier life left half removed.
func (d disk) emptyTrash() {
	left, _ := filepath.Glob(d.path(trashDir + "*"))
	for _, path := range left {
		go func() { _ = os.RemoveAll(path) }()
	}
}

// done tells how the last process of a kind ended.
func (d disk) done(kind string) outcome {
	raw, err := os.ReadFile(d.note(kind + ".exit"))
	switch {
	case err != nil:
		return unknown
	case strings.TrimSpace(string(raw)) == "0":
		return succeed
	default:
		return failed
	}
}

// forget removes what a process of a kind left of its end.
func (d disk) forget(kinds ...string) error {
	var paths []string
	for _, k := range kinds {
		paths = append(paths, d.note(k+".exit"), d.note(k+".log"))
	}
	return removeDurably(paths...)
}

// noSpace is what programs say when a volume is full.
const noSpace = "No space left on device"

// complaint is the last thing a process of a kind said, for a person. That the volume is full comes first, unless it is the
// primary's: its server's errors say that they are.
func (d disk) complaint(kind string) string {
	said := saidBy(d.note(kind))
	for _, line := range strings.Split(saidAll(d.note(kind)), "\n") {
		if !strings.Contains(line, noSpace) || strings.Contains(line, "ERROR: ") {
			continue
		}
		if kind == "copy" {
			return "the volume has no room for a copy beside the data that it is to replace: " + said
		}
		return "the volume is full: " + said
	}
	return said
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines = lines[max(0, len(lines)-4):]
	text = strings.Join(lines, "; ")
	if len(text) > 600 {
		text = text[len(text)-600:]
	}
	if text == "" {
		return "it said nothing"
	}
	return text
}

// state reads all that the next step depends on, but for the configuration's check.
func (d disk) state() (diskState, wish, error) {
	var w wish
	if _, err := loadJSON(d.note(wishFile), &w); err != nil {
		return diskState{}, w, err
	}
	var catch catchUp
	if _, err := loadJSON(d.note(catchFile), &catch); err != nil {
		return diskState{}, w, err
	}
	s := diskState{
		Hopeless: catch.Starts >= maxStarts,
		Data:     d.cluster(dataDir), Init: exists(d.path(initDir)), Import: d.cluster(importDir), Copy: d.cluster(copyDir), Old: d.cluster(oldDir),
		Torn:     exists(d.note(tornFile)),
		InitDone: d.done("init"), BootstrapDone: d.done("bootstrap"), ImportDone: d.done("import"), CopyDone: d.done("copy"), RewindDone: d.done("rewind"),
		Wish: w.Kind, Armed: w.Armed, Attempts: w.Attempts,
	}
	if !s.Data && exists(d.path(dataDir)) {
		return s, w, d.foreign()
	}
	if s.Data && d.wal != "" {
		return s, w, d.checkWAL()
	}
	return s, w, nil
}

// foreign says why a data folder without a cluster is not touched; an empty one is.
func (d disk) foreign() error {
	if err := os.Remove(d.path(dataDir)); err == nil || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("looking for the cluster in %s: the folder is not empty and has no PG_VERSION, so it is no cluster of "+
		"PostgreSQL: move what is in it elsewhere; it is never removed", d.path(dataDir))
}
