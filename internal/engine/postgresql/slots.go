package postgresql

import (
	"context"
	"slices"
	"strings"
	"time"
)

// keepSlot makes the primary keep the WAL that this member has not got yet. A slot that let go of it already is made anew.
func (p *PostgreSQL) keepSlot(ctx context.Context, remote *conn, its stance, fresh bool) error {
	name := quoteLiteral(slotName(p.config.Member))
	if its.slot != "" && its.slot != slotActive && (fresh || its.slot == slotLost) {
		if _, err := remote.query(ctx, "SELECT pg_catalog.pg_drop_replication_slot("+name+")"); err != nil {
			return err
		}
		its.slot = ""
	}
	if its.slot != "" {
		return nil
	}
	_, err := remote.query(ctx, "SELECT pg_catalog.pg_create_physical_replication_slot("+name+", true)")
	if stateOf(err) == duplicateObject {
		return nil // the primary made it meanwhile
	}
	return err
}

const duplicateObject = "42710"

// What becomes of a slot, beside PostgreSQL's own words for its WAL.
const (
	slotActive = "active"
	slotUnused = "unused" // nobody ever used it, so it keeps no WAL
	slotLost   = "lost"   // PostgreSQL's: it let go of WAL that its member has not got
)

// slot is one of ours on this server.
type slot struct{ active, reserves bool }

func ownSlots(ctx context.Context, c *conn) (map[string]slot, error) {
	rows, err := c.query(ctx, "SELECT slot_name, active, restart_lsn IS NOT NULL FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical'")
	if err != nil {
		return nil, err
	}
	slots := map[string]slot{}
	for _, r := range rows {
		if strings.HasPrefix(r[0], slotPrefix) {
			slots[r[0]] = slot{active: r[1] == "t", reserves: r[2] == "t"}
		}
	}
	return slots, nil
}

// peers' slots by name.
func (p *PostgreSQL) peerSlots() []string {
	var names []string
	for _, m := range *p.members.Load() {
		if m != p.config.Member {
			names = append(names, slotName(m))
		}
	}
	return names
}

// takeMembers learns who the members are by now. Slots of those that left are dropped a little later, when nobody uses them.
func (p *PostgreSQL) takeMembers(members []string) {
	if before := p.members.Swap(&members); slices.Equal(*before, members) {
		return
	}
	p.mu.Lock()
	p.slotsDue = time.Now().Add(slotGrace)
	p.mu.Unlock()
}

// slotGrace is how long a member may take to come to a new primary before the slot that it has there is made to hold WAL back
// for it. To do so the slot is made anew, and a member that comes in that very moment would have to come again.
const slotGrace = 5 * time.Second

// holdForAbsent makes the slots of members that did not come hold WAL back, once.
func (p *PostgreSQL) holdForAbsent(ctx context.Context, c *conn) {
	p.mu.Lock()
	due := !p.slotsDue.IsZero() && time.Now().After(p.slotsDue)
	if due {
		p.slotsDue = time.Time{}
	}
	p.mu.Unlock()
	if !due {
		return
	}
	slots, err := ownSlots(ctx, c)
	if err != nil {
		return
	}
	for name, s := range slots {
		if !s.active && !s.reserves {
			_, _ = c.query(ctx, "SELECT pg_catalog.pg_drop_replication_slot("+quoteLiteral(name)+")")
		}
	}
	p.makeSlots(ctx, c, "true")
}

// offerSlots gives a standby the slots that it needs as primary. They hold no WAL back, for nobody uses them: one that does,
// from an earlier time as primary, would do so for ever.
func (p *PostgreSQL) offerSlots(ctx context.Context, c *conn) {
	slots, err := ownSlots(ctx, c)
	if err != nil {
		return
	}
	for name, s := range slots {
		if !s.active && s.reserves {
			_, _ = c.query(ctx, "SELECT pg_catalog.pg_drop_replication_slot("+quoteLiteral(name)+")")
		}
	}
	p.makeSlots(ctx, c, "false")
}

func (p *PostgreSQL) makeSlots(ctx context.Context, c *conn, reserve string) {
	slots, err := ownSlots(ctx, c)
	if err != nil {
		return
	}
	wanted := map[string]bool{}
	for _, name := range p.peerSlots() {
		wanted[name] = true
		if _, there := slots[name]; !there {
			_, _ = c.query(ctx, "SELECT pg_catalog.pg_create_physical_replication_slot("+quoteLiteral(name)+", "+reserve+")")
		}
	}
	for name, s := range slots {
		if !wanted[name] && !s.active { // of a member that is no more
			_, _ = c.query(ctx, "SELECT pg_catalog.pg_drop_replication_slot("+quoteLiteral(name)+")")
		}
	}
}

// endImpostors ends senders that bear a name of the synchronous set and are not its member: an older connection of the same
// name, or one whose certificate is another's.
func (p *PostgreSQL) endImpostors(ctx context.Context, c *conn) error {
	p.mu.Lock()
	members := p.quorum.Members
	p.mu.Unlock()
	if len(members) == 0 {
		return nil
	}
	quoted := make([]string, len(members))
	for i, m := range members {
		quoted[i] = quoteLiteral(m)
	}
	_, err := c.query(ctx, "SELECT pg_catalog.pg_terminate_backend(r.pid) FROM pg_catalog.pg_stat_replication AS r "+
		"LEFT JOIN pg_catalog.pg_stat_ssl AS s USING (pid) WHERE r.application_name IN ("+strings.Join(quoted, ", ")+") AND ("+
		"EXISTS (SELECT FROM pg_catalog.pg_stat_replication AS n WHERE n.application_name = r.application_name "+
		"AND (n.backend_start, n.pid) > (r.backend_start, r.pid)) "+
		"OR s.client_dn IS NOT NULL AND s.client_dn !~ ('(^|[/,])CN=' || pg_catalog.split_part(r.application_name, '.', 1) || '($|[/,])'))")
	return err
}
