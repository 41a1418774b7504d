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
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// resumeTimeout bounds the resuming after a pause that failed.
const resumeTimeout = time.Second

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
}

// Pause returns when every pooler has let its servers go and holds its clients back. If one does not before ctx is over, as when a
// transaction goes on, those that did are resumed, and it fails.
func (p Poolers) Pause(ctx context.Context) error {
	err := p.each(ctx, "PAUSE", "already paused")
	if err == nil {
		return nil
	}
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), resumeTimeout)
	defer cancel()
	return errors.Join(err, p.Resume(again))
}

// Resume lets the clients of every pooler go on. One that was not paused is no error.
func (p Poolers) Resume(ctx context.Context) error { return p.each(ctx, "RESUME", "not paused") }

// each gives a command to every pooler at once. An error that says fine means that nothing was to be done.
func (p Poolers) each(ctx context.Context, command, fine string) error {
	addresses, err := p.addresses(ctx)
	errs := make([]error, len(addresses))
	var all sync.WaitGroup
	for i, address := range addresses {
		all.Go(func() {
			if err := p.tell(ctx, address, command); err != nil && !said(err, fine) {
				errs[i] = fmt.Errorf("telling PgBouncer at %s to %s %s: %w", address, strings.ToLower(command), p.Database, err)
			}
		})
	}
	all.Wait()
	return errors.Join(append(errs, err)...)
}

func said(err error, words string) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && strings.Contains(pe.Message, words)
}

func (p Poolers) addresses(ctx context.Context) ([]string, error) {
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

// tell gives one command over the console, which knows the simple protocol only.
func (p Poolers) tell(ctx context.Context, address, command string) error {
	password, err := p.Password()
	if err != nil {
		return err
	}
	config, err := pgconn.ParseConfig("dbname=pgbouncer sslmode=prefer application_name=understudy-agent")
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	config.Host, config.Port, config.User, config.Password = host, uint16(number), p.User, password
	for _, f := range config.Fallbacks {
		f.Host, f.Port = config.Host, config.Port
	}
	c, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		now, cancel := context.WithCancel(context.Background())
		cancel() // a goodbye that cannot be sent at once is not sent
		_ = c.Close(now)
	}()
	_, err = c.Exec(ctx, command+" "+quoted(p.Database)).ReadAll()
	return err
}

var plain = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

func quoted(name string) string {
	if plain.MatchString(name) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
