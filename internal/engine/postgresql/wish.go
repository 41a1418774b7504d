package postgresql

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

type wishKind string

const (
	wishNone   wishKind = ""
	wishCopy   wishKind = "Copy"
	wishRewind wishKind = "Rewind"
)

// wish is what the data is to become before the server runs again. It is on disk, since the process that asked for it may
// be gone when it is carried out.
type wish struct {
	Kind     wishKind `json:"kind"`
	Address  string   `json:"address"`
	System   string   `json:"system"` // the identifier of the primary's cluster
	Armed    bool     `json:"armed"`
	Attempts int      `json:"attempts"`
	// Reason of the last failure.
	Reason string `json:"reason,omitempty"`
	// Lost is what the data has and the primary has not.
	Lost *Lost `json:"lost,omitempty"`
}

// stale reports whether w is of another primary than the one of (address, system), so that its attempts say nothing.
func (w wish) stale(address, system string) bool { return w.Address != address || w.System != system }

// RejoinError says that this member cannot follow the primary by itself.
type RejoinError struct {
	Address  string
	Attempts int
	Reason   string
}

func (e *RejoinError) Error() string {
	return fmt.Sprintf("rejoining the primary at %s: tried %d times, the last time: %s: remove the cause, then remove %s from the "+
		"member's data volume so that it tries again", e.Address, e.Attempts, e.Reason, stateDir+"/"+wishFile)
}

// loadJSON reads a small file; a missing one leaves v as it is and reports false.
func loadJSON(path string, v any) (bool, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", path, err)
	}
	return true, nil
}

func saveJSON(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return writeDurably(path, raw)
}
