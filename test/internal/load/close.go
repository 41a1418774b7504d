package load

import (
	"context"
	"fmt"

	"understudy.dev/understudy/test/internal/history"
)

// History reads every key of a stopped recording once more, deletes the keys, and returns what all clients saw. It tries
// until ctx ends: the service may be in the middle of another change.
func (r *Recording) History(ctx context.Context) ([]history.Op, error) {
	select {
	case <-r.done:
	default:
		return nil, fmt.Errorf("closing recording %s: it is still running: stop it first", r.ID)
	}
	r.closing.Lock()
	defer r.closing.Unlock()
	link := &link{config: patient(r.config.Config), dialled: func() {}}
	defer link.drop()
	places := r.places()
	if err := r.readAll(ctx, link, places); err != nil {
		return nil, err
	}
	if err := r.remove(ctx, link, places); err != nil {
		return nil, err
	}
	return r.ops, nil
}

// readAll is done only once, by a client of its own: afterwards some keys may have been deleted.
func (r *Recording) readAll(ctx context.Context, link *link, places []place) error {
	if r.closed {
		return nil
	}
	for _, at := range places {
		for {
			err := r.read(ctx, link, r.config.Clients, at)
			if err == nil {
				break
			}
			link.drop()
			if ctx.Err() != nil {
				return fmt.Errorf("closing recording %s: reading %s: %w: %s", r.ID, r.key(at), err, hint)
			}
			pause(ctx, again)
		}
	}
	r.closed = true
	return nil
}

func (r *Recording) remove(ctx context.Context, link *link, places []place) error {
	var keys []string
	for _, at := range places {
		keys = append(keys, r.key(at))
	}
	for client := range r.config.Clients + 1 {
		keys = append(keys, r.fence(client))
	}
	for from := 0; from < len(keys); from += batch {
		some := keys[from:min(from+batch, len(keys))]
		if err := insisting(ctx, link, func() error { return link.remove(ctx, some) }); err != nil {
			return fmt.Errorf("closing recording %s: removing its keys: %w: %s", r.ID, err, hint)
		}
	}
	return nil
}
