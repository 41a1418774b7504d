package postgresql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy.dev/understudy/internal/engine"
)

// promoteAgain is how often the order is repeated: one that comes just after the primary was lost may lie unread while the
// startup process sleeps.
const promoteAgain = 10 * time.Millisecond

// Promote makes the server accept writes. The order matters: the quorum first. The door opens with the same reload: until the
// server has left recovery it refuses writes by itself, and a member that asks is told that it is no primary yet.
func (p *PostgreSQL) Promote(ctx context.Context, quorum engine.Quorum) (engine.Report, error) {
	var report engine.Report
	names, err := standbyNames(quorum)
	if err != nil {
		return report, err
	}
	err = p.with(ctx, &p.orders, func(c *conn) error {
		// From here on the data is the service's own: nothing that was wished for it before may happen to it.
		if err := p.disk.drop(wishFile, catchFile, emptyFile, importedFile); err != nil {
			return err
		}
		p.setPending(nil)
		p.setUpstream("")
		prepared := p.isPrepared(c.life, names) // the open door's file is that of the detached
		if err := p.writeDoor(c.life, open); err != nil {
			return err
		}
		if !prepared {
			if err := p.replacePrepared(ctx, c, quorum, names); err != nil {
				return err
			}
		}
		if err := leaveRecovery(ctx, c); err != nil {
			return fmt.Errorf("promoting the engine: %w", err)
		}
		p.mu.Lock()
		p.quorum = quorum
		// A promotion shows as much as the probes' write and their new connection. Those come again as often as ever from here on, and with them the look for
		// connections that borrow a member's name.
		p.wroteAt, p.knockedAt = time.Now(), time.Now()
		p.slotsDue = time.Now().Add(slotGrace)
		p.mu.Unlock()
		p.afterwards(c.life, open, p.afterPromotion)
		var err error
		if report, err = p.look(ctx, c); err == nil && !report.Primary {
			err = fmt.Errorf("promoting the engine: it says it is a standby")
		}
		return err
	})
	return report, err
}

// replacePrepared takes in another synchronous set than the server was prepared for, if it was. A member that follows already may have a
// sender that goes by the set before.
func (p *PostgreSQL) replacePrepared(ctx context.Context, c *conn, quorum engine.Quorum, names string) error {
	p.mu.Lock()
	before := p.settings.standbys
	p.mu.Unlock()
	if err := p.apply(ctx, c, settings{standbys: names}); err != nil {
		return err
	}
	if before == nobody || before == names {
		return nil
	}
	return endSenders(ctx, c, quorum)
}

// leaveRecovery orders the promotion until it has happened.
func leaveRecovery(ctx context.Context, c *conn) error {
	var ordered time.Time
	for {
		if standby, err := inRecovery(ctx, c); err != nil || !standby {
			return err
		}
		if time.Since(ordered) >= promoteAgain {
			if _, err := c.query(ctx, "SELECT pg_catalog.pg_promote(wait => false)"); err != nil && stateOf(err) != notInRecovery {
				return err
			}
			ordered = time.Now()
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil { // the processor is what a promotion lacks
			return err
		}
	}
}

// notInRecovery is what a server answers that was promoted between the question and the order.
const notInRecovery = "55000"

// afterPromotion does what clients need not wait for.
func (p *PostgreSQL) afterPromotion(ctx context.Context, c *conn) {
	if err := p.ensureReplicator(ctx, c); err != nil {
		return
	}
	p.makeSlots(ctx, c, "true")
	_ = p.prove() // it is tried again when this member has followed
}

// Configure changes the synchronous set of a primary, and returns when it is in force.
func (p *PostgreSQL) Configure(ctx context.Context, quorum engine.Quorum) error {
	names, err := standbyNames(quorum)
	if err != nil {
		return err
	}
	return p.with(ctx, &p.orders, func(c *conn) error {
		p.mu.Lock()
		before := p.quorum
		p.mu.Unlock()
		p.noteQuorum(engine.Quorum{Replicas: min(before.Replicas, quorum.Replicas)}) // until it is verified: the fewer, of anybody
		if err := p.apply(ctx, c, settings{standbys: names}); err != nil {
			return err
		}
		if before.Replicas <= 0 && quorum.Replicas > 0 {
			// Commits begin to wait when the checkpointer has read the set, which it has before a checkpoint that is asked for now.
			if _, err := c.query(ctx, "CHECKPOINT"); err != nil {
				return err
			}
		}
		if stricter(before, quorum) {
			if err := endSenders(ctx, c, quorum); err != nil {
				return err
			}
		}
		if err := verifySet(ctx, c, quorum); err != nil {
			return fmt.Errorf("changing the synchronous set: %w", err)
		}
		p.noteQuorum(quorum)
		return nil
	})
}

func (p *PostgreSQL) noteQuorum(q engine.Quorum) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quorum = q
}

// stricter reports whether what satisfied a would not always satisfy b. A sender goes by the set that it has read, and a
// stopped one might acknowledge by the old set yet.
func stricter(a, b engine.Quorum) bool {
	if a.Replicas <= 0 || b.Replicas <= 0 {
		return b.Replicas > 0
	}
	gone := slices.ContainsFunc(a.Members, func(m string) bool {
		return !slices.Contains(b.Members, m) && !strings.HasSuffix(m, engine.FollowerName("", ""))
	})
	return b.Replicas > a.Replicas || gone || (len(a.Members) == 0) != (len(b.Members) == 0)
}

// endSenders ends the senders that have begun by now, when the newest set is in force: who begins later reads that. It returns when they are gone. The
// replicas come back. Copies, and members that are not replicas again yet, go on: no set names them.
func endSenders(ctx context.Context, c *conn, q engine.Quorum) error {
	spared := ""
	if len(q.Members) > 0 {
		spared = " AND state <> 'backup' AND application_name NOT LIKE " + quoteLiteral("%"+rejoining)
	}
	row, err := c.one(ctx, "SELECT pg_catalog.clock_timestamp()")
	if err != nil {
		return err
	}
	for {
		rows, err := c.query(ctx, "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_replication "+
			"WHERE state <> 'startup' AND backend_start < "+quoteLiteral(row[0])+spared)
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("ending the senders of the old synchronous set: %w", err)
		}
	}
}

// verifySet returns when every sender has the rank that the set gives its name.
func verifySet(ctx context.Context, c *conn, q engine.Quorum) error {
	for {
		rows, err := c.query(ctx, "SELECT application_name, sync_priority FROM pg_catalog.pg_stat_replication WHERE state = 'streaming'")
		if err != nil {
			return err
		}
		wrong := slices.ContainsFunc(rows, func(r []string) bool {
			listed := q.Replicas > 0 && (len(q.Members) == 0 || slices.Contains(q.Members, r[0]))
			return listed != (r[1] != "0")
		})
		if !wrong {
			return nil
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}
