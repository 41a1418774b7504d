package postgresql

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"understudy.dev/understudy/internal/engine"
)

// lookQuery asks whether the server is a standby once, so that one in the middle of its promotion is not half of each.
const lookQuery = "SELECT s.standby, w.status, w.sender_host, w.sender_port, w.received_tli, pg_catalog.pg_last_wal_receive_lsn(), s.replayed, " +
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
	at, err := p.placeBy(ctx, c, row)
	if err != nil {
		return engine.Report{}, err
	}
	r := engine.Report{
		Primary: row[0] == "f", Exact: true, FollowsEarly: true, Offset: int64(at.LSN), History: at.history(), HasData: p.disk.hasData(), //nolint:gosec // a position stays far below 2^63
	}
	if r.Primary {
		return r, nil
	}
	r.Upstream, r.LinkUp = p.link(row)
	if row[7] == "t" {
		r.Failing = "it does not replay what it receives: replay is paused, by a person (pg_wal_replay_pause) or since its primary has more of max_connections, " +
			"max_wal_senders or the like: resume it, or delete its pod, which starts it with as much"
	}
	r.Loading, r.Redirectable = !caughtUp, !caughtUp
	return r, nil
}

// link is whom a standby follows, by a row of lookQuery, and whether it receives.
func (p *PostgreSQL) link(row []string) (upstream string, up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.upstream == "" {
		return "", false // it was told nobody: who still receives then is of a catch-up, and has not noticed that it is over
	}
	if row[2] == "" {
		return p.upstream, false // where it tries
	}
	return net.JoinHostPort(row[2], row[3]), row[1] == streaming
}

// whereNow is where the server is, and whether it is a standby.
func (p *PostgreSQL) whereNow(ctx context.Context, c *conn) (at place, standby bool, err error) {
	rows, err := c.again(ctx, lookQuery)
	if err != nil {
		return place{}, false, err
	}
	at, err = p.placeBy(ctx, c, rows[0])
	return at, rows[0][0] == "t", err
}

// streaming is the state of a receiver that receives.
const streaming = "streaming"

// placeBy is where a server is by a row of lookQuery, or by being identified, which costs more.
func (p *PostgreSQL) placeBy(ctx context.Context, c *conn, row []string) (place, error) {
	at, told := p.placeOf(c.life, row)
	if !told {
		var err error
		if at, err = identify(ctx, c); err != nil {
			return place{}, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == c.life {
		p.known = at
		if row[1] == streaming && row[4] == at.timeline() {
			p.received = at.Timeline
		}
	}
	return at, nil
}

// placeOf is where a server is by a row of lookQuery: false if the row does not say. SQL does not tell which timeline a standby replays. It is the one
// that this life was identified on, and was seen to receive, as long as pg_wal has no later one's history: a receiver writes that before it asks for
// the timeline, and nothing is replayed without it. While it receives that one and has received what it replayed, no folder need be looked at.
func (p *PostgreSQL) placeOf(life int, row []string) (place, bool) {
	p.mu.Lock()
	known := p.known
	sure := p.life == life && known.System != "" && (row[0] == "f" || p.received == known.Timeline)
	p.mu.Unlock()
	if !sure {
		return place{}, false
	}
	if row[0] == "f" {
		at, err := parsePlace(known.System, row[9], 16, row[8])
		return at, err == nil
	}
	received, err := parseLSN(row[5])
	replayed, err2 := parseLSN(row[6])
	known.LSN = max(received, replayed)
	switch {
	case err != nil || err2 != nil:
		return place{}, false
	case row[1] == streaming && row[4] != known.timeline():
		return place{}, false
	case row[1] == streaming && received >= replayed:
		return known, true
	}
	return known, !p.disk.laterTimeline(known.Timeline)
}

// toldBySQL reports whether placeOf is likely to say where a standby is.
func (p *PostgreSQL) toldBySQL(life int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life == life && p.known.System != "" && p.received == p.known.Timeline
}

// laterTimeline reports whether the data has the history of a later timeline, or cannot be read.
func (d disk) laterTimeline(timeline uint32) bool {
	dir, err := os.Open(filepath.Join(d.path(dataDir), "pg_wal"))
	if err != nil {
		return true
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	return err != nil || slices.ContainsFunc(names, func(name string) bool {
		number, history := strings.CutSuffix(name, ".history")
		if !history {
			return false
		}
		later, err := strconv.ParseUint(number, 16, 32)
		return err != nil || later > uint64(timeline)
	})
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
	rows, err := c.again(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(NULL) WHERE backend_type = 'walreceiver' OR "+
		"backend_type = 'startup' AND wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalStream'))")
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.caughtUp = p.caughtUp || (rows[0][0] == "t" && p.life == c.life)
	return p.caughtUp, nil
}
