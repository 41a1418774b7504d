// Package record remembers which cluster runs on this machine, so that down finds all of it, also when the folder it
// was started from is gone.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/hack/cluster/identity"
	"understudy.dev/understudy/hack/cluster/layout"
)

// Record is one running cluster.
type Record struct {
	Folder      layout.Folder               `json:"folder"`
	Fingerprint string                      `json:"fingerprint"`
	Machines    map[string]identity.Process `json:"machines"`
	// Off lists nodes that a person switched off: they are not broken.
	Off map[string]bool `json:"off,omitempty"`
	// Isolated lists nodes whose cable a person unplugged.
	Isolated map[string]bool `json:"isolated,omitempty"`
	// Folders were made on the host as mount points.
	Folders []string `json:"folders,omitempty"`
	// Settings are the kernel's, as they were before up and the kubelets changed them.
	Settings map[string]string `json:"settings,omitempty"`
}

// Store keeps records in one folder per machine: the names of network namespaces and links belong to the machine, so
// it holds one cluster at a time.
type Store struct{ Root string }

// Machine is the store of this machine.
var Machine = Store{Root: "/run/understudy-cluster"}

func (s Store) path() string { return filepath.Join(s.Root, "state.json") }

// Load reads the record. Without one it returns fs.ErrNotExist.
func (s Store) Load() (*Record, error) { return read(s.path()) }

// LoadFolder reads the copy in a state folder, which survives where /run does not.
func LoadFolder(folder layout.Folder) (*Record, error) { return read(folder.Record()) }

func read(path string) (*Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's state: %w", err)
	}
	var found Record
	if err := json.Unmarshal(data, &found); err != nil {
		return nil, fmt.Errorf("parsing the cluster's state %s: %w: remove the file and run down again", path, err)
	}
	// An empty map is not written, and nobody should have to ask whether one is there.
	for _, set := range []*map[string]bool{&found.Off, &found.Isolated} {
		if *set == nil {
			*set = map[string]bool{}
		}
	}
	if found.Machines == nil {
		found.Machines = map[string]identity.Process{}
	}
	if found.Settings == nil {
		found.Settings = map[string]string{}
	}
	return &found, nil
}

// Save writes the record for the machine and its copy into the state folder.
func (s Store) Save(r *Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the cluster's state: %w", err)
	}
	for _, path := range []string{s.path(), r.Folder.Record()} {
		if err := writeWhole(path, data); err != nil {
			return err
		}
	}
	return nil
}

// writeWhole never leaves half a file: a crash in the middle would lose the pids.
func writeWhole(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the folder of %s: %w", path, err)
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// Remove forgets the cluster.
func (s Store) Remove() error {
	if err := os.Remove(s.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the cluster: %w", err)
	}
	return nil
}

// Lock keeps two commands from changing the cluster at once. It is released when the process ends.
func (s Store) Lock() (func(), error) {
	if err := os.MkdirAll(s.Root, 0o755); err != nil {
		return nil, fmt.Errorf("making %s: %w: run as root", s.Root, err)
	}
	file, err := os.OpenFile(filepath.Join(s.Root, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("waiting for another command to end: %w", err)
	}
	return func() { _ = file.Close() }, nil
}
