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
	link := patient(r.config)
	defer link.drop()
	var v Verification
	for from := 0; from < len(r.fate); from += batch {
		to := min(from+batch, len(r.fate))
		values, err := r.each(ctx, link, "MGET", from, to)
		if err != nil {
			return v, err
		}
		r.count(&v, from, values)
	}
	for from := 0; from < len(r.fate); from += batch {
		if _, err := r.each(ctx, link, "UNLINK", from, min(from+batch, len(r.fate))); err != nil {
			return v, err
		}
	}
	return v, nil
}

// patient is a link for what follows the measurement: a batch takes longer than one write.
func patient(config Config) *link {
	config.ReplyMilliseconds = max(config.ReplyMilliseconds, 2000)
	return &link{config: config, dialled: func() {}}
}

func (r *Round) count(v *Verification, from int, values []any) {
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

// each sends one command with the keys from..to.
func (r *Round) each(ctx context.Context, link *link, command string, from, to int) ([]any, error) {
	args := []string{command}
	for sequence := from; sequence < to; sequence++ {
		args = append(args, Key(r.ID, sequence))
	}
	values, err := link.insist(ctx, args, func(values []any) error {
		if command == "MGET" && len(values) != to-from {
			return fmt.Errorf("%d values for %d keys", len(values), to-from)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("verifying round %s: %s of keys %d to %d: %w: %s", r.ID, command, from, to-1, err, hint)
	}
	return values, nil
}

const hint = "is there a primary? see kubectl get rsvc"

// insist sends one command and tries again on a new connection until it is answered, and well.
func (l *link) insist(ctx context.Context, args []string, well func([]any) error) ([]any, error) {
	for {
		values, err := l.try(ctx, args)
		if err == nil {
			err = well(values)
		}
		if err == nil {
			return values, nil
		}
		l.drop()
		if ctx.Err() != nil {
			return nil, err
		}
		pause(ctx, again)
	}
}

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
