package postgresql

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"understudy.dev/understudy/internal/engine"
)

// keepLostDefault bounds what is kept of WAL that nobody else has.
const keepLostDefault = 64 << 20

// Lost is WAL that this member had and the primary it rejoined has not: what it had written, or received, after the two parted.
type Lost struct {
	System   string `json:"system"`
	Timeline uint32 `json:"timeline"`
	From     string `json:"from"`
	To       string `json:"to"`
	Bytes    int64  `json:"bytes"`
	// Dir holds the segments with it, KeptBytes of them in whole segments; what did not fit the bound is missing at the end.
	Dir       string   `json:"dir,omitempty"`
	Segments  []string `json:"segments,omitempty"`
	KeptBytes int64    `json:"keptBytes,omitempty"`
	Complete  bool     `json:"complete,omitempty"`
	// Epoch whose data it was, and whether this member wrote it as that epoch's primary.
	Epoch    int64 `json:"epoch,omitempty"`
	Primary  bool  `json:"primary,omitempty"`
	from, to lsn
}

func lostBetween(own place, fork lsn) *Lost {
	return &Lost{System: own.System, Timeline: own.Timeline, From: fork.String(), To: own.LSN.String(), Bytes: int64(own.LSN - fork)} //nolint:gosec // a position stays far below 2^63
}

// Lost tells what the last rejoin cost, or nil.
func (p *PostgreSQL) Lost() (*Lost, error) {
	var l Lost
	found, err := loadJSON(p.disk.note(lostFile), &l)
	if err != nil || !found {
		return nil, err
	}
	return &l, nil
}

// Kept implements engine.Keeper.
func (p *PostgreSQL) Kept() (*engine.Kept, error) {
	l, err := p.Lost()
	if err != nil || l == nil {
		return nil, err
	}
	k := &engine.Kept{Had: engine.Had{Epoch: l.Epoch, Primary: l.Primary}, Bytes: l.Bytes, Dir: l.Dir, FileBytes: l.KeptBytes, Complete: l.Complete}
	if n := len(l.Segments); n > 0 {
		k.First, k.Last = l.Segments[0], l.Segments[n-1]
	}
	return k, nil
}

// keepLost copies the segments with l aside, once. It copies, since a rewind writes into the very files.
func (p *PostgreSQL) keepLost(l *Lost) error {
	if l == nil || l.Bytes <= 0 {
		return nil
	}
	if have, err := p.Lost(); err != nil || (have != nil && have.System == l.System && have.Timeline == l.Timeline && have.To == l.To) {
		return err
	}
	var err error
	if l.from, err = parseLSN(l.From); err != nil {
		return err
	}
	if l.to, err = parseLSN(l.To); err != nil {
		return err
	}
	l.Dir = filepath.Join(p.disk.path(lostDir), fmt.Sprintf("%08X-%016X", l.Timeline, uint64(l.from)))
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return fmt.Errorf("keeping WAL aside: %w", err)
	}
	if err := p.copySegments(l); err != nil {
		return fmt.Errorf("keeping WAL aside in %s: %w", l.Dir, err)
	}
	return saveJSON(p.disk.note(lostFile), l)
}

// copySegments copies whole segments, in order, as long as they fit the bound.
func (p *PostgreSQL) copySegments(l *Lost) error {
	bound := p.config.KeepLostBytes
	if bound == 0 {
		bound = keepLostDefault
	}
	wal := filepath.Join(p.data(), "pg_wal")
	names, size, err := segments(wal)
	if err != nil || size == 0 {
		return err
	}
	first, last := segmentNumber(l.from, size), segmentNumber(l.to-1, size)
	l.Segments, l.KeptBytes = nil, 0
	for _, name := range names {
		if number := name[8:]; number < first || number > last || l.KeptBytes+int64(size) > bound { //nolint:gosec // at most 1 GiB
			continue
		}
		if err := copyFile(filepath.Join(wal, name), filepath.Join(l.Dir, name)); err != nil {
			return err
		}
		l.Segments, l.KeptBytes = append(l.Segments, name), l.KeptBytes+int64(size) //nolint:gosec // at most 1 GiB
	}
	n := len(l.Segments)
	l.Complete = n > 0 && l.Segments[0][8:] == first && l.Segments[n-1][8:] == last
	return syncDir(l.Dir)
}

// segments are the names of WAL segments in a folder, oldest first, and their size.
func segments(wal string) (names []string, size uint64, err error) {
	entries, err := os.ReadDir(wal)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		if len(e.Name()) == 24 {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return nil, 0, nil
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(a[8:]+a[:8], b[8:]+b[:8]) })
	info, err := os.Stat(filepath.Join(wal, names[0]))
	if err != nil {
		return nil, 0, err
	}
	return names, uint64(info.Size()), nil //nolint:gosec // a size
}

// segmentNumber is the last 16 digits of a segment's name.
func segmentNumber(at lsn, size uint64) string {
	n, perFile := uint64(at)/size, (uint64(1)<<32)/size
	return fmt.Sprintf("%08X%08X", n/perFile, n%perFile)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}
