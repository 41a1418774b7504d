// Package pgbouncer holds the clients of PgBouncer back while a service changes its primary on purpose: they wait, and see no error.
package pgbouncer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// Poolers are the PgBouncers before a service.
type Poolers struct {
	// Hosts are names or addresses. Of a name with several addresses, as a headless Service has, each is asked.
	Hosts []string
	Port  int
	// Database as pgbouncer.ini names it.
	Database string
	// User is one of admin_users.
	User     string
	Password func() (string, error)
	// Lookup resolves a name; nil: net.DefaultResolver.
	Lookup func(ctx context.Context, host string) ([]string, error)

	mu   sync.Mutex
	held map[string]*pgconn.PgConn // consoles over which clients were held back, by address
}

// Pause returns when every pooler has let its servers go and holds its clients back. If one does not before ctx is over, as when a
// transaction goes on, it fails, and Resume is to be called. The consoles are kept for that: behind a name there may be another pooler the
// next time, and one that holds its clients back may not count as ready.
func (p *Poolers) Pause(ctx context.Context) error {
	return p.each(ctx, "PAUSE", "already paused", func(address string, c *pgconn.PgConn) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.held == nil {
			p.held = map[string]*pgconn.PgConn{}
		}
		if before := p.held[address]; before != nil {
			hangUp(before)
		}
		p.held[address] = c
	})
}

// Resume lets the clients of every pooler go on. One that was not paused is no error.
func (p *Poolers) Resume(ctx context.Context) error {
	p.mu.Lock()
	held := p.held
	p.held = nil
	p.mu.Unlock()
	var over sync.WaitGroup
	for _, c := range held {
		over.Go(func() {
			defer hangUp(c)
			_, _ = c.Exec(ctx, "RESUME "+quoted(p.Database)).ReadAll() // one that cannot be told so is told anew
		})
	}
	over.Wait()
	return p.each(ctx, "RESUME", "not paused", func(_ string, c *pgconn.PgConn) { hangUp(c) })
}

// Renew has every pooler make its connections anew, each as soon as no transaction uses it. Clients see nothing of that.
func (p *Poolers) Renew(ctx context.Context) error {
	return p.each(ctx, "RECONNECT", "", func(_ string, c *pgconn.PgConn) { hangUp(c) })
}

// each gives a command to every pooler at once. An error that says fine means that nothing was to be done. Whoever was told is done's to close.
func (p *Poolers) each(ctx context.Context, command, fine string, done func(address string, c *pgconn.PgConn)) error {
	addresses, err := p.addresses(ctx)
	errs := make([]error, len(addresses))
	var all sync.WaitGroup
	for i, address := range addresses {
		all.Go(func() {
			c, err := p.console(ctx, address)
			if err == nil {
				if _, err = c.Exec(ctx, command+" "+quoted(p.Database)).ReadAll(); err == nil || said(err, fine) {
					done(address, c)
					return
				}
				hangUp(c)
			}
			errs[i] = fmt.Errorf("telling PgBouncer at %s to %s %s: %w", address, strings.ToLower(command), p.Database, err)
		})
	}
	all.Wait()
	return errors.Join(append(errs, err)...)
}

func said(err error, words string) bool {
	var pe *pgconn.PgError
	return words != "" && errors.As(err, &pe) && strings.Contains(pe.Message, words)
}

func (p *Poolers) addresses(ctx context.Context) ([]string, error) {
	lookup := p.Lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupHost
	}
	var out []string
	var all error
	for _, host := range p.Hosts {
		found, err := lookup(ctx, host)
		if err != nil {
			all = errors.Join(all, fmt.Errorf("looking for PgBouncer: %w: correct spec.engine.postgresql.pgBouncer.hosts, or bring it up", err))
		}
		for _, address := range found {
			out = append(out, net.JoinHostPort(address, strconv.Itoa(p.Port)))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), all
}

// console connects to a pooler's console, which knows the simple protocol only.
func (p *Poolers) console(ctx context.Context, address string) (*pgconn.PgConn, error) {
	password, err := p.Password()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	// The host is part of the text, since whether TLS is tried depends on it.
	config, err := pgconn.ParseConfig("host=" + host + " port=" + port + " dbname=pgbouncer sslmode=prefer passfile='' application_name=understudy-agent")
	if err != nil {
		return nil, err
	}
	config.User, config.Password = p.User, password
	return pgconn.ConnectConfig(ctx, config)
}

// hangUp ends a connection; a goodbye that cannot be sent at once is not sent.
func hangUp(c *pgconn.PgConn) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.Close(now)
}

var plain = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

func quoted(name string) string {
	if plain.MatchString(name) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
