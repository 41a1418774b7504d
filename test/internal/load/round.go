package load

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Round is one run of writes, one after the other.
type Round struct {
	ID     string
	config Config
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	result  Result
	fate    []fate    // by sequence number
	started time.Time // first acknowledged write
	last    time.Time // newest acknowledged write
	flowing time.Time // end of the newest listed gap
	failing string    // the newest failure, empty since a write succeeded
	lastErr string
}

type fate uint8

const (
	refused fate = iota
	unknown
	acknowledged
)

// Start begins a round; it goes on until Stop, or until its limit.
func Start(id string, config Config) *Round {
	config = config.WithDefaults()
	ctx, cancel := context.WithTimeout(context.Background(), config.limit())
	r := &Round{ID: id, config: config, cancel: cancel, done: make(chan struct{})}
	r.result = Result{ID: id, Failures: map[string]int{}}
	go func() {
		defer close(r.done)
		r.write(ctx)
	}()
	return r
}

func (r *Round) write(ctx context.Context) {
	link := r.config.store(func() { r.mu.Lock(); r.result.Connections++; r.mu.Unlock() })
	defer link.drop()
	next := time.Now()
	for sequence := 0; ctx.Err() == nil; sequence++ {
		r.begin()
		r.writeUntilAcknowledged(ctx, link, sequence)
		// A write that was held up does not make the following ones hurry: that would be another load.
		if next = next.Add(r.config.interval()); time.Until(next) < 0 {
			next = time.Now()
		}
		pause(ctx, time.Until(next))
	}
}

func (r *Round) writeUntilAcknowledged(ctx context.Context, link store, sequence int) {
	for ctx.Err() == nil {
		begun := time.Now()
		sent, err := link.set(ctx, Key(r.ID, sequence), strconv.Itoa(sequence))
		if err == nil {
			r.acknowledge(sequence, time.Now())
			return
		}
		link.drop()
		r.fail(sequence, sent, err)
		pause(ctx, r.config.retry()-time.Since(begun))
	}
}

// Key of one write.
func Key(round string, sequence int) string {
	return "understudy:" + round + ":" + strconv.Itoa(sequence)
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (r *Round) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Attempted++
	r.fate = append(r.fate, refused)
}

func (r *Round) acknowledge(sequence int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fate[sequence] = acknowledged
	r.result.Acknowledged++
	r.failing = ""
	if r.last.IsZero() {
		r.started, r.flowing, r.last = now, now, now
		return
	}
	gap := Gap{Microseconds: now.Sub(r.last).Microseconds(), Start: r.last, End: now}
	if gap.Microseconds > r.result.Outage.Microseconds {
		r.result.Outage = gap
	}
	if now.Sub(r.last) > listed {
		r.flowing = now
		if len(r.result.Gaps) < maxListed {
			r.result.Gaps = append(r.result.Gaps, gap)
		}
	}
	r.last = now
}

func (r *Round) fail(sequence int, sent bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kind := Kind(err)
	if errors.Is(err, context.Canceled) {
		return // the round was stopped in the middle of a dial
	}
	r.result.Failures[kind]++
	r.failing, r.lastErr = kind, err.Error()
	if sent && !wasRefused(err) {
		r.fate[sequence] = unknown
	}
}

// Progress says how the round goes.
func (r *Round) Progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := Progress{Acknowledged: r.result.Acknowledged, Gaps: len(r.result.Gaps), LastFailure: r.lastErr}
	if !r.last.IsZero() {
		p.SinceLastMicroseconds = time.Since(r.last).Microseconds()
		p.FlowingMicroseconds = time.Since(r.flowing).Microseconds()
	}
	return p
}

// Stop ends the round and returns what the user saw.
func (r *Round) Stop() Result {
	now := time.Now()
	r.cancel()
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing != "" && r.result.Open == nil && !r.last.IsZero() {
		r.result.Open = &Gap{Microseconds: now.Sub(r.last).Microseconds(), Start: r.last, End: now}
	}
	r.result.Unknown = 0
	for _, f := range r.fate {
		if f == unknown {
			r.result.Unknown++
		}
	}
	return r.result
}

// Kind sorts a failure for counting.
func Kind(err error) string {
	var stage *stageError
	where := "other"
	if errors.As(err, &stage) {
		where = stage.stage
	}
	return fmt.Sprintf("%s: %s", where, reason(err))
}
