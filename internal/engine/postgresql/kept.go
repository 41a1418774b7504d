package postgresql

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

const (
	// keptFile is what the data volume remembers of the user's parameters and lines of pg_hba.conf.
	keptFile = "configuration.json"
	// maxTrials is how often a server is started with parameters with which none has become readable yet.
	maxTrials = 3
)

// kept outlives the pod, so that a member never fails to start for what was refused or has not been tried.
type kept struct {
	// Accepted was found good last, and is in force but for what needs a restart. Proven is the last one with which a server ran.
	Accepted *agentconfig.Reloadable `json:"accepted,omitempty"`
	Proven   *agentconfig.Reloadable `json:"proven,omitempty"`
	// Refused is the digest of the one that was refused last, and Why.
	Refused string `json:"refused,omitempty"`
	Why     string `json:"why,omitempty"`
	// Trial names parameters that no server has become readable with, and Starts counts the servers that were started.
	Trial  string `json:"trial,omitempty"`
	Starts int    `json:"starts,omitempty"`
}

// loadKept reads the note. A damaged one counts as none: what is lost is only what to fall back to.
func (p *PostgreSQL) loadKept() kept {
	var k kept
	if _, err := loadJSON(p.disk.note(keptFile), &k); err != nil {
		return kept{}
	}
	return k
}

func (p *PostgreSQL) saveKept(k kept) error { return saveJSON(p.disk.note(keptFile), k) }

// trialOf names parameters on trial in this pod: another pod, which may have more memory, tries anew.
func (p *PostgreSQL) trialOf(r agentconfig.Reloadable) string {
	return p.config.ApplicationName + " " + agentconfig.Reloadable{Parameters: r.Parameters}.Digest()
}

// onTrial reports whether no server is known to have run with these parameters, though one ran with others.
func (p *PostgreSQL) onTrial(k kept, r agentconfig.Reloadable) bool {
	return k.Proven != nil && p.trialOf(*k.Proven) != p.trialOf(r)
}

// failedTrial says that servers with these parameters do not start; nil while that is not known.
func (p *PostgreSQL) failedTrial(k kept, r agentconfig.Reloadable) error {
	if !p.onTrial(k, r) || k.Trial != p.trialOf(r) || k.Starts < maxTrials {
		return nil
	}
	return fmt.Errorf("starting PostgreSQL: with the new parameters it was started %d times and never became readable, so it runs with those before: "+
		"see the log of container engine, and correct spec.engine.postgresql.parameters, or the memory of spec.template.resources", k.Starts)
}

// countTrial counts a server on trial, durably, before it is started.
func (p *PostgreSQL) countTrial() error {
	k, used := p.loadKept(), p.used()
	if !p.onTrial(k, used) {
		return nil
	}
	if name := p.trialOf(used); k.Trial != name {
		k.Trial, k.Starts = name, 0
	}
	k.Starts++
	return p.saveKept(k)
}

// candidates are what a server may be started with, the most wanted first. Lines of pg_hba.conf can be judged by a running
// server alone: such as were not judged wait for it, and with them everything that came with them.
func (p *PostgreSQL) candidates(k kept) []agentconfig.Reloadable {
	p.mu.Lock()
	want := p.tuning.wanted
	p.mu.Unlock()
	var out []agentconfig.Reloadable
	if k.Accepted == nil || (k.Refused != want.Digest() && slices.Equal(want.HBA, k.Accepted.HBA)) {
		out = append(out, want)
	}
	for _, r := range []*agentconfig.Reloadable{k.Accepted, k.Proven} {
		if r != nil {
			out = append(out, *r)
		}
	}
	return out
}

// choose decides with what the server is started: with what the service asks for, or, where that has a fault, with what was
// in force before. The fault is told when a server runs.
func (p *PostgreSQL) choose() error {
	k := p.loadKept()
	var first error
	all := p.candidates(k)
	for i, r := range all {
		err := errors.Join(p.checkParameters(r.Parameters), checkHBA(r.HBA), p.failedTrial(k, r))
		if err == nil && p.checkedOf(r) != failed {
			p.use(r)
			return nil
		}
		if i == 0 {
			first = err
		}
	}
	p.use(all[0])
	if first != nil {
		p.refuseStart(first)
	}
	if first != nil {
		first = &engine.StuckError{Reason: engine.ConfigurationRefused, Err: first}
	}
	return first // nil: the server's own check failed, and the step that comes of that tells it
}

// refuseStart notes for the operator why there is nothing to start with.
func (p *PostgreSQL) refuseStart(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tuning.told = engine.Configuration{Judged: p.tuning.wanted.Digest(), Refused: why.Error()}
}

// refusedByCheck tells what the server's own check found, once: after a pause it is checked again, since a fault may lie
// outside the configuration, such as in a library that is missing.
func (p *PostgreSQL) refusedByCheck() error {
	err := fmt.Errorf("starting PostgreSQL: it refuses its configuration: %s: correct spec.engine.postgresql.parameters", complaint(saidAll(p.checkName())))
	p.refuseStart(err)
	for _, r := range p.candidates(p.loadKept()) {
		name := p.checkNameOf(r)
		_ = os.Remove(name + ".exit")
	}
	return &engine.StuckError{Reason: engine.ConfigurationRefused, Err: err}
}

// complaint is what a server says that refuses its configuration, without what only its log needs.
func complaint(log string) string {
	var out []string
	for _, line := range strings.Split(log, "\n") {
		_, text, found := cutLevel(line)
		if !found || strings.Contains(text, "skipping missing configuration file") || strings.HasSuffix(text, "contains errors") {
			continue
		}
		text, _, _ = strings.Cut(text, " in file \"")
		out = append(out, text)
	}
	if len(out) == 0 {
		return lastLines(log)
	}
	return lastLines(strings.Join(out, "\n"))
}

// cutLevel takes a line of the server's log apart.
func cutLevel(line string) (level, text string, found bool) {
	for _, level := range []string{"LOG:  ", "WARNING:  ", "ERROR:  ", "FATAL:  ", "PANIC:  ", "DETAIL:  ", "HINT:  ", "postgres: "} {
		if _, text, found := strings.Cut(line, level); found {
			return level, text, true
		}
	}
	return "", "", false
}
