package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"understudy.dev/understudy/test/internal/history"
)

const (
	// maxOperations bounds a recording's memory to some 40 MB.
	maxOperations = 200_000
	// perKey is after how many operations the clients go on with another key: what it costs to judge a key grows with the
	// square of its operations.
	perKey = 1000
	// lookBack is how many of a slot's former keys are still read now and then.
	lookBack = 4
)

// RecordConfig is what a recording does.
type RecordConfig struct {
	Config

	// Clients that read and swap at the same time, each on a connection of its own. IntervalMicroseconds is each one's.
	Clients int `json:"clients,omitempty"`
	// Keys that are written at the same time.
	Keys int `json:"keys,omitempty"`
	// MaxOperations after which the recording ends by itself, at most 200,000.
	MaxOperations int `json:"maxOperations,omitempty"`
}

// WithDefaults fills in what was left out.
func (c RecordConfig) WithDefaults() RecordConfig {
	fill := func(v *int, to int) {
		if *v <= 0 {
			*v = to
		}
	}
	c.Config = c.Config.WithDefaults()
	fill(&c.Clients, 4)
	fill(&c.Keys, 3)
	fill(&c.MaxOperations, maxOperations)
	c.MaxOperations = min(c.MaxOperations, maxOperations)
	return c
}

// Recorded counts what a recording has.
type Recorded struct {
	// Confirmed and Uncertain operations are in the history; Keys are those it is about.
	Confirmed int `json:"confirmed"`
	Uncertain int `json:"uncertain"`
	Keys      int `json:"keys"`
	// Failures counts by kind what did not succeed, whether it is in the history or not.
	Failures    map[string]int `json:"failures"`
	LastFailure string         `json:"lastFailure,omitempty"`
	// Full says that the recording ended because it has as many operations as it may have.
	Full bool `json:"full,omitempty"`
}

// Recording is a run of several clients on the same few keys that writes down what each of them saw, for package
// history to judge.
//
// A key is left behind for another one, the next generation of its slot, as soon as the fate of one swap of it is not
// known: each such swap doubles what there is to be judged. That a former key still has what was confirmed is seen by
// the reads that go on now and then, and by History, which reads every key once more.
type Recording struct {
	ID      string
	config  RecordConfig
	cancel  context.CancelFunc
	done    chan struct{}
	started time.Time

	mu     sync.Mutex
	ops    []history.Op
	seen   Recorded
	slots  []slot
	values int

	closing sync.Mutex
	closed  bool
}

// slot is one of the keys that are written at the same time.
type slot struct {
	// generation of the key, from 0.
	generation int
	// operations of this generation.
	operations int
}

// place is one generation of a slot.
type place struct{ slot, generation int }

// Record begins a recording; it goes on until Stop, or until one of its limits.
func Record(id string, config RecordConfig) *Recording {
	config = config.WithDefaults()
	ctx, cancel := context.WithTimeout(context.Background(), config.limit())
	r := &Recording{ID: id, config: config, cancel: cancel, done: make(chan struct{}), started: time.Now(),
		slots: make([]slot, config.Keys), seen: Recorded{Failures: map[string]int{}}}
	var clients sync.WaitGroup
	for client := range config.Clients {
		clients.Go(func() { r.run(ctx, client) })
	}
	go func() {
		clients.Wait()
		close(r.done)
	}()
	return r
}

func (r *Recording) run(ctx context.Context, client int) {
	link := &link{config: r.config.Config, dialled: func() {}}
	defer link.drop()
	for ctx.Err() == nil && r.room() {
		begun, wait := time.Now(), r.config.interval()
		if err := r.step(ctx, link, client); err != nil {
			link.drop()
			wait = r.config.retry()
		}
		pause(ctx, wait-time.Since(begun))
	}
}

func (r *Recording) room() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.Full = len(r.ops) >= r.config.MaxOperations
	return !r.seen.Full
}

// step swaps one time out of two. Of the reads, one out of four is of a former key.
func (r *Recording) step(ctx context.Context, link *link, client int) error {
	at := r.current(rand.IntN(r.config.Keys)) //nolint:gosec // which key is drawn is no secret
	if rand.IntN(2) == 0 {                    //nolint:gosec // as above
		return r.swap(ctx, link, client, at)
	}
	if rand.IntN(4) == 0 { //nolint:gosec // as above
		at.generation = max(0, at.generation-1-rand.IntN(lookBack)) //nolint:gosec // as above
	}
	return r.read(ctx, link, client, at)
}

func (r *Recording) current(slot int) place {
	r.mu.Lock()
	defer r.mu.Unlock()
	return place{slot, r.slots[slot].generation}
}

func (r *Recording) swap(ctx context.Context, link *link, client int, at place) error {
	value := r.value(client)
	op := history.Op{Client: client, Key: r.key(at), Kind: history.Swap, Value: value}
	err := r.attempt(ctx, link, &op, []string{"SET", op.Key, value})
	r.note(op, at, err)
	return err
}

// value is one that nobody else writes.
func (r *Recording) value(client int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values++
	return strconv.Itoa(client) + "-" + strconv.Itoa(r.values)
}

func (r *Recording) read(ctx context.Context, link *link, client int, at place) error {
	op := history.Op{Client: client, Key: r.key(at), Kind: history.Read}
	err := r.attempt(ctx, link, &op, []string{"INCR", r.fence(client)})
	r.note(op, at, err)
	return err
}

// attempt runs one operation: what the key has, and a write that WAIT can confirm. It leaves no fate where the operation
// never happened. A write is never attempted again: that is another operation, of another value.
func (r *Recording) attempt(ctx context.Context, link *link, op *history.Op, write []string) error {
	if err := link.ready(ctx); err != nil {
		return err
	}
	op.Call = r.now()
	results, err := link.transact([]string{"GET", op.Key}, write)
	if err == nil {
		op.Old, err = found(results[0])
	}
	switch {
	case err == nil:
		op.Fate = history.Unconfirmed
		if err = link.confirm(); err == nil {
			op.Fate = history.Confirmed
		}
	case !wasRefused(err):
		op.Fate = history.Unanswered
	}
	op.Return = r.now()
	return err
}

func found(reply any) (string, error) {
	switch value := reply.(type) {
	case nil:
		return "", nil
	case string:
		return value, nil
	}
	return "", &stageError{"write", unanswered{fmt.Errorf("the reply to GET was %T", reply)}}
}

// now is the recording's one clock, for all its clients.
func (r *Recording) now() int64 { return time.Since(r.started).Nanoseconds() }

// note writes an operation down, if it is one, and its failure.
func (r *Recording) note(op history.Op, at place, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !errors.Is(err, context.Canceled) {
		r.seen.Failures[Kind(err)]++
		r.seen.LastFailure = err.Error()
	}
	confirmed := op.Fate == history.Confirmed
	if !confirmed && (op.Fate == "" || op.Kind == history.Read) {
		return
	}
	r.ops = append(r.ops, op)
	if confirmed {
		r.seen.Confirmed++
	} else {
		r.seen.Uncertain++
	}
	// Another client may have moved on already.
	if s := &r.slots[at.slot]; s.generation == at.generation {
		if s.operations++; !confirmed || s.operations >= perKey {
			*s = slot{generation: s.generation + 1}
		}
	}
}

func (r *Recording) key(at place) string {
	return fmt.Sprintf("understudy:%s:k%d:%d", r.ID, at.slot, at.generation)
}

func (r *Recording) fence(client int) string {
	return fmt.Sprintf("understudy:%s:fence:%d", r.ID, client)
}

// Progress says how the recording goes.
func (r *Recording) Progress() Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	seen.Failures = map[string]int{}
	for kind, n := range r.seen.Failures {
		seen.Failures[kind] = n
	}
	seen.Keys = len(r.places())
	return seen
}

// Stop ends the recording.
func (r *Recording) Stop() Recorded {
	r.cancel()
	<-r.done
	return r.Progress()
}

// places are all keys there ever were.
func (r *Recording) places() []place {
	var all []place
	for s := range r.slots {
		for generation := range r.slots[s].generation + 1 {
			all = append(all, place{s, generation})
		}
	}
	return all
}
