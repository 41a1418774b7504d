package postgresql

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

// takeInTimeout bounds how long orders wait for new files to be in force.
const takeInTimeout = time.Second

// tuning is what the user chooses of the server's configuration, and what became of it. PostgreSQL.mu guards it.
type tuning struct {
	wanted agentconfig.Reloadable // by the service
	inUse  agentconfig.Reloadable // by the files that the server reads
	told   engine.Configuration   // what the operator hears
	life   int                    // of the server that was looked at last
}

var _ engine.Reconfigurer = (*PostgreSQL)(nil)

func (p *PostgreSQL) used() agentconfig.Reloadable {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tuning.inUse
}

func (p *PostgreSQL) use(r agentconfig.Reloadable) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tuning.inUse = r
}

// useIn is use while a server runs: the next one is given its own when it is started.
func (p *PostgreSQL) useIn(life int, r agentconfig.Reloadable) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != life {
		return errEnded
	}
	p.tuning.inUse = r
	return nil
}

// Reconfigure takes in parameters, lines of pg_hba.conf and certificates. A server that does not run takes them in when it is started.
func (p *PostgreSQL) Reconfigure(ctx context.Context, config agentconfig.Config) (engine.Configuration, error) {
	if config.PostgreSQL == nil {
		return engine.Configuration{}, errors.New("configuring PostgreSQL: the configuration is of another engine")
	}
	p.imports.Store(config.PostgreSQL.Import)
	p.takeMembers(config.PostgreSQL.Members)
	want := config.PostgreSQL.Reloadable()
	p.mu.Lock()
	p.tuning.wanted = want
	due := p.stage == runServer && (p.tuning.life != p.life || p.tuning.told.Judged != want.Digest())
	p.mu.Unlock()
	err := p.takeCertificates()
	if due {
		err = errors.Join(err, p.settleConfiguration(ctx, want))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tuning.told, err
}

// settleConfiguration judges what is wanted, and looks at what the server runs with.
func (p *PostgreSQL) settleConfiguration(ctx context.Context, want agentconfig.Reloadable) error {
	c, err := p.dial(ctx)
	if stateOf(err) == cannotConnectNow {
		return nil // it starts
	}
	if err != nil {
		return err
	}
	defer c.close()
	k, why := p.loadKept(), ""
	if k.Trial == p.trialOf(p.used()) {
		k.Trial, k.Starts = "", 0 // it can be read: the trial is over
	}
	switch {
	case k.Accepted != nil && k.Accepted.Digest() == want.Digest() && p.used().Digest() == want.Digest():
	case k.Accepted != nil && k.Refused == want.Digest() && p.toldOf(want).Refused != "":
		why = k.Why // another server would say the same
	default:
		if why, err = p.judgeConfiguration(ctx, c, k, want); err != nil {
			return err
		}
	}
	pending, err := p.pendingRestart(ctx)
	if err != nil {
		return err
	}
	if err := p.noteJudged(k, want, why, len(pending) == 0); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == c.life {
		p.tuning.life = c.life
		p.tuning.told = engine.Configuration{Judged: want.Digest(), Refused: why, RestartFor: pending}
	}
	return nil
}

func (p *PostgreSQL) toldOf(r agentconfig.Reloadable) engine.Configuration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tuning.told.Judged != r.Digest() {
		return engine.Configuration{}
	}
	return p.tuning.told
}

// noteJudged makes durable what was found out. complete: nothing waits for a restart, so the server runs with all that was
// accepted.
func (p *PostgreSQL) noteJudged(k kept, want agentconfig.Reloadable, why string, complete bool) error {
	if why == "" {
		k.Accepted, k.Refused, k.Why = &want, "", ""
	} else {
		k.Refused, k.Why = want.Digest(), why
	}
	if used := p.used(); complete && k.Accepted != nil && k.Accepted.Digest() == used.Digest() {
		k.Proven, k.Trial, k.Starts = &used, "", 0
	}
	if reflect.DeepEqual(k, p.loadKept()) {
		return nil
	}
	return p.saveKept(k)
}

// judgeConfiguration takes a configuration in, or says what is wrong with it. The server goes on with what it had in that case.
func (p *PostgreSQL) judgeConfiguration(ctx context.Context, c *conn, k kept, want agentconfig.Reloadable) (why string, err error) {
	if err := errors.Join(p.checkParameters(want.Parameters), checkHBA(want.HBA), p.failedTrial(k, want)); err != nil {
		return err.Error(), nil
	}
	if why, err = p.checkBeside(ctx, c, want); err != nil {
		return "", err
	}
	if why != "" {
		return why + ": correct spec.engine.postgresql.parameters", nil
	}
	ctx, cancel := context.WithTimeout(ctx, takeInTimeout)
	defer cancel()
	err = p.with(ctx, &p.orders, func(o *conn) error {
		if why, err = p.judgeHBA(ctx, o, want.HBA); err != nil {
			return err
		}
		before := p.used()
		if why != "" && k.Accepted == nil && slices.Equal(before.HBA, want.HBA) {
			// They are in the file, which the server therefore does not read. Nobody is let in by other lines than were asked for.
			return p.takeIn(ctx, o, agentconfig.Reloadable{Parameters: before.Parameters, HBA: []string{rejectAll}})
		}
		if why != "" {
			return nil
		}
		if err := p.takeIn(ctx, o, want); err != nil {
			return p.takeBack(o, before, err)
		}
		if why, err = p.faults(ctx); err != nil || why != "" {
			return p.takeBack(o, before, err)
		}
		return nil
	})
	return why, err
}

// takeIn makes the files of a configuration, and returns when they are in force.
func (p *PostgreSQL) takeIn(ctx context.Context, c *conn, r agentconfig.Reloadable) error {
	if err := p.useIn(c.life, r); err != nil {
		return err
	}
	if err := p.writeConfiguration(c.life); err != nil {
		return err
	}
	if err := p.writeDoor(c.life, p.doorNow()); err != nil {
		return err
	}
	return p.applyFiles(ctx, c)
}

// takeBack restores what the server had, and returns err.
func (p *PostgreSQL) takeBack(c *conn, before agentconfig.Reloadable, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), takeInTimeout) // also when the time for taking in is over
	defer cancel()
	if e := p.takeIn(ctx, c, before); e != nil {
		err = errors.Join(err, fmt.Errorf("taking back a configuration: %w", e))
	}
	return err
}

func (p *PostgreSQL) writeConfiguration(life int) error {
	text := p.configuration()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != life {
		return errEnded
	}
	return writeAtomically(p.run("postgresql.conf"), []byte(text), false)
}

// pendingRestart names what takes effect only when the server is started again. A connection that is made now knows what the
// postmaster found at its last reload.
func (p *PostgreSQL) pendingRestart(ctx context.Context) ([]string, error) {
	c, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return pendingOf(ctx, c)
}

func pendingOf(ctx context.Context, c *conn) ([]string, error) {
	rows, err := c.query(ctx, "SELECT name FROM pg_catalog.pg_settings WHERE pending_restart ORDER BY name")
	var out []string
	for _, r := range rows {
		out = append(out, r[0])
	}
	return out, err
}

// faults says which values the server could not take in. For one that needs a restart it gives the same answer, so those are
// left out: that they are valid is known from the check before.
func (p *PostgreSQL) faults(ctx context.Context) (string, error) {
	c, err := p.dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.close()
	rows, err := c.query(ctx, "SELECT name, setting, error FROM pg_catalog.pg_file_settings WHERE error IS NOT NULL AND name IS NOT NULL AND sourcefile = "+
		quoteLiteral(p.run("postgresql.conf"))+" ORDER BY seqno")
	if err != nil {
		return "", err
	}
	pending, err := pendingOf(ctx, c)
	var out []string
	for _, r := range rows {
		if !slices.Contains(pending, r[0]) {
			out = append(out, fmt.Sprintf("parameter %q = %q: %s: correct spec.engine.postgresql.parameters", r[0], r[1], r[2]))
		}
	}
	return strings.Join(out, "; "), err
}

// rejectAll keeps out whoever no line above it named.
const rejectAll = "host all all all reject"

// judgeHBA says which line of pg_hba.conf the server does not take. For that they stand in the file for a moment, below a line
// that lets nobody come as far: a reload meanwhile changes nothing.
func (p *PostgreSQL) judgeHBA(ctx context.Context, c *conn, lines []string) (why string, err error) {
	above := p.hba(p.doorNow(), p.used().HBA) + rejectAll + "\n"
	err = p.writeHBA(c.life, above+strings.Join(lines, "\n")+"\n")
	defer func() { err = errors.Join(err, p.writeDoor(c.life, p.doorNow())) }()
	if err != nil {
		return "", err
	}
	first := strings.Count(above, "\n") + 1
	rows, err := c.query(ctx, fmt.Sprintf("SELECT line_number, error FROM pg_catalog.pg_hba_file_rules "+
		"WHERE error IS NOT NULL AND line_number >= %d ORDER BY line_number", first))
	var out []string
	for _, r := range rows {
		n, _ := strconv.Atoi(r[0])
		if n -= first; n >= 0 && n < len(lines) {
			out = append(out, fmt.Sprintf("the pg_hba line %q: %s: correct spec.engine.postgresql.hostBasedAuthentication", lines[n], r[1]))
		}
	}
	return strings.Join(out, "; "), err
}
