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

// expected is a connection to a server that this member was not told to follow yet.
type expected struct {
	address string
	made    chan struct{} // closed when conn is there or will not be
	conn    *conn
}

// Expect connects to the server at address beforehand. The connection, for which each side makes a process and keys, is then no part of the
// time until the new primary has the replica that its commits wait for.
func (p *PostgreSQL) Expect(address string) {
	e := &expected{address: address, made: make(chan struct{})}
	p.expect(e)
	go func() {
		defer close(e.made)
		ctx, cancel := context.WithTimeout(context.Background(), expectFor)
		defer cancel()
		// Once: what is tried again and again takes the processor from the takeover. Follow tries again, and says why it fails.
		e.conn, _ = p.dialPrimary(ctx, address)
	}()
	time.AfterFunc(expectFor, func() {
		if p.unexpect(func(now *expected) bool { return now == e }) != nil {
			e.close()
		}
	})
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
	before := p.unexpect(func(*expected) bool { return true })
	p.mu.Lock()
	p.expected = e
	p.mu.Unlock()
	if before != nil {
		go before.close()
	}
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
	e := p.unexpect(func(e *expected) bool { return e.address == address })
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
