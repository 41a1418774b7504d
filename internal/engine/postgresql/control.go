package postgresql

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// floored are the parameters that a standby refuses to start with below what its data last saw on a primary, in the order in
// which pg_control holds them.
var floored = []string{"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction"}

const (
	controlVersionAt = 8   // where pg_control tells its own version
	controlFloorsAt  = 180 // where the first of floored stands, in each of:
)

// controlVersions are those of PostgreSQL 15 and 16, 17, and 18.
var controlVersions = []uint32{1300, 1700, 1800}

// floors reads the least values from pg_control; nil without a cluster or with one of another layout. Since a server always
// starts as a standby, a smaller value takes effect nowhere: it would not start at all.
func floors(data string) map[string]int {
	raw, err := os.ReadFile(filepath.Join(data, "global", "pg_control"))
	end := controlFloorsAt + 4*len(floored)
	if err != nil || len(raw) < end || !slices.Contains(controlVersions, binary.NativeEndian.Uint32(raw[controlVersionAt:])) {
		return nil
	}
	out := map[string]int{}
	for i, name := range floored {
		v := int32(binary.NativeEndian.Uint32(raw[controlFloorsAt+4*i:])) //nolint:gosec // it is one
		if v < 0 || v > 1<<23 {
			return nil // not what it was taken for
		}
		out[name] = int(v)
	}
	return out
}

// raise lifts parameters to the least values that the data demands.
func raise(lines map[string]string, least map[string]int) {
	for name, v := range least {
		text, set := lines[name]
		if have, ok := number(text); !set || ok && have >= 0 && have < float64(v) {
			lines[name] = strconv.Itoa(v)
		}
	}
}

// number reads a value as PostgreSQL does; what is none is left for the server to refuse.
func number(text string) (n float64, ok bool) {
	text = strings.TrimSpace(text)
	if whole, err := strconv.ParseInt(text, 0, 64); err == nil {
		return float64(whole), true
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}
