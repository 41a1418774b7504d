//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/history"
	"understudy.dev/understudy/test/internal/load"
)

// recording is a run of clients on the same keys beside the load of a fault.
type recording struct {
	client *clients.Client
	id     string
}

// fewest confirmed operations that say something: the load alone goes on for more than a second, at 200 each.
const fewest = 100

func record(t *testing.T, c *clients.Client, id string, config load.Config) recording {
	t.Helper()
	// It is not measured, and must not take the cores from what is.
	config.IntervalMicroseconds, config.RetryMicroseconds = 20_000, 20_000
	must(t, c.Record(t.Context(), id, load.RecordConfig{Config: config}))
	return recording{client: c, id: id}
}

// judge ends the recording: one order of what the clients did must explain everything they were told.
func (r recording) judge(t *testing.T, name string) {
	t.Helper()
	ops, seen, err := r.client.History(t.Context(), r.id)
	if err != nil {
		t.Errorf("%s: taking the history: %v", name, err)
		return
	}
	result, err := history.Check(ops, time.Minute)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if result.Verdict != history.Ok {
		t.Errorf("%s: history %s\n%s", name, result, keep(result, ops))
		return
	}
	t.Logf("%s: history %s; failures %v", name, result, seen.Failures)
	if result.Reads+result.Swaps < fewest || seen.Full {
		t.Errorf("%s: that is too little to say anything, or the recording ended before the fault did: %+v", name, seen)
	}
}

// keep writes a history that is not Ok where it is found after the test, and says where.
func keep(result history.Result, ops []history.Op) string {
	dir, err := os.MkdirTemp("", "understudy-history-")
	if err != nil {
		return err.Error()
	}
	file, err := os.Create(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if err := history.Write(file, ops); err != nil {
		return err.Error()
	}
	if len(result.Offending) > 0 {
		if err := result.Visualize(filepath.Join(dir, "history.html")); err != nil {
			return err.Error()
		}
	}
	return "kept in " + dir
}
