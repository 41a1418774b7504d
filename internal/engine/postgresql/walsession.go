package postgresql

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// walSession is a connection to this pod's server for replication commands. Until PostgreSQL 15, each flush of the WAL wakes every
// process that serves such a connection, idle ones too: 1.3 to 1.6 % of a core for each of an agent's probing sessions under a load of 1,500
// commits a second. So it is made when there is something to ask, and there not kept for long.
type walSession struct {
	dial func(ctx context.Context) (*conn, error)
	turn chan struct{} // whoever has put something in uses it
	conn *conn
	used time.Time
}

// walIdle is how long the connection is kept when nobody uses it: a failover's questions come one soon after the other.
const walIdle = 2 * time.Second

func newWALSession(dial func(ctx context.Context) (*conn, error)) walSession {
	return walSession{dial: dial, turn: make(chan struct{}, 1)}
}

// one asks a server's life for one row.
func (s *walSession) one(ctx context.Context, life int, command string) ([]string, error) {
	if err := s.begin(ctx); err != nil {
		return nil, fmt.Errorf("engine command %s: %w", command, err)
	}
	defer s.end()
	kept := s.conn != nil
	row, err := s.ask(ctx, life, command)
	if err != nil && kept && s.conn == nil && ctx.Err() == nil {
		return s.ask(ctx, life, command)
	}
	return row, err
}

func (s *walSession) begin(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *walSession) end() { <-s.turn }

// ask runs a command on the connection, made if there is none to that life; a broken one is not kept.
func (s *walSession) ask(ctx context.Context, life int, command string) ([]string, error) {
	if err := s.connect(ctx, life); err != nil {
		return nil, err
	}
	row, err := s.conn.one(ctx, command)
	if s.conn.pg.IsClosed() {
		s.drop()
	}
	return row, err
}

func (s *walSession) connect(ctx context.Context, life int) error {
	s.used = time.Now()
	if s.conn != nil && s.conn.life != life {
		s.drop()
	}
	if s.conn != nil {
		return nil
	}
	c, err := s.dial(ctx)
	if err != nil {
		return err
	}
	if c.life != life {
		c.close()
		return errors.New("connecting to the engine: another one has been started")
	}
	s.conn = c
	return nil
}

func (s *walSession) drop() {
	s.conn.close()
	s.conn = nil
}

// expect connects, so that a question that comes soon need not wait for that.
func (s *walSession) expect(ctx context.Context, life int) {
	if s.begin(ctx) == nil {
		_ = s.connect(ctx, life) // whoever asks tries again, and says why it failed
		s.end()
	}
}

// rest ends a connection that nobody has used for a while.
func (s *walSession) rest() {
	select {
	case s.turn <- struct{}{}:
		if s.conn != nil && time.Since(s.used) > walIdle {
			s.drop()
		}
		s.end()
	default:
	}
}

// wakesIdleSenders: see walSession. Later servers wake a sender for what it waits for, and their connection is kept, with its place among
// max_wal_senders.
func (p *PostgreSQL) wakesIdleSenders() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.major <= 15
}
