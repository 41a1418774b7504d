package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"understudy.dev/understudy/internal/failover"
)

// promiseFile keeps what must be durable before it is said (rule PromiseDurable).
type promiseFile struct{ path string }

// load reads the promise. A file that is missing, damaged or of another pod means that this member may have promised
// something it does not remember; why says which. That it forgot is made durable at once by the caller.
func (p promiseFile) load(podUID string) (d failover.Durable, why string) {
	forgot := failover.Durable{PodUID: podUID, Forgotten: true}
	switch err := slotFile(p).load(&d); {
	case errors.Is(err, fs.ErrNotExist):
		return forgot, "there is no promise file"
	case err != nil || d.Promise < 0:
		return forgot, fmt.Sprintf("the promise file is damaged: %v", err)
	case d.PodUID != podUID:
		return forgot, "the promise file is another pod's"
	}
	return d, ""
}

// save returns when the promise is on disk.
func (p promiseFile) save(d failover.Durable) error { return slotFile(p).save(d) }

// writeDurably replaces a file by way of a temporary one, so that a crash leaves the old or the new content.
func writeDurably(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// dataRecord is kept beside the data it speaks of: what epoch's primary the data was last synchronised with, and an
// offset that was reached for certain.
type dataRecord struct {
	DataEpoch failover.Epoch `json:"dataEpoch"`
	Offset    int64          `json:"offset"`
	DataID    string         `json:"dataID"`
}

func loadDataRecord(path string) (dataRecord, error) {
	var d dataRecord
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	if err != nil {
		return dataRecord{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return d, nil
}
