package load

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"understudy.dev/understudy/test/internal/history"
	"understudy.dev/understudy/test/internal/jsonl"
)

const (
	// maxOperations bounds a recording's memory to some 40 MB.
	maxOperations = 200_000
	// perKey is after how many operations the clients go on with another key: what it costs to judge a key grows with the
	// square of its operations.
	perKey = 1000
)

// Recording is a run of several clients on the same few keys that writes down what each of them saw, for package
// history to judge.
//
// A key is left behind for another one, the next generation of its slot, as soon as the fate of one swap of it is not
// known: each such swap doubles what there is to be judged. That a former key still has what was confirmed is seen by
// the reads that go on now and then, and by History, which reads every key once more.
type Recording struct {
	recorder

	ops []history.Op
}

// Record begins a recording; it goes on until Stop, or until one of its limits.
func Record(id string, config RecordConfig) *Recording {
	r := &Recording{}
	r.begin(id, config, r.run)
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

// step swaps one time out of two. Of the reads, one out of four is of a former key.
func (r *Recording) step(ctx context.Context, link *link, client int) error {
	at := r.draw()
	if rand.IntN(2) == 0 { //nolint:gosec // what is drawn is no secret
		return r.swap(ctx, link, client, at)
	}
	return r.read(ctx, link, client, sometimesFormer(at))
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

// note writes an operation down, if it is one, and its failure.
func (r *Recording) note(op history.Op, at place, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed(err)
	confirmed := op.Fate == history.Confirmed
	if !confirmed && (op.Fate == "" || op.Kind == history.Read) {
		return
	}
	r.ops = append(r.ops, op)
	r.kept++
	if confirmed {
		r.seen.Confirmed++
		r.use(at, perKey)
	} else {
		r.seen.Uncertain++
		r.use(at, 1)
	}
}

func (r *Recording) fence(client int) string {
	return fmt.Sprintf("understudy:%s:fence:%d", r.ID, client)
}

// History reads every key of a stopped recording once more, by a client of its own, deletes the keys, and returns what all
// clients saw. It tries until ctx ends: the service may be in the middle of another change.
func (r *Recording) History(ctx context.Context) ([]history.Op, error) {
	link := &link{config: patient(r.config.Config), dialled: func() {}}
	var fences []string
	for client := range r.config.Clients + 1 {
		fences = append(fences, r.fence(client))
	}
	err := r.once(ctx, link, func(at place) error { return r.read(ctx, link, r.config.Clients, at) }, fences...)
	if err != nil {
		return nil, err
	}
	return r.ops, nil
}

// Written implements Recorder.
func (r *Recording) Written(ctx context.Context) (func(io.Writer) error, error) {
	ops, err := r.History(ctx)
	return func(w io.Writer) error { return jsonl.Write(w, ops) }, err
}
