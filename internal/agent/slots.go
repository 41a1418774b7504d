package agent

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"
)

// slotFile keeps one small value durably in two slots that are overwritten in turn. Overwriting allocated blocks and
// syncing them costs the disk one write; a temporary file with a rename costs the file system's journal two commits
// (0.1 ms against 0.8 ms in the median, 0.1 ms against 4 ms at p90, measured on ext4; docs/design/2026-11-23-promise-slots.md).
type slotFile struct{ path string }

const (
	slotSize   = 4096
	slotHeader = 16 // length, CRC-32 of the rest, sequence number
)

var errDamaged = errors.New("a slot is damaged")

// load reads the newest value. A slot that is neither empty nor whole makes the file damaged: it may have been newer.
func (s slotFile) load(v any) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, body, err := newest(f)
	if err != nil {
		return err
	}
	if body == nil {
		return errDamaged
	}
	return json.Unmarshal(body, v)
}

func newest(f io.ReaderAt) (seq uint64, body []byte, err error) {
	for i := range int64(2) {
		slot := make([]byte, slotSize)
		if _, err := f.ReadAt(slot, i*slotSize); err != nil {
			return 0, nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
		n := binary.BigEndian.Uint32(slot)
		if n == 0 {
			continue
		}
		if n > slotSize-slotHeader || binary.BigEndian.Uint32(slot[4:]) != crc32.ChecksumIEEE(slot[8:slotHeader+n]) {
			return 0, nil, errDamaged
		}
		if this := binary.BigEndian.Uint64(slot[8:]); body == nil || this > seq {
			seq, body = this, slot[slotHeader:slotHeader+n]
		}
	}
	return seq, body, nil
}

// save returns when the value is on disk.
func (s slotFile) save(v any) error {
	body, err := json.Marshal(v)
	if err == nil && len(body) > slotSize-slotHeader {
		err = fmt.Errorf("%d bytes do not fit a slot", len(body))
	}
	if err == nil {
		err = s.write(body)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", s.path, err)
	}
	return nil
}

func (s slotFile) write(body []byte) error {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		f, err = s.create()
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	seq, _, err := newest(f)
	if errors.Is(err, errDamaged) {
		if err := s.clear(f); err != nil { // what it held was taken as forgotten already
			return err
		}
	} else if err != nil {
		return err
	}
	seq++
	slot := make([]byte, slotHeader+len(body))
	binary.BigEndian.PutUint32(slot, uint32(len(body)))
	binary.BigEndian.PutUint64(slot[8:], seq)
	copy(slot[slotHeader:], body)
	binary.BigEndian.PutUint32(slot[4:], crc32.ChecksumIEEE(slot[8:]))
	if _, err := f.WriteAt(slot, int64(seq%2)*slotSize); err != nil {
		return err
	}
	return f.Sync()
}

// create makes the file with both slots allocated, and its name durable.
func (s slotFile) create() (*os.File, error) {
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = s.clear(f)
	if err == nil {
		err = syncDir(filepath.Dir(s.path))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func (s slotFile) clear(f *os.File) error {
	if _, err := f.WriteAt(make([]byte, 2*slotSize), 0); err != nil {
		return err
	}
	return f.Sync()
}

// NextBoot counts the boots of this pod. A count that cannot be read goes on at the wall clock's seconds, above any count.
func NextBoot(dir string, now time.Time) (int64, error) {
	file := slotFile{filepath.Join(dir, "boots")}
	var n int64
	if err := file.load(&n); err != nil && !errors.Is(err, os.ErrNotExist) {
		n = max(n, now.Unix())
	}
	n++
	if err := file.save(n); err != nil {
		return 0, fmt.Errorf("counting the boots of this pod: %w", err)
	}
	return n, nil
}
