package postgresql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"understudy.dev/understudy/internal/engine"
)

// Follow points the server at its new primary. When its data cannot simply go on from there, it keeps in mind what must be done
// to it: the reports say so from then on, Replace begins it, and Follow is to be asked again once the server runs again.
func (p *PostgreSQL) Follow(ctx context.Context, address string) error {
	p.setPending(nil)
	if !p.serving() {
		return p.redirect(address)
	}
	err := p.with(ctx, &p.orders, func(c *conn) error {
		// A primary that was killed before its first checkpoint can be read before it has replayed all that it wrote. It would seem to
		// have less than the new primary, and follow it with more: PostgreSQL then asks for the same WAL again and again.
		if caughtUp, err := p.replayed(ctx, c); err != nil || !caughtUp {
			return errors.Join(err, p.redirectCatchUp(address))
		}
		if goesOn, err := p.goesOnUnasked(ctx, c, address); err != nil || goesOn {
			if err == nil {
				err = p.stream(ctx, c, address)
			}
			return err
		}
		f, err := p.examine(ctx, c, address)
		if err != nil {
			return fmt.Errorf("following %s: %w", address, err)
		}
		if f.kind != wishNone {
			return p.wishFor(f)
		}
		return p.stream(ctx, c, address)
	})
	if stateOf(err) == cannotConnectNow {
		return p.redirectCatchUp(address)
	}
	return err
}

// replayed reports whether the server has replayed all that its files have, or is a primary.
func (p *PostgreSQL) replayed(ctx context.Context, c *conn) (bool, error) {
	p.mu.Lock()
	known := p.caughtUp && p.life == c.life
	p.mu.Unlock()
	if known {
		return true, nil
	}
	report, err := p.look(ctx, c)
	return !report.Loading, err
}

// finding is what following an address takes.
type finding struct {
	kind    wishKind
	address string
	system  string
	lost    *Lost
}

// examine compares this member's data with the primary's, and sees to it that the primary keeps what this member needs.
func (p *PostgreSQL) examine(ctx context.Context, c *conn, address string) (finding, error) {
	f := finding{address: address}
	own, standby, err := p.whereNow(ctx, c) // before the primary is asked: what the primary has only grows
	if err != nil {
		return f, err
	}
	if !standby {
		return f, errors.New("this member's engine is a primary: it must be fenced first")
	}
	until := time.Now().Add(promotionTime)
	remote, its, err := p.reach(ctx, address, until)
	if err != nil {
		return f, err
	}
	defer remote.close()
	if its.standby {
		if goesOn, err := p.goesOnFrom(ctx, remote, own, its, until); err != nil || goesOn {
			return f, err
		}
	}
	primary, turns, err := identifyPrimary(ctx, remote)
	if err != nil {
		return f, err
	}
	f.system = primary.System
	if f.kind, f.lost, err = p.judge(ctx, remote, own, primary, turns); err != nil {
		return f, err
	}
	if f.kind == wishRewind {
		if err := firstCheckpoint(ctx, remote, primary.Timeline); err != nil {
			return f, err
		}
	}
	now, err := p.stanceOf(ctx, remote) // slots too may have changed meanwhile
	if err != nil {
		return f, err
	}
	return f, p.keepSlot(ctx, remote, now, f.kind == wishCopy)
}

// stance is how a server that is to be followed stands to that. Both are one question: a session that was just made takes a while for each.
type stance struct {
	standby bool
	slot    string // this member's on it: its wal_status, slotActive, or none
}

func (p *PostgreSQL) stanceOf(ctx context.Context, remote *conn) (stance, error) {
	row, err := remote.one(ctx, "SELECT pg_catalog.pg_is_in_recovery(), CASE WHEN s.slot_name IS NULL THEN '' WHEN s.active THEN '"+slotActive+"' "+
		"ELSE coalesce(s.wal_status, '"+slotUnused+"') END FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_get_replication_slots() AS s ON s.slot_name = "+
		quoteLiteral(slotName(p.config.Member)))
	if err != nil {
		return stance{}, err
	}
	return stance{standby: row[0] == "t", slot: row[1]}, nil
}

// reach connects to the primary at address, over the connection that was made beforehand if that answers.
func (p *PostgreSQL) reach(ctx context.Context, address string, until time.Time) (*conn, stance, error) {
	if c := p.takeExpected(ctx, address); c != nil {
		if its, err := p.stanceOf(ctx, c); err == nil {
			return c, its, nil
		}
		c.close()
	}
	c, err := p.dialAtPromotion(ctx, address, until)
	if err != nil {
		return nil, stance{}, err
	}
	its, err := p.stanceOf(ctx, c)
	if err != nil {
		c.close()
	}
	return c, its, err
}

// promotionTime is how long a server that is being promoted is waited for. It is short: a promise may be asked for meanwhile.
const promotionTime = 150 * time.Millisecond

// notLetIn is what a server answers whose door is closed.
const notLetIn = "28000"

// dialAtPromotion connects to the primary at address, which may be at its promotion, and lets nobody in yet.
func (p *PostgreSQL) dialAtPromotion(ctx context.Context, address string, until time.Time) (*conn, error) {
	for {
		c, err := p.dialPrimary(ctx, address)
		if err == nil || stateOf(err) != notLetIn || time.Now().After(until) {
			return c, err
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// goesOnFrom reports whether this member can stream from a server that is about to be promoted, before it is: it has all that
// this member has, on the same timeline. Connected by then, the receiver only changes the timeline when the promotion comes. If
// not, it returns once the server is no standby any more, or its time is over: then whoever looks finds a standby.
func (p *PostgreSQL) goesOnFrom(ctx context.Context, remote *conn, own place, its stance, until time.Time) (bool, error) {
	at, err := identify(ctx, remote)
	if err != nil {
		return false, err
	}
	if own.System == at.System && own.Timeline == at.Timeline && own.LSN <= at.LSN && !exists(p.disk.note(emptyFile)) {
		if kept, err := stillThere(ctx, remote, own.LSN, at.LSN); err != nil || kept {
			return kept, errors.Join(err, p.keepSlot(ctx, remote, its, false))
		}
	}
	for standby := true; standby && err == nil && time.Now().Before(until); {
		if err = pause(ctx, 2*time.Millisecond); err == nil {
			standby, err = inRecovery(ctx, remote)
		}
	}
	return false, err
}

func inRecovery(ctx context.Context, c *conn) (bool, error) {
	row, err := c.one(ctx, "SELECT pg_catalog.pg_is_in_recovery()")
	return err == nil && row[0] == "t", err
}

// firstCheckpoint sees to it that a primary has made a checkpoint of its own. Before that its control file names the timeline of its
// predecessor, and up to PostgreSQL 15 pg_rewind takes it from there: the rewound server would look for its end on a timeline that
// does not lead there, and never start.
func firstCheckpoint(ctx context.Context, remote *conn, timeline uint32) error {
	row, err := remote.one(ctx, "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()")
	if err != nil || row[0] == strconv.FormatUint(uint64(timeline), 10) {
		return err
	}
	if _, err := remote.query(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("waiting for the primary's first checkpoint, before which it cannot be rewound to: %w", err)
	}
	return nil
}

// identifyPrimary asks a server that must be a primary where it is and how it came there.
func identifyPrimary(ctx context.Context, c *conn) (place, []turn, error) {
	standby, err := inRecovery(ctx, c)
	if err != nil {
		return place{}, nil, err
	}
	if standby {
		return place{}, nil, errors.New("it is no primary yet")
	}
	at, err := identify(ctx, c)
	if err != nil || at.Timeline == 1 {
		return at, nil, err
	}
	row, err := c.one(ctx, "TIMELINE_HISTORY "+strconv.FormatUint(uint64(at.Timeline), 10))
	if err != nil {
		return at, nil, err
	}
	turns, err := parseHistory(row[1])
	return at, turns, err
}

// judge decides what must become of this member's data.
func (p *PostgreSQL) judge(ctx context.Context, remote *conn, own, primary place, turns []turn) (wishKind, *Lost, error) {
	if exists(p.disk.note(importedFile)) {
		return wishNone, nil, &engine.StuckError{Reason: engine.RejoinFailed, Err: errImported}
	}
	if exists(p.disk.note(emptyFile)) {
		return wishCopy, nil, nil
	}
	ownTurns, err := p.ownTurns(own.Timeline)
	if err != nil {
		return wishNone, nil, err
	}
	switch rel, fork := compare(own, ownTurns, primary, turns); rel {
	case streams:
		kept, err := stillThere(ctx, remote, own.LSN, primary.LSN)
		if err != nil || kept {
			return wishNone, nil, err
		}
		return wishCopy, nil, nil
	case diverged:
		return wishRewind, lostBetween(own, fork), nil
	case ahead:
		return wishCopy, lostBetween(own, fork), nil
	default:
		return wishCopy, nil, nil
	}
}

// ownTurns is the history of this member's own timeline.
func (p *PostgreSQL) ownTurns(timeline uint32) ([]turn, error) {
	if timeline == 1 {
		return nil, nil
	}
	raw, err := os.ReadFile(filepath.Join(p.data(), "pg_wal", fmt.Sprintf("%08X.history", timeline)))
	if err != nil {
		return nil, fmt.Errorf("reading the history of timeline %d: %w", timeline, err)
	}
	return parseHistory(string(raw))
}

// stillThere reports whether the primary still has the WAL from a position on.
func stillThere(ctx context.Context, remote *conn, from, upTo lsn) (bool, error) {
	if from >= upTo {
		return true, nil
	}
	row, err := remote.one(ctx, "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))")
	if err != nil {
		return false, err
	}
	size, err := strconv.ParseUint(row[0], 10, 64)
	if err != nil {
		return false, fmt.Errorf("reading wal_segment_size %q", row[0])
	}
	rows, err := remote.query(ctx, "SELECT 1 FROM pg_catalog.pg_ls_waldir() WHERE pg_catalog.length(name) = 24 AND "+
		"pg_catalog.right(name, 16) = '"+segmentNumber(from, size)+"' LIMIT 1")
	return len(rows) > 0, err
}

// wishFor keeps in mind what must be done to the data.
func (p *PostgreSQL) wishFor(f finding) error {
	w, err := p.wished()
	if err != nil {
		return err
	}
	if w.stale(f.address, f.system) {
		w = wish{}
	}
	if w.Attempts >= maxAttempts {
		return w.gaveUp()
	}
	kind := f.kind
	if w.Kind == wishCopy {
		kind = wishCopy // the rewind was tried already
	}
	w.Kind, w.Address, w.System, w.Pod, w.Armed, w.Lost = kind, f.address, f.system, p.config.ApplicationName, true, f.lost
	p.setPending(&w)
	return nil
}

// Replace notes what must be done to the data, and stops the server so that the next process does it.
func (p *PostgreSQL) Replace(ctx context.Context, had engine.Had) error {
	w := p.pendingWish()
	if w == nil {
		return nil
	}
	return p.with(ctx, &p.orders, func(*conn) error { // no other order is under way
		if p.pendingWish() != w {
			return nil // told otherwise meanwhile
		}
		p.setPending(nil)
		if w.Lost != nil {
			w.Lost.Epoch, w.Lost.Primary = had.Epoch, had.Primary
		}
		if err := p.disk.forget("copy", "rewind"); err != nil {
			return err
		}
		if err := saveJSON(p.disk.note(wishFile), *w); err != nil {
			return err
		}
		return p.stop()
	})
}

func (p *PostgreSQL) setPending(w *wish) {
	p.mu.Lock()
	p.pending = w
	p.mu.Unlock()
}

func (p *PostgreSQL) pendingWish() *wish {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending
}

// redirect tells a copy that is under way where to go on if it fails.
func (p *PostgreSQL) redirect(address string) error {
	w, err := p.wished()
	if err != nil {
		return err
	}
	if w.Kind != wishNone && w.Address != address {
		w = w.anew()
		w.Address, w.Armed = address, true
		if err := saveJSON(p.disk.note(wishFile), w); err != nil {
			return err
		}
	}
	return fmt.Errorf("following %s: %w: its data is being made (%s): ask again when it runs", address, engine.ErrLoading, w.Kind)
}

// redirectCatchUp leads a server that cannot be read yet to another primary.
func (p *PostgreSQL) redirectCatchUp(address string) error {
	var catch catchUp
	found, err := loadJSON(p.disk.note(catchFile), &catch)
	if err != nil {
		return err
	}
	if found {
		catch.Address = address
		if err := saveJSON(p.disk.note(catchFile), catch); err != nil {
			return err
		}
		s := settings{conninfo: p.conninfo(address, p.config.ApplicationName+rejoining), standbys: nobody}
		if _, err := p.writeSettings(p.currentLife(), s); err != nil {
			return err
		}
		if err := p.hangUp(); err != nil {
			return err
		}
	}
	return fmt.Errorf("following %s: %w: ask again when it runs", address, engine.ErrLoading)
}

// stream follows under this member's own name.
func (p *PostgreSQL) stream(ctx context.Context, c *conn, address string) error {
	if err := p.disk.drop(wishFile, catchFile); err != nil {
		return err
	}
	s := settings{conninfo: p.conninfo(address, p.config.ApplicationName), slot: slotName(p.config.Member), standbys: nobody}
	p.expectNobody()
	p.setUpstream(address)
	// One reload for both: each wakes every process of the server. Its first process reads pg_hba.conf in the handler in which it tells the others to
	// reload, before it accepts anybody, so whoever comes once our own session has seen the settings is judged by the new file.
	if err := p.writeDoor(c.life, following); err != nil {
		return err
	}
	if err := p.apply(ctx, c, s); err != nil {
		return err
	}
	p.afterwards(c.life, following, p.afterFollowing(address, lookTimes))
	return nil
}

// lookTimes is how often a replica's link is looked at soon after it was told to follow. Later the probes do that.
const lookTimes = 3

// afterFollowing gives the server the slots that it would need as primary, and compares its data with the primary's if they have not come together.
func (p *PostgreSQL) afterFollowing(address string, left int) func(ctx context.Context, c *conn) {
	return func(ctx context.Context, c *conn) {
		p.mu.Lock()
		told := p.upstream
		p.mu.Unlock()
		if told != address {
			return // and who told it otherwise looks after that
		}
		if err := p.compareUnlessLinked(ctx, c, address); err != nil {
			if left > 1 {
				p.afterwards(c.life, following, p.afterFollowing(address, left-1)) // the primary may not serve yet
			}
			return
		}
		p.offerSlots(ctx, c)
	}
}

// compareUnlessLinked leaves the orders' turn soon to whoever is to cut the link: a primary that is gone answers nothing.
func (p *PostgreSQL) compareUnlessLinked(ctx context.Context, c *conn, address string) error {
	ctx, cancel := context.WithTimeout(ctx, promotionTime)
	defer cancel()
	rows, err := c.again(ctx, lookQuery)
	if err != nil || rows[0][1] == streaming {
		return err
	}
	f, err := p.examine(ctx, c, address)
	if err == nil && f.kind != wishNone {
		err = p.wishFor(f)
	}
	return err
}

// afterTakeover is when what a takeover need not wait for is done: right after it, the processors have more to do than they can.
const afterTakeover = 300 * time.Millisecond

// afterwards does something a little later, unless this life of the server is over by then, or who may connect has changed: it was told otherwise.
func (p *PostgreSQL) afterwards(life int, meanwhile door, do func(ctx context.Context, c *conn)) {
	time.AfterFunc(afterTakeover, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // of which most may go by before it is its turn
		defer cancel()
		_ = p.with(ctx, &p.orders, func(c *conn) error {
			if c.life == life && p.currentLife() == life && p.doorNow() == meanwhile {
				do(ctx, c)
			}
			return nil
		})
	})
}

func (p *PostgreSQL) setUpstream(address string) {
	p.mu.Lock()
	p.upstream, p.linkLostAt = address, time.Now()
	p.mu.Unlock()
}
