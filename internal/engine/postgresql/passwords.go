package postgresql

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// proven is a verifier of which it is known that it is the password's.
type proven struct{ password, verifier string }

// passwords are those that roles have by their Secrets. One that cannot be used is left out: the operator says so.
func (p *PostgreSQL) passwords() (map[string]string, error) {
	if p.secrets.Again == nil {
		return nil, nil
	}
	s, err := p.secrets.Again()
	if err != nil {
		return nil, err
	}
	wanted := map[string]string{p.config.Owner: s.Owner}
	if p.config.SuperuserLogin {
		wanted[superuser] = s.Superuser
	}
	for role, password := range wanted {
		if role == "" || checkPassword("", password) != nil {
			delete(wanted, role)
		}
	}
	return wanted, nil
}

// watchPasswords compares what the roles of a primary have with their Secrets, and has it changed beside the probe: a statement may
// wait for somebody's lock, and a probe that waits makes an engine count as ill.
func (p *PostgreSQL) watchPasswords(ctx context.Context, c *conn) error {
	wanted, err := p.passwords()
	if err != nil || len(wanted) == 0 {
		return nil //nolint:nilerr // files that are being replaced are there a second later
	}
	rows, err := c.query(ctx, "SELECT rolname, coalesce(rolpassword, '') FROM pg_catalog.pg_authid WHERE rolcanlogin")
	if err != nil {
		return err
	}
	var statements []string
	for _, row := range rows {
		role, has := row[0], row[1]
		password, ours := wanted[role]
		if !ours || p.isProven(role, proven{password, has}) {
			continue
		}
		v, err := verifier("the password of "+role, password)
		if err == nil {
			statements = append(statements, "ALTER ROLE "+quoteName(role)+" PASSWORD "+quoteLiteral(v))
		}
	}
	if len(statements) > 0 && p.changing.CompareAndSwap(false, true) {
		go p.changePasswords(statements)
	}
	return nil
}

// isProven reports whether a role's verifier is that of its password. What was found once is remembered: to find out takes
// some thousand rounds of a hash.
func (p *PostgreSQL) isProven(role string, has proven) bool {
	p.mu.Lock()
	known := p.proven[role] == has
	p.mu.Unlock()
	if known || !verifies(has.verifier, has.password) {
		return known
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proven == nil {
		p.proven = map[string]proven{}
	}
	p.proven[role] = has
	return true
}

// changePasswords carries statements out that no log may hold, not even when they fail. What fails is tried again a second later.
func (p *PostgreSQL) changePasswords(statements []string) {
	defer p.changing.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c, err := p.dial(ctx)
	if err != nil {
		return
	}
	defer c.close()
	_, _ = c.query(ctx, "BEGIN; SET LOCAL log_min_error_statement = 'panic'; SET LOCAL lock_timeout = '1s'; "+strings.Join(statements, "; ")+"; COMMIT")
}

// verifies reports whether a verifier as the server keeps it is a password's.
func verifies(stored, password string) bool {
	rest, isScram := strings.CutPrefix(stored, "SCRAM-SHA-256$")
	head, _, _ := strings.Cut(rest, "$")
	count, salt, _ := strings.Cut(head, ":")
	iterations, err := strconv.Atoi(count)
	raw, err2 := base64.StdEncoding.DecodeString(salt)
	if !isScram || err != nil || err2 != nil || iterations < 1 || iterations > 1<<20 {
		return false
	}
	same, err := verifierOf(password, raw, iterations)
	return err == nil && same == stored
}

// checkPassword refuses what cannot be a password.
func checkPassword(what, password string) error {
	for _, c := range password {
		if c < ' ' || c > '~' {
			return fmt.Errorf("reading %s: it must be of printable ASCII characters, since programs disagree on how others are sent", what)
		}
	}
	if password == "" {
		return fmt.Errorf("reading %s: it is empty", what)
	}
	return nil
}
