package load

import (
	"context"
	"errors"
	"fmt"
)

// store is what a round writes to, over a connection that is made anew after each failure.
type store interface {
	// set writes one key. sent says whether the write may have reached the service.
	set(ctx context.Context, key, value string) (sent bool, err error)
	// get returns the values of keys on the primary in their order, "" for one that is missing.
	get(ctx context.Context, keys []string) ([]string, error)
	cleaner
}

// cleaner removes what was written.
type cleaner interface {
	remove(ctx context.Context, keys []string) error
	drop()
}

// Redis and PostgreSQL are the engines that a round can write to.
const (
	Redis      = "redis"
	PostgreSQL = "postgresql"
)

func (c Config) store(dialled func()) store {
	if c.Engine == PostgreSQL {
		return &rows{config: c, table: loadTable, dialled: dialled}
	}
	return &link{config: c, dialled: dialled}
}

// errNotPrimary: a node whose routes are behind leads to the former primary, and what that one lacks as a replica is not lost.
var errNotPrimary = errors.New("the server that was reached is not the primary")

// get implements store.
func (l *link) get(ctx context.Context, keys []string) ([]string, error) {
	role, err := l.try(ctx, []string{"ROLE"})
	if err != nil {
		return nil, err
	}
	if len(role) == 0 || role[0] != "master" {
		return nil, errNotPrimary
	}
	replies, err := l.try(ctx, append([]string{"MGET"}, keys...))
	if err != nil {
		return nil, err
	}
	if len(replies) != len(keys) {
		return nil, fmt.Errorf("%d values for %d keys", len(replies), len(keys))
	}
	values := make([]string, len(replies))
	for i, reply := range replies {
		values[i], _ = reply.(string)
	}
	return values, nil
}

// remove implements store.
func (l *link) remove(ctx context.Context, keys []string) error {
	_, err := l.try(ctx, append([]string{"UNLINK"}, keys...))
	return err
}

// insisting does one thing again and again, each time on a new connection, until it succeeds or ctx ends.
func insisting(ctx context.Context, s cleaner, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		s.drop()
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		pause(ctx, again)
	}
}
