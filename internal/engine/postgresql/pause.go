package postgresql

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"understudy.dev/understudy/internal/engine"
)

// Pause ends every session but the members' and the two in which the agent probes and orders, and lets no client in. What else the agent was doing
// to the server ends with its connection and is tried again. A commit that a client was not told of is
// on every replica that reaches the reported position. After d, clients are let in again by themselves, unless the server
// that was paused has ended; a superuser on the pod's own socket is not kept out.
func (p *PostgreSQL) Pause(ctx context.Context, d time.Duration) (engine.Report, error) {
	var report engine.Report
	err := p.with(ctx, &p.orders, func(c *conn) error {
		p.holdUntil(c.life, d)
		if err := p.setDoor(ctx, c, membersOnly); err != nil {
			return err
		}
		if err := p.quieten(ctx, c); err != nil {
			return fmt.Errorf("holding back writes: %w", err)
		}
		var err error
		if report, err = p.look(ctx, c); err == nil && !report.Primary {
			err = errors.New("holding back writes: the engine is no primary")
		}
		return err
	})
	return report, err
}

// Resume lets clients in again.
func (p *PostgreSQL) Resume(ctx context.Context) error {
	p.forgetPause()
	return p.with(ctx, &p.orders, func(c *conn) error { return p.setDoor(ctx, c, open) })
}

// holdUntil resumes after d by itself, if nobody else did and the same server still runs.
func (p *PostgreSQL) holdUntil(life int, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != nil {
		p.paused.Stop()
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		p.mu.Lock()
		due := p.paused == t && p.life == life
		p.mu.Unlock()
		if due {
			_ = p.Resume(ctx)
		}
	})
	p.paused = t
}

// forgetPause stops the clock of a pause.
func (p *PostgreSQL) forgetPause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != nil {
		p.paused.Stop()
		p.paused = nil
	}
}

// stay are the kinds of process that write nothing of a client's.
var stay = []string{"autovacuum launcher", "logical replication launcher", "background writer", "checkpointer", "startup",
	"walreceiver", "walsender", "walwriter", "archiver", "logger", "io worker", "walsummarizer", "slotsync worker"}

// quieten ends every process that could commit something, and returns when none is left. One that is still logging in may
// have been let in by the old rules, and no view shows it: it is found as a child that no view shows. Who comes after the new rules
// are in force is not waited for: clients that try again all the time would hold the pause up for ever.
func (p *PostgreSQL) quieten(ctx context.Context, c *conn) error {
	postmaster := p.postmaster()
	if postmaster == 0 {
		return errNoServer
	}
	suspects := children(postmaster)
	for {
		before := children(postmaster)
		maps.DeleteFunc(before, func(pid int, _ string) bool {
			_, early := suspects[pid]
			return !early
		})
		rows, err := c.query(ctx, "SELECT pid, backend_type FROM pg_catalog.pg_stat_activity")
		if err != nil {
			return err
		}
		loud := loudest(before, rows, p.ownBackends(c))
		if len(loud) == 0 {
			return nil
		}
		for _, pid := range loud {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("ending the session of process %d: %w", pid, err)
			}
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return fmt.Errorf("%w: %d sessions are left", err, len(loud))
		}
	}
}

// loudest are the children that could commit something. They were listed before the view was read, so one that has begun in
// between was let in by the new rules.
func loudest(listed map[int]string, view [][]string, own []int) []int {
	kinds := map[int]string{}
	for _, r := range view {
		pid, _ := strconv.Atoi(r[0])
		kinds[pid] = r[1]
	}
	var loud []int
	for pid, title := range listed {
		kind, shown := kinds[pid]
		quiet := shown && slices.Contains(stay, kind) || !shown && strings.HasSuffix(title, "logger")
		if !quiet && !slices.Contains(own, pid) {
			loud = append(loud, pid)
		}
	}
	return loud
}

// ownBackends serve this program.
func (p *PostgreSQL) ownBackends(c *conn) []int {
	return []int{int(c.pg.PID()), int(p.probing.pid.Load()), int(p.watching.Load())}
}
