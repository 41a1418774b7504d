package load

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const (
	batch      = 500
	maxLostIDs = 10
)

// Verify reads every key of a stopped round back through the service and then deletes them. It tries until ctx ends:
// the service may be in the middle of another change.
func (r *Round) Verify(ctx context.Context) (Verification, error) {
	select {
	case <-r.done:
	default:
		return Verification{}, fmt.Errorf("verifying round %s: it is still running: stop it first", r.ID)
	}
	link := patient(r.config).store(func() {})
	defer link.drop()
	var v Verification
	for from := 0; from < len(r.fate); from += batch {
		keys := r.keys(from)
		err := insisting(ctx, link, func() error {
			values, err := link.get(ctx, keys)
			if err == nil {
				r.count(&v, from, values)
			}
			return err
		})
		if err != nil {
			return v, r.unverified("reading", from, err)
		}
	}
	for from := 0; from < len(r.fate); from += batch {
		if err := insisting(ctx, link, func() error { return link.remove(ctx, r.keys(from)) }); err != nil {
			return v, r.unverified("removing", from, err)
		}
	}
	return v, nil
}

// keys of one batch.
func (r *Round) keys(from int) []string {
	var keys []string
	for sequence := from; sequence < min(from+batch, len(r.fate)); sequence++ {
		keys = append(keys, Key(r.ID, sequence))
	}
	return keys
}

func (r *Round) unverified(doing string, from int, err error) error {
	return fmt.Errorf("verifying round %s: %s the keys from %d on: %w: %s", r.ID, doing, from, err, hint)
}

// patient is for what follows the measurement: a batch takes longer than one write.
func patient(config Config) Config {
	config.ReplyMilliseconds = max(config.ReplyMilliseconds, 2000)
	return config
}

func (r *Round) count(v *Verification, from int, values []string) {
	for i, value := range values {
		sequence := from + i
		found := value == strconv.Itoa(sequence)
		switch {
		case r.fate[sequence] == acknowledged:
			v.Acknowledged++
			if !found {
				v.Lost++
				if len(v.LostSequence) < maxLostIDs {
					v.LostSequence = append(v.LostSequence, sequence)
				}
			}
		case r.fate[sequence] == unknown && found:
			v.UnknownFound++
		}
	}
}

const hint = "is there a primary? see kubectl get rsvc"

// again is how soon what must be answered in the end is tried once more.
const again = 20 * time.Millisecond

func (l *link) try(ctx context.Context, args []string) ([]any, error) {
	if err := l.ready(ctx); err != nil {
		return nil, err
	}
	reply, err := l.conn.Do(args...)
	if err != nil {
		return nil, err
	}
	values, _ := reply.([]any)
	return values, nil
}
