package load

import (
	"context"
	"io"
	"math/rand/v2"
	"time"

	"understudy.dev/understudy/test/internal/history/serial"
	"understudy.dev/understudy/test/internal/jsonl"
)

const (
	// maxTransactions bounds a recording's memory to some 40 MB.
	maxTransactions = 50_000
	// perList is after how many appends the clients go on with another list: each read carries the whole of it.
	perList = 64
	// maxSteps of a transaction.
	maxSteps = 4
)

// Transactions is a run of several clients that append to the same few lists, and read them, in transactions, and write
// down what each of them saw, for package serial to judge.
type Transactions struct {
	recorder

	isolation string
	txns      []serial.Txn
}

// RecordTransactions begins a recording; it goes on until Stop, or until one of its limits.
func RecordTransactions(id string, config RecordConfig) *Transactions {
	return recordTransactions(id, config, serializable)
}

func recordTransactions(id string, config RecordConfig, isolation string) *Transactions {
	r := &Transactions{isolation: isolation}
	r.begin(id, config, r.run)
	return r
}

func (r *Transactions) run(ctx context.Context, client int) {
	s := newSession(r.config.Config)
	s.isolation = r.isolation
	defer s.drop()
	for ctx.Err() == nil && r.room() {
		begun, wait := time.Now(), r.config.interval()
		if err := r.step(ctx, s, client); err != nil {
			wait = r.config.retry()
		}
		pause(ctx, wait-time.Since(begun))
	}
}

func (r *Transactions) step(ctx context.Context, s *session, client int) error {
	if err := s.ready(ctx); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.failed(err)
		return err
	}
	ops := make([]serial.Op, 1+rand.IntN(maxSteps)) //nolint:gosec // what is drawn is no secret
	for i := range ops {
		ops[i] = r.op()
	}
	return r.transact(ctx, s, serial.Txn{Client: client, Ops: ops})
}

// op appends one time out of two.
func (r *Transactions) op() serial.Op {
	at := r.draw()
	if rand.IntN(2) == 0 { //nolint:gosec // what is drawn is no secret
		return serial.Op{Kind: serial.Read, Key: r.key(sometimesFormer(at))}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values++
	r.use(at, perList)
	return serial.Op{Kind: serial.Append, Key: r.key(at), Value: r.values}
}

// transact carries out one transaction and writes it down. It is never attempted again: that is another one, of other values.
func (r *Transactions) transact(ctx context.Context, s *session, txn serial.Txn) error {
	err := s.transact(ctx, &txn, r.now)
	if txn.Fate == serial.Failed {
		for i := range txn.Ops {
			txn.Ops[i].List = nil // it is not judged, and takes memory
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed(err)
	r.txns = append(r.txns, txn)
	r.kept++
	switch txn.Fate {
	case serial.Committed:
		r.seen.Confirmed++
	case serial.Unknown:
		r.seen.Uncertain++
	}
	return err
}

// History reads every list of a stopped recording once more, by a client of its own, deletes them, and returns what all
// clients saw. It tries until ctx ends: the service may be in the middle of another change.
func (r *Transactions) History(ctx context.Context) ([]serial.Txn, error) {
	s := newSession(patient(r.config.Config))
	err := r.once(ctx, s, func(at place) error {
		if err := s.ready(ctx); err != nil {
			return err
		}
		return r.transact(ctx, s, serial.Txn{Client: r.config.Clients, Ops: []serial.Op{{Kind: serial.Read, Key: r.key(at)}}})
	})
	if err != nil {
		return nil, err
	}
	return r.txns, nil
}

// Written implements Recorder.
func (r *Transactions) Written(ctx context.Context) (func(io.Writer) error, error) {
	txns, err := r.History(ctx)
	return func(w io.Writer) error { return jsonl.Write(w, txns) }, err
}
