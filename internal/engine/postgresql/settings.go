package postgresql

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"understudy.dev/understudy/internal/engine"
)

const (
	managedFile = "managed.conf"
	// generationName numbers the versions of the file, so that one can see which is in force.
	generationName = "understudy.generation"
	// nobody is the synchronous set of a server that was not told one. With an empty one, commits after a promotion would
	// wait for nobody until the checkpointer, which may be busy, has read the new set; this way they wait.
	nobody = `ANY 1 ("understudy-nobody")`
)

// errEnded says that an order came too late.
var errEnded = errors.New("changing PostgreSQL's files: the server that this was meant for has ended")

// settings change while the server runs.
type settings struct {
	conninfo, slot, standbys string
}

// standbyNames is what PostgreSQL calls the quorum.
func standbyNames(q engine.Quorum) (string, error) {
	if q.Replicas <= 0 {
		return "", nil
	}
	if len(q.Members) == 0 {
		return fmt.Sprintf("ANY %d (*)", q.Replicas), nil
	}
	if q.Replicas > len(q.Members) {
		return "", fmt.Errorf("setting the synchronous set: %d replicas should acknowledge, but it names only %s: every write would "+
			"wait for ever", q.Replicas, strings.Join(q.Members, ", "))
	}
	quoted := make([]string, len(q.Members))
	for i, m := range q.Members {
		quoted[i] = `"` + strings.ReplaceAll(m, `"`, `""`) + `"`
	}
	return fmt.Sprintf("ANY %d (%s)", q.Replicas, strings.Join(quoted, ", ")), nil
}

// writeSettings replaces the file; the server takes it in when it is told to reload.
func (p *PostgreSQL) writeSettings(life int, s settings) (generation int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != life {
		return 0, errEnded
	}
	p.generation++
	text := fmt.Sprintf("primary_conninfo = %s\nprimary_slot_name = %s\nsynchronous_standby_names = %s\n%s = '%d'\n",
		quoteSetting(s.conninfo), quoteSetting(s.slot), quoteSetting(s.standbys), generationName, p.generation)
	if err := writeAtomically(p.run(managedFile), []byte(text), false); err != nil {
		return 0, err
	}
	p.settings = s
	return p.generation, nil
}

// apply makes the server take in settings and verifies that it did.
func (p *PostgreSQL) apply(ctx context.Context, c *conn, s settings) error {
	if _, err := p.writeSettings(c.life, s); err != nil {
		return err
	}
	return p.reload(ctx, c, s)
}

// reload makes the server read its files again, and verifies that it did: the settings, and pg_hba.conf with them.
func (p *PostgreSQL) reload(ctx context.Context, c *conn, s settings) error {
	if _, err := c.query(ctx, "SELECT pg_catalog.pg_reload_conf()"); err != nil {
		return err
	}
	p.mu.Lock()
	want := strconv.Itoa(p.generation)
	p.mu.Unlock()
	const ask = "SELECT pg_catalog.current_setting('" + generationName + "', true), pg_catalog.current_setting('primary_conninfo'), " +
		"pg_catalog.current_setting('synchronous_standby_names')"
	for {
		rows, err := c.query(ctx, ask)
		switch {
		case err != nil:
			return p.whyNotReloaded(ctx, c, err)
		case rows[0][0] == want && (rows[0][1] != s.conninfo || rows[0][2] != s.standbys):
			return fmt.Errorf("reloading PostgreSQL's configuration: primary_conninfo or synchronous_standby_names is %q, %q and not "+
				"what was written: somebody set it with ALTER SYSTEM: take that back with ALTER SYSTEM RESET", rows[0][1], rows[0][2])
		case rows[0][0] == want:
			p.mu.Lock()
			p.inForce, _ = strconv.Atoi(want)
			p.mu.Unlock()
			return nil
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return p.whyNotReloaded(ctx, c, err)
		}
	}
}

// whyNotReloaded adds what the server finds wrong with its files.
func (p *PostgreSQL) whyNotReloaded(ctx context.Context, c *conn, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 200*time.Millisecond)
	defer cancel()
	rows, e := c.query(ctx, "SELECT pg_catalog.format('%s line %s: %s', sourcefile, sourceline, error) FROM pg_catalog.pg_file_settings "+
		"WHERE error IS NOT NULL AND NOT applied LIMIT 1")
	if e == nil && len(rows) > 0 {
		return fmt.Errorf("reloading PostgreSQL's configuration: %w: it refuses %s", err, rows[0][0])
	}
	return fmt.Errorf("reloading PostgreSQL's configuration: %w", err)
}

// pause waits a moment, unless the order's time is over.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
