package load

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// rows is a connection to PostgreSQL; a key is a row of its own.
type rows struct {
	config  Config
	table   string
	tune    func(*pgx.ConnConfig) // changes how each connection is made
	conn    *pgx.Conn
	made    bool // the table is there
	dialled func()
	// doubtful is set by the warning that a commit was not waited for by the replicas.
	doubtful bool
}

// loadTable is where rounds write.
const loadTable = "understudy_load"

func (r *rows) drop() {
	if r.conn == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a goodbye that cannot be sent at once is not sent
	_ = r.conn.Close(ctx)
	r.conn = nil
}

func (r *rows) set(ctx context.Context, key, value string) (sent bool, err error) {
	if err := r.ready(ctx); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.config.reply())
	defer cancel()
	r.doubtful = false
	_, err = r.conn.Exec(ctx, "INSERT INTO "+r.table+" VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)
	if err == nil && r.doubtful {
		err = unanswered{fmt.Errorf("the commit was answered with warning %s: it may be on the primary alone", notWaited)}
	}
	if err != nil {
		return true, &stageError{"write", err}
	}
	return true, nil
}

// notWaited is what PostgreSQL warns with when a wait for replicas was cancelled: the commit is local for certain only.
const notWaited = "01000"

func (r *rows) ready(ctx context.Context) error {
	if r.conn != nil {
		return nil
	}
	config, err := r.config.pgx()
	if err != nil {
		return &stageError{"connect", err}
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.Code == notWaited {
			r.doubtful = true
		}
	}
	if r.tune != nil {
		r.tune(config)
	}
	config.ConnectTimeout = r.config.dial() + r.config.reply() // for each server
	connecting, cancel := context.WithTimeout(ctx, config.ConnectTimeout*time.Duration(1+len(config.Fallbacks)))
	defer cancel()
	if r.conn, err = pgx.ConnectConfig(connecting, config); err != nil {
		r.conn = nil
		return &stageError{"connect", err}
	}
	r.dialled()
	return r.makeTable(connecting)
}

// Exec carries out statements on PostgreSQL, one after the other, over a connection of its own.
func Exec(ctx context.Context, c Config, statements ...string) error {
	config, err := c.WithDefaults().pgx()
	if err != nil {
		return fmt.Errorf("connecting to PostgreSQL at %s: %w", c.Address, err)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connecting to PostgreSQL at %s: %w", c.Address, err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%.40s… on PostgreSQL at %s: %w", statement, c.Address, err)
		}
	}
	return nil
}

// pgx leads to the service, or to whichever of several servers may be written to.
func (c Config) pgx() (*pgx.ConnConfig, error) {
	// Without TLS everywhere, since a peer that we compare with has none.
	addresses, settings := []string{c.Address}, "sslmode=disable"
	if len(c.Addresses) > 0 {
		addresses, settings = c.Addresses, settings+" target_session_attrs=read-write"
	}
	var hosts, ports []string
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	config, err := pgx.ParseConfig(fmt.Sprintf("%s host=%s port=%s", settings, strings.Join(hosts, ","), strings.Join(ports, ",")))
	if err != nil {
		return nil, err
	}
	config.Database, config.User, config.Password = c.Database, c.User, c.Password
	config.DialFunc = (&net.Dialer{Timeout: c.dial()}).DialContext
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // one round trip a write, on a new connection too
	return config, nil
}

func (r *rows) makeTable(ctx context.Context) error {
	if r.made {
		return nil
	}
	if _, err := r.conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+r.table+" (key text PRIMARY KEY, value text NOT NULL)"); err != nil {
		r.drop()
		return &stageError{"connect", err}
	}
	r.made = true
	return nil
}

func (r *rows) get(ctx context.Context, keys []string) ([]string, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if r.conn.PgConn().ParameterStatus("in_hot_standby") == "on" { // each server tells since PostgreSQL 14
		return nil, errNotPrimary
	}
	found, err := r.conn.Query(ctx, "SELECT key, value FROM "+r.table+" WHERE key = ANY($1)", keys)
	if err != nil {
		return nil, err
	}
	have := map[string]string{}
	var key, value string
	if _, err := pgx.ForEachRow(found, []any{&key, &value}, func() error {
		have[key] = value
		return nil
	}); err != nil {
		return nil, err
	}
	values := make([]string, len(keys))
	for i, key := range keys {
		values[i] = have[key]
	}
	return values, nil
}

func (r *rows) remove(ctx context.Context, keys []string) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := r.conn.Exec(ctx, "DELETE FROM "+r.table+" WHERE key = ANY($1)", keys)
	return err
}
