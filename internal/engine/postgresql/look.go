package postgresql

import (
	"context"
	"net"

	"understudy.dev/understudy/internal/engine"
)

// lookQuery asks what a standby has replayed before what it has received, so that the latter is more unless other WAL than the
// receiver's was replayed. Whether it is a standby is asked once, so that one in the middle of its promotion is not half of each.
const lookQuery = "SELECT s.standby, w.status, w.sender_host, w.sender_port, w.received_tli, w.flushed_lsn, s.replayed, " +
	"CASE WHEN s.standby THEN pg_catalog.pg_get_wal_replay_pause_state() = 'paused' ELSE false END, " +
	"CASE WHEN s.standby THEN NULL ELSE pg_catalog.pg_current_wal_flush_lsn() END, " +
	"CASE WHEN s.standby THEN NULL ELSE pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn()), 8) END " +
	"FROM (SELECT pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.pg_last_wal_replay_lsn() AS replayed OFFSET 0) AS s " +
	"LEFT JOIN pg_catalog.pg_stat_wal_receiver AS w ON s.standby"

// look reads what a report tells.
func (p *PostgreSQL) look(ctx context.Context, c *conn) (engine.Report, error) {
	// A server that was killed can be read long before it has replayed all that it received, and until then it tells too little.
	caughtUp, err := p.seeCaughtUp(ctx, c)
	if err != nil {
		return engine.Report{}, err
	}
	rows, err := c.again(ctx, lookQuery)
	if err != nil {
		return engine.Report{}, err
	}
	row := rows[0]
	at, told := p.placeOf(c.life, row)
	if !told {
		if at, err = identify(ctx, c); err != nil {
			return engine.Report{}, err
		}
	}
	p.mu.Lock()
	if p.life == c.life {
		p.known = at
	}
	upstream := p.upstream // while there is no link, it is where it tries
	p.mu.Unlock()
	r := engine.Report{
		Primary: row[0] == "f", Exact: true, FollowsEarly: true, Offset: int64(at.LSN), History: at.history(), HasData: p.disk.hasData(), //nolint:gosec // a position stays far below 2^63
	}
	if r.Primary {
		return r, nil
	}
	r.Upstream = upstream
	if row[2] != "" {
		r.Upstream = net.JoinHostPort(row[2], row[3])
	}
	r.LinkUp = row[1] == streaming
	if row[7] == "t" {
		r.Failing = "it does not replay what it receives: replay is paused, by a person (pg_wal_replay_pause) or since its primary has more of max_connections, " +
			"max_wal_senders or the like: resume it, or delete its pod, which starts it with as much"
	}
	r.Loading, r.Redirectable = !caughtUp, !caughtUp
	return r, nil
}

// streaming is the state of a receiver that receives.
const streaming = "streaming"

// placeOf is where a server is by a row of lookQuery, which costs less than to identify it: false if the row does not say. The
// timeline of a standby is the one that it replays, which SQL does not tell; it stays what it was while the receiver receives it.
func (p *PostgreSQL) placeOf(life int, row []string) (place, bool) {
	p.mu.Lock()
	known := p.known
	current := p.life == life
	p.mu.Unlock()
	if !current || known.System == "" {
		return place{}, false
	}
	if row[0] == "f" {
		at, err := parsePlace(known.System, row[9], 16, row[8])
		return at, err == nil
	}
	at, err := parsePlace(known.System, row[4], 10, row[5])
	replayed, err2 := parseLSN(row[6])
	return at, err == nil && err2 == nil && row[1] == streaming && at.Timeline == known.Timeline && at.LSN >= replayed
}

// seeCaughtUp finds out whether this life of a standby has replayed all that its files had. Its startup process waits for more only then, and it
// receives only then.
func (p *PostgreSQL) seeCaughtUp(ctx context.Context, c *conn) (bool, error) {
	p.mu.Lock()
	done := p.caughtUp
	p.mu.Unlock()
	if done {
		return true, nil
	}
	rows, err := c.again(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE backend_type = 'walreceiver' OR "+
		"backend_type = 'startup' AND wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalStream'))")
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.caughtUp = p.caughtUp || (rows[0][0] == "t" && p.life == c.life)
	return p.caughtUp, nil
}
