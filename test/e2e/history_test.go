//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/history"
	"understudy.dev/understudy/test/internal/history/serial"
	"understudy.dev/understudy/test/internal/jsonl"
	"understudy.dev/understudy/test/internal/load"
)

// recording is a run of clients on the same keys beside the load of a fault.
type recording struct {
	client     *clients.Client
	id, engine string
}

// fewest confirmed operations that say something: the load goes on for more than a second, in which serializable transactions of several
// clients on a busy machine were seen to be 86.
const fewest = 40

func record(t *testing.T, c *clients.Client, id string, config load.Config) recording {
	t.Helper()
	// It is not measured, and must not take the cores from what is.
	config.IntervalMicroseconds, config.RetryMicroseconds = 20_000, 20_000
	must(t, c.Record(t.Context(), id, load.RecordConfig{Config: config}))
	return recording{client: c, id: id, engine: config.Engine}
}

// judge ends the recording, and fails the test unless the history is what a synchronous service promises. silent says whether a primary that may
// still have been alive was replaced meanwhile.
func (r recording) judge(t *testing.T, name string, silent func(context.Context) error) {
	t.Helper()
	if r.engine == load.PostgreSQL {
		r.judgeTransactions(t, name, silent)
		return
	}
	r.judgeKeys(t, name)
}

// judgeTransactions of PostgreSQL: one order of them, each carried out alone, must explain everything that was read. A circle of anti-dependencies (G2)
// within one epoch may be PostgreSQL's own doing (see serializably in test/internal/load); it was never seen here.
//
// It must also be an order in which whoever began after another was answered comes after it. One PostgreSQL promises that
// much: a snapshot holds every commit that was answered before it was taken, and what conflicts with that is refused. Several, one
// after the other, keep it where a new primary opens when no process of the old one can answer any more, not even a
// read, and because what others see has been waited for. An old primary that was cut off and not waited out (QuorumCut) may
// answer until its guard's instant what only reads (docs/limits.md). Then, and only then, such a transaction may find less than others were answered.
func (r recording) judgeTransactions(t *testing.T, name string, silent func(context.Context) error) {
	t.Helper()
	txns, seen, err := r.client.Transactions(t.Context(), r.id)
	if err != nil {
		t.Errorf("%s: taking the history: %v", name, err)
		return
	}
	result, err := serial.Check(txns)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	how, wrong := "strictly serializable", len(result.Anomalies)+len(result.RealTime) > 0
	if len(result.StaleReads) > 0 {
		how = "serializable, with stale reads of a primary that was cut off"
		if err := silent(t.Context()); err != nil {
			t.Errorf("%s: stale reads, and no failover that allows them: %v", name, err)
			wrong = true
		}
	}
	if wrong {
		t.Errorf("%s: history of %s\n%s", name, result, keep(txns, nil))
		return
	}
	t.Logf("%s: history of %s: %s; failures %v", name, result, how, seen.Failures)
	if result.Committed < fewest || seen.Full {
		t.Errorf("%s: that is too little to say anything, or the recording ended before the fault did: %+v", name, seen)
	}
}

// judgeKeys of Redis: one order of what the clients did with a key must explain everything they were told.
func (r recording) judgeKeys(t *testing.T, name string) {
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
		t.Errorf("%s: history %s\n%s", name, result, keep(ops, draw(result)))
		return
	}
	t.Logf("%s: history %s; failures %v", name, result, seen.Failures)
	if result.Reads+result.Swaps < fewest || seen.Full {
		t.Errorf("%s: that is too little to say anything, or the recording ended before the fault did: %+v", name, seen)
	}
}

// draw is how the keys of a history that is not Ok are drawn.
func draw(result history.Result) func(dir string) error {
	return func(dir string) error {
		if len(result.Offending) == 0 {
			return nil
		}
		return result.Visualize(filepath.Join(dir, "history.html"))
	}
}

// keep writes a history that is not as it should be where it is found after the test, and says where.
func keep[T any](items []T, draw func(dir string) error) string {
	dir, err := os.MkdirTemp("", "understudy-history-")
	if err != nil {
		return err.Error()
	}
	file, err := os.Create(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if err := jsonl.Write(file, items); err != nil {
		return err.Error()
	}
	if draw != nil {
		if err := draw(dir); err != nil {
			return err.Error()
		}
	}
	return "kept in " + dir
}
