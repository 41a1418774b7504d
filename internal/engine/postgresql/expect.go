package postgresql

import (
	"cmp"
	"context"
	"time"

	"understudy.dev/understudy/internal/engine"
)

// expectFor is how long a connection to a server that was expected to be the next primary is kept: a takeover that was promised
// follows at once, or does not come.
const expectFor = 2 * time.Second

// expected is a server that this member was not told to follow yet.
type expected struct {
	engine.Successor
	life int           // of this member's server
	made chan struct{} // closed when conn is there or will not be
	conn *conn
}

// goesOnWithin is how far behind a server may be that goes on from another without having asked what that one still has: a few segments of what
// both received a moment ago.
const goesOnWithin = 16 << 20

// Expect prepares to follow the server at address. If that has all that this one has, nothing is to be asked of it. Else it is connected to
// beforehand: the connection, for which each side makes a process and keys, is then no part of the time until the new primary has the
// replica that its commits wait for.
func (p *PostgreSQL) Expect(next engine.Successor) {
	e := &expected{Successor: next, life: p.currentLife(), made: make(chan struct{})}
	p.expect(e)
	time.AfterFunc(expectFor, func() {
		if p.unexpect(func(now *expected) bool { return now == e }) != nil {
			e.close()
		}
	})
	p.mu.Lock()
	own := p.known
	p.mu.Unlock()
	if e.covers(own) {
		close(e.made)
		return
	}
	go func() {
		defer close(e.made)
		ctx, cancel := context.WithTimeout(context.Background(), expectFor)
		defer cancel()
		// Once: what is tried again and again takes the processor from the takeover. Follow tries again, and says why it fails.
		e.conn, _ = p.dialPrimary(ctx, next.Address)
	}()
}

// covers reports whether a server at some place can simply go on from this one.
func (e *expected) covers(own place) bool {
	behind := e.Offset - int64(own.LSN) //nolint:gosec // a position stays far below 2^63
	return e.History != "" && e.History == own.history() && behind >= 0 && behind <= goesOnWithin
}

// goesOnUnasked reports whether this server can follow the one at address without a question: it was told that the other one has what it has
// itself, in the same history, and where it is itself it knows from having received that. Before the promotion and after, the
// receiver then goes on where it was cut. Should the other one not let it, whoever looks at the link afterwards compares the two.
func (p *PostgreSQL) goesOnUnasked(ctx context.Context, c *conn, address string) (bool, error) {
	p.mu.Lock()
	e := p.expected
	p.mu.Unlock()
	if e == nil || e.Address != address || e.life != c.life || exists(p.disk.note(emptyFile)) || exists(p.disk.note(importedFile)) {
		return false, nil
	}
	own, standby, err := p.whereNow(ctx, c)
	return err == nil && standby && p.toldBySQL(c.life) && e.covers(own), err
}

// expectNobody forgets who was expected: what was known of that one is of before this member was told whom to follow, or cut.
func (p *PostgreSQL) expectNobody() {
	if e := p.unexpect(func(*expected) bool { return true }); e != nil {
		go e.close()
	}
}

// ExpectPromotion implements engine.Expecter. What commits wait for counts once the server is promoted, and to take it in wakes each of
// its processes: that is done when its link is cut, and not between the Lease and the promotion.
func (p *PostgreSQL) ExpectPromotion(quorum engine.Quorum) {
	names, err := standbyNames(quorum)
	if err != nil {
		return // Promote says so, should it come to that
	}
	p.mu.Lock()
	p.prepared = names
	p.mu.Unlock()
}

// takePrepared is the synchronous set to detach with.
func (p *PostgreSQL) takePrepared() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := cmp.Or(p.prepared, nobody) // an empty set too is taken in at the promotion alone
	p.prepared = ""
	return names
}

// isPrepared reports that the server has taken in what it is to be promoted with, and nothing else since.
func (p *PostgreSQL) isPrepared(life int, standbys string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life == life && p.inForce == p.generation && p.door == detached && p.settings == settings{standbys: standbys}
}

// expect replaces what was expected.
func (p *PostgreSQL) expect(e *expected) {
	p.expectNobody()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = e
}

// unexpect takes what is expected away, if it is the right one.
func (p *PostgreSQL) unexpect(right func(*expected) bool) *expected {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.expected
	if e == nil || !right(e) {
		return nil
	}
	p.expected = nil
	return e
}

// takeExpected is the connection to address that was made beforehand; nil: there is none.
func (p *PostgreSQL) takeExpected(ctx context.Context, address string) *conn {
	e := p.unexpect(func(e *expected) bool { return e.Address == address })
	if e == nil {
		return nil
	}
	select {
	case <-e.made:
	case <-ctx.Done():
		go e.close()
		return nil
	}
	return e.conn
}

func (e *expected) close() {
	<-e.made
	if e.conn != nil {
		e.conn.close()
	}
}
