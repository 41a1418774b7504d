package postgresql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"time"

	"understudy.dev/understudy/internal/engine"
)

// settle is how long nothing may change after the cut for it to count as cut.
const settle = 5 * time.Millisecond

// Detach cuts the link to the primary and verifies that it is cut.
func (p *PostgreSQL) Detach(ctx context.Context, drain time.Duration) (engine.Report, error) {
	var report engine.Report
	if !p.serving() {
		return engine.Report{Loading: true}, errors.New("cutting the replication link: the engine's data is being made")
	}
	err := p.with(ctx, &p.orders, func(c *conn) error {
		if !p.toldBySQL(c.life) {
			go p.wal.expect(ctx, c.life) // what is asked at the end
		}
		if err := p.drain(ctx, c, drain); err != nil {
			return err
		}
		p.setUpstream("")
		p.expectNobody()
		if p.doorNow() == following {
			if err := p.writeDoor(c.life, detached); err != nil {
				return err
			}
		}
		if err := p.apply(ctx, c, settings{standbys: p.takePrepared()}); err != nil {
			return err
		}
		if err := p.disk.drop(catchFile); err != nil {
			return err
		}
		if err := p.cut(ctx, c); err != nil {
			return fmt.Errorf("cutting the replication link: %w", err)
		}
		var err error
		if report, err = p.look(ctx, c); err == nil && report.Primary {
			err = errors.New("cutting the replication link: the engine is a primary")
		}
		return err
	})
	return report, err
}

// receivers are the processes that receive WAL, or are about to. The view of receivers shows one only once it is connected.
func receivers(ctx context.Context, c *conn) ([]int, error) {
	rows, err := c.again(ctx, "SELECT pid FROM pg_catalog.pg_stat_get_activity(NULL) WHERE backend_type = 'walreceiver'")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, r := range rows {
		pid, err := strconv.Atoi(r[0])
		if err != nil {
			return nil, fmt.Errorf("reading a process's number %q", r[0])
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// drain returns when the link has ended, which it does after everything that was sent is read, or when d is over.
func (p *PostgreSQL) drain(ctx context.Context, c *conn, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		pids, err := receivers(ctx, c)
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := awaitEnd(ctx, pids, end); err != nil {
			return err
		}
	}
	return nil
}

// awaitEnd returns when processes have ended, or at an instant. The kernel is asked, which costs next to nothing: a failover has more
// to compute than the processors of a small machine have time for, and whoever asks the server takes part of that.
func awaitEnd(ctx context.Context, pids []int, until time.Time) error {
	for time.Now().Before(until) {
		if !slices.ContainsFunc(pids, func(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }) {
			return nil
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// cut ends the receiver, which writes what it has before it goes, and returns when neither it nor another is there and the
// position stands still. The startup process has been told by then not to start another, and looks at that before it would.
func (p *PostgreSQL) cut(ctx context.Context, c *conn) error {
	var last place
	for still := false; ; {
		pids, err := receivers(ctx, c)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("ending the WAL receiver %d: %w", pid, err)
			}
		}
		at, _, err := p.whereNow(ctx, c)
		if err != nil {
			return err
		}
		if len(pids) == 0 && at == last && still {
			return nil
		}
		still, last = len(pids) == 0, at
		if still {
			err = pause(ctx, settle)
		} else {
			err = awaitEnd(ctx, pids, time.Now().Add(settle))
		}
		if err != nil {
			return fmt.Errorf("%w: WAL receivers left: %d", err, len(pids))
		}
	}
}
