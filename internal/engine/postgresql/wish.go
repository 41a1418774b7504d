package postgresql

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"understudy.dev/understudy/internal/engine"
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
	Pod      string   `json:"pod"`    // the name its server follows by: another pod counts its attempts anew
	Armed    bool     `json:"armed"`
	Attempts int      `json:"attempts"`
	Rewinds  int      `json:"rewinds,omitempty"` // and of what kind they were
	Copies   int      `json:"copies,omitempty"`
	// Reason of the last failure.
	Reason string `json:"reason,omitempty"`
	// Lost is what the data has and the primary has not.
	Lost *Lost `json:"lost,omitempty"`
}

// stale reports whether w is of another primary than the one of (address, system), so that its attempts say nothing.
func (w wish) stale(address, system string) bool { return w.Address != address || w.System != system }

// RejoinError says that this member cannot follow the primary by itself.
type RejoinError struct {
	Address string
	Tried   string // what, how often
	Reason  string
}

func (e *RejoinError) Error() string {
	return fmt.Sprintf("rejoining the primary at %s was given up after %s, the last time: %s", e.Address, e.Tried, e.Reason)
}

// gaveUp says that there are no attempts left.
func (w wish) gaveUp() error {
	tried := strings.Join(slices.DeleteFunc([]string{times(w.Rewinds, "rewind"), times(w.Copies, "base backup")}, func(s string) bool { return s == "" }), " and ")
	return &engine.StuckError{Reason: engine.RejoinFailed, Err: &RejoinError{Address: w.Address, Tried: cmp.Or(tried, times(w.Attempts, "attempt")), Reason: w.Reason}}
}

func times(n int, what string) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// anew forgets what was tried.
func (w wish) anew() wish {
	w.Attempts, w.Rewinds, w.Copies = 0, 0, 0
	return w
}

// countAnew lets a pod that was made anew try as often as the one before it, whose attempts may have failed for what a person
// has put right since.
func (p *PostgreSQL) countAnew() error {
	w, err := p.wished()
	if err != nil || w.Kind == wishNone || w.Pod == p.config.ApplicationName {
		return err
	}
	w = w.anew()
	w.Pod = p.config.ApplicationName
	return saveJSON(p.disk.note(wishFile), w)
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
