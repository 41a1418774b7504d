package postgresql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy.dev/understudy/internal/engine"
)

const (
	// writeEvery is how often a probe of a primary writes: a disk that takes no writes is seen no later than that.
	writeEvery = time.Second
	// knockEvery is how often a probe of a primary connects anew: the server's first process may hang while the others go on, and
	// then nobody new is let in.
	knockEvery = 5 * time.Second
	// linkPatience is how long a link may stay down before the data is compared again: the primary may have let go of the WAL.
	linkPatience = 10 * time.Second
	// linkSteady is how long it must have been up each time that somebody looked.
	linkSteady = time.Second
)

// Probe asks for role, position and link.
func (p *PostgreSQL) Probe(ctx context.Context) (engine.Report, error) {
	hasData := p.disk.hasData()
	if !p.serving() {
		return engine.Report{Loading: true, Redirectable: true, HasData: hasData}, nil
	}
	var report engine.Report
	// What it reads and writes may be done twice, so no question goes ahead to find out whether the connection still works.
	err := p.repeat(ctx, &p.probing, func(c *conn) error {
		var err error
		if report, err = p.look(ctx, c); err != nil {
			return err
		}
		p.watch(c.life)
		if report.Primary {
			err = p.tend(ctx, c)
		}
		return err
	})
	if stateOf(err) == cannotConnectNow {
		return engine.Report{Loading: true, Redirectable: true, HasData: hasData}, nil
	}
	if err == nil && !report.Primary && exists(p.disk.note(catchFile)) {
		return engine.Report{Loading: true, Redirectable: true, HasData: hasData}, p.endCatchUp(ctx)
	}
	if err == nil && !report.Primary {
		err = p.watchLink(report)
	}
	if p.wakesIdleSenders() {
		p.wal.rest()
	}
	report.MustReplace = p.pendingWish() != nil
	return report, err
}

// tend proves at most once a second that a primary can commit and now and then that it lets in whoever comes, and ends connections
// that borrow a member's name.
func (p *PostgreSQL) tend(ctx context.Context, c *conn) error {
	p.mu.Lock()
	due := time.Since(p.wroteAt) >= writeEvery && p.paused == nil
	knock := time.Since(p.knockedAt) >= knockEvery
	p.mu.Unlock()
	if knock {
		if err := p.knock(ctx); err != nil {
			return err
		}
	}
	if !due {
		return nil
	}
	// As part of a transaction, so that it is flushed before it is answered. Replicas are not waited for.
	if _, err := c.query(ctx, "SELECT pg_catalog.pg_logical_emit_message(true, 'understudy', '')"); err != nil {
		return err
	}
	p.mu.Lock()
	p.wroteAt = time.Now()
	p.mu.Unlock()
	p.holdForAbsent(ctx, c)
	if err := p.watchPasswords(ctx, c); err != nil {
		return err
	}
	return p.endImpostors(ctx, c)
}

// knock connects anew. A server that answers with a refusal, as when it is full, is there.
func (p *PostgreSQL) knock(ctx context.Context) error {
	c, err := p.dial(ctx)
	if err == nil {
		c.close()
	} else if stateOf(err) == "" {
		return fmt.Errorf("looking whether the engine lets anybody in: %w: its first process may hang", err)
	}
	p.mu.Lock()
	p.knockedAt = time.Now()
	p.mu.Unlock()
	return nil
}

// watchLink lets go of the data that a copy replaced once the copy streams, and looks anew at a link that stays down.
func (p *PostgreSQL) watchLink(r engine.Report) error {
	p.mu.Lock()
	if !r.LinkUp {
		p.linkUpAt = time.Time{}
	} else if p.linkUpAt.IsZero() {
		p.linkUpAt = time.Now()
	}
	// One that ends and comes again, as with a primary whose history is another, is no link.
	if steady := r.LinkUp && time.Since(p.linkUpAt) > linkSteady; steady || p.upstream == "" {
		p.linkLostAt = time.Now()
	}
	late := time.Since(p.linkLostAt) > linkPatience
	if late {
		p.linkLostAt = time.Now()
	}
	p.mu.Unlock()
	if late {
		go p.followAnew(r.Upstream)
	}
	if r.LinkUp {
		return p.prove()
	}
	return nil
}

// followAnew follows the address that it was told, unless it was told otherwise meanwhile.
func (p *PostgreSQL) followAnew(address string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = p.with(ctx, &p.orders, func(c *conn) error {
		p.mu.Lock()
		told := p.upstream
		p.mu.Unlock()
		if told != address {
			return errors.New("told otherwise")
		}
		f, err := p.examine(ctx, c, address)
		if err != nil || f.kind == wishNone {
			return err
		}
		return p.wishFor(f)
	})
}

// endCatchUp cuts the link by which a rewound server became readable: from here on it follows whom it is told to.
func (p *PostgreSQL) endCatchUp(ctx context.Context) error {
	return p.with(ctx, &p.orders, func(c *conn) error {
		if !exists(p.disk.note(catchFile)) {
			return nil // told to follow meanwhile
		}
		if err := p.apply(ctx, c, settings{standbys: nobody}); err != nil {
			return err
		}
		return p.disk.drop(catchFile)
	})
}
