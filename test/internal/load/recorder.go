package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
	"time"
)

// lookBack is how many of a slot's former keys are still read now and then.
const lookBack = 4

// RecordConfig is what a recording does.
type RecordConfig struct {
	Config

	// Clients that read and write at the same time, each on a connection of its own. IntervalMicroseconds is each one's.
	Clients int `json:"clients,omitempty"`
	// Keys that are written at the same time.
	Keys int `json:"keys,omitempty"`
	// MaxOperations after which the recording ends by itself, at most 200,000; of PostgreSQL transactions, at most 50,000.
	MaxOperations int `json:"maxOperations,omitempty"`
}

// WithDefaults fills in what was left out.
func (c RecordConfig) WithDefaults() RecordConfig {
	fill := func(v *int, to int) {
		if *v <= 0 {
			*v = to
		}
	}
	most := maxOperations
	if c.Engine == PostgreSQL {
		most = maxTransactions
	}
	c.Config = c.Config.WithDefaults()
	fill(&c.Clients, 4)
	fill(&c.Keys, 3)
	fill(&c.MaxOperations, most)
	c.MaxOperations = min(c.MaxOperations, most)
	return c
}

// Recorded counts what a recording has.
type Recorded struct {
	// Confirmed and Uncertain operations are in the history; Keys are those it is about. Of PostgreSQL they are transactions that were
	// committed, or may have been.
	Confirmed int `json:"confirmed"`
	Uncertain int `json:"uncertain"`
	Keys      int `json:"keys"`
	// Failures counts by kind what did not succeed, whether it is in the history or not.
	Failures    map[string]int `json:"failures"`
	LastFailure string         `json:"lastFailure,omitempty"`
	// Full says that the recording ended because it has as many operations as it may have.
	Full bool `json:"full,omitempty"`
}

// Recorder is a recording of whichever engine.
type Recorder interface {
	// Progress says how it goes.
	Progress() Recorded
	// Stop ends it.
	Stop() Recorded
	// Written reads every key of a stopped recording once more, deletes the keys, and returns what writes the history, one item a line:
	// a history.Op, or a serial.Txn of PostgreSQL.
	Written(ctx context.Context) (func(io.Writer) error, error)
}

// Begin begins a recording of the engine that is configured.
func (c RecordConfig) Begin(id string) Recorder {
	if c.Engine == PostgreSQL {
		return RecordTransactions(id, c)
	}
	return Record(id, c)
}

// recorder is what the recordings of all engines have in common: clients, a clock, keys and limits.
type recorder struct {
	ID      string
	config  RecordConfig
	cancel  context.CancelFunc
	done    chan struct{}
	started time.Time

	mu     sync.Mutex
	seen   Recorded
	kept   int // items of the history
	slots  []slot
	values int

	closing sync.Mutex
	closed  bool
}

// slot is one of the keys that are written at the same time.
type slot struct {
	// generation of the key, from 0.
	generation int
	// used counts what was done with this generation.
	used int
}

// place is one generation of a slot.
type place struct{ slot, generation int }

// begin runs the clients until the recording is stopped or reaches its limit.
func (r *recorder) begin(id string, config RecordConfig, client func(context.Context, int)) {
	r.ID, r.config, r.done, r.started = id, config.WithDefaults(), make(chan struct{}), time.Now()
	r.slots, r.seen = make([]slot, r.config.Keys), Recorded{Failures: map[string]int{}}
	ctx, cancel := context.WithTimeout(context.Background(), r.config.limit())
	r.cancel = cancel
	var clients sync.WaitGroup
	for n := range r.config.Clients {
		clients.Go(func() { client(ctx, n) })
	}
	go func() {
		clients.Wait()
		close(r.done)
	}()
}

// now is the recording's one clock, for all its clients.
func (r *recorder) now() int64 { return time.Since(r.started).Nanoseconds() }

// room says whether another item fits.
func (r *recorder) room() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.Full = r.kept >= r.config.MaxOperations
	return !r.seen.Full
}

// draw takes one of the keys that are written now.
func (r *recorder) draw() place {
	slot := rand.IntN(r.config.Keys) //nolint:gosec // which key is drawn is no secret
	r.mu.Lock()
	defer r.mu.Unlock()
	return place{slot, r.slots[slot].generation}
}

// sometimesFormer is one time out of four a former key of the same slot.
func sometimesFormer(at place) place {
	if rand.IntN(4) == 0 { //nolint:gosec // which key is drawn is no secret
		at.generation = max(0, at.generation-1-rand.IntN(lookBack)) //nolint:gosec // as above
	}
	return at
}

// use counts a key as used once more and goes on with another one when it has been used enough. The lock is held.
func (r *recorder) use(at place, most int) {
	// Another client may have moved on already.
	if s := &r.slots[at.slot]; s.generation == at.generation {
		if s.used++; s.used >= most {
			*s = slot{generation: s.generation + 1}
		}
	}
}

// failed counts a failure, if it is one. The lock is held.
func (r *recorder) failed(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		r.seen.Failures[Kind(err)]++
		r.seen.LastFailure = err.Error()
	}
}

func (r *recorder) key(at place) string {
	return fmt.Sprintf("understudy:%s:k%d:%d", r.ID, at.slot, at.generation)
}

// Progress implements Recorder.
func (r *recorder) Progress() Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	seen.Failures = maps.Clone(r.seen.Failures)
	seen.Keys = len(r.places())
	return seen
}

// Stop implements Recorder.
func (r *recorder) Stop() Recorded {
	r.cancel()
	<-r.done
	return r.Progress()
}

// places are all keys there ever were.
func (r *recorder) places() []place {
	var all []place
	for s := range r.slots {
		for generation := range r.slots[s].generation + 1 {
			all = append(all, place{s, generation})
		}
	}
	return all
}

// once calls read for every key in turn, each until it succeeds or ctx ends, and does so only once: afterwards some keys may
// have been deleted. Then it deletes them. It is for a stopped recording.
func (r *recorder) once(ctx context.Context, s cleaner, read func(place) error, more ...string) error {
	select {
	case <-r.done:
	default:
		return fmt.Errorf("closing recording %s: it is still running: stop it first", r.ID)
	}
	r.closing.Lock()
	defer r.closing.Unlock()
	defer s.drop()
	keys := more
	for _, at := range r.places() {
		keys = append(keys, r.key(at))
		if r.closed {
			continue
		}
		if err := insisting(ctx, s, func() error { return read(at) }); err != nil {
			return fmt.Errorf("closing recording %s: reading %s: %w: %s", r.ID, r.key(at), err, hint)
		}
	}
	r.closed = true
	for from := 0; from < len(keys); from += batch {
		some := keys[from:min(from+batch, len(keys))]
		if err := insisting(ctx, s, func() error { return s.remove(ctx, some) }); err != nil {
			return fmt.Errorf("closing recording %s: removing its keys: %w: %s", r.ID, err, hint)
		}
	}
	return nil
}
