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
	config := r.config
	// A batch takes longer than one write; only the writes themselves are measured.
	config.ReplyMilliseconds = max(config.ReplyMilliseconds, 2000)
	link := &link{config: config, dialled: func() {}}
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

// each sends one command with the keys from..to and tries again on a new connection until it is answered.
func (r *Round) each(ctx context.Context, link *link, command string, from, to int) ([]any, error) {
	args := []string{command}
	for sequence := from; sequence < to; sequence++ {
		args = append(args, Key(r.ID, sequence))
	}
	for {
		values, err := try(ctx, link, args)
		if err == nil && command == "MGET" && len(values) != to-from {
			err = fmt.Errorf("%d values for %d keys", len(values), to-from)
		}
		if err == nil {
			return values, nil
		}
		link.drop()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("verifying round %s: %s of keys %d to %d: %w: is there a primary? see kubectl get rsvc",
				r.ID, command, from, to-1, err)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func try(ctx context.Context, link *link, args []string) ([]any, error) {
	if link.conn == nil {
		if err := link.connect(ctx); err != nil {
			return nil, err
		}
	}
	reply, err := link.conn.Do(args...)
	if err != nil {
		return nil, err
	}
	values, _ := reply.([]any)
	return values, nil
}
