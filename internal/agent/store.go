package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// files is the Store of a pod: the state folder dies with the pod, the data folder is the engine's.
type files struct{ state, data string }

func (f files) LoadPromise(podUID string) (failover.Durable, string) {
	return f.promise().load(podUID)
}
func (f files) SavePromise(d failover.Durable) error { return f.promise().save(d) }
func (f files) promise() promiseFile                 { return promiseFile{filepath.Join(f.state, "promise")} }

func (f files) LoadData() (DataRecord, error)          { return loadData(f.record()) }
func (f files) SaveData(d DataRecord) error            { return writeDurably(f.record(), d) }
func (f files) record() string                         { return filepath.Join(f.data, ".understudy.json") }
func (f files) history() string                        { return filepath.Join(f.state, "takeovers.json") }
func (f files) SaveHistory(list []wire.Takeover) error { return writeDurably(f.history(), list) }

// LoadHistory reads what earlier runs of this pod won; it is only a record, so a damaged one is dropped.
func (f files) LoadHistory() []wire.Takeover {
	var list []wire.Takeover
	raw, err := os.ReadFile(f.history())
	if err != nil || json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return list
}

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

// DataRecord is kept beside the data it speaks of: what epoch's primary the data was last synchronised with, and an
// offset that was reached for certain.
type DataRecord struct {
	DataEpoch failover.Epoch `json:"dataEpoch"`
	Offset    int64          `json:"offset"`
	DataID    string         `json:"dataID"`
	Whole     bool           `json:"whole,omitempty"` // it was that epoch's primary itself
	// Lost says of the last such epoch that nothing of it was lost.
	Lost *wire.Lost `json:"lost,omitempty"`
}

func loadData(path string) (DataRecord, error) {
	var d DataRecord
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	if err != nil {
		return DataRecord{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return d, nil
}
