package postgresql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
)

// conn is a connection to a server. One to another member's takes SQL and replication commands. One to this pod's takes SQL, and what it is
// asked with a replication command goes over another: see walSession.
type conn struct {
	pg   *pgconn.PgConn
	own  *walSession // of this pod's server
	life int         // of the server when it was made: what is ordered over it must not reach the next one's files
	// planned are the statements that were prepared on it, by their text.
	planned map[string]string
}

// dial connects to the server of this pod.
func (p *PostgreSQL) dial(ctx context.Context) (*conn, error) {
	c, err := p.dialAs(ctx, "")
	if stateOf(err) == tooManyConnections {
		return p.dialAs(ctx, replicationToo) // superusers took even what is reserved, and those have room of their own, at walSession's price
	}
	return c, err
}

// replicationToo makes a connection take replication commands too.
const replicationToo = "replication=database "

func (p *PostgreSQL) dialAs(ctx context.Context, kind string) (*conn, error) {
	text := fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable passfile='' %sapplication_name=understudy-agent "+
		// Nothing of ours waits for replicas, nor ends by a limit that was meant for clients, nor needs what a standby refuses.
		"log_statement=none log_min_duration_statement=-1 synchronous_commit=local statement_timeout=0 lock_timeout=0 idle_session_timeout=0 "+
		"default_transaction_read_only=off default_transaction_isolation='read committed' "+
		// Nor does it load libraries that were meant for clients, whose absence would keep it out.
		"session_preload_libraries='' local_preload_libraries=''",
		quoteConninfo(p.socketDir()), p.config.Port, superuser, superuser, kind)
	life := p.currentLife()
	c, err := connect(ctx, text, "the engine")
	if err == nil {
		c.life, c.own = life, &p.wal
	}
	return c, err
}

// dialPrimary connects to the primary at address as this member.
func (p *PostgreSQL) dialPrimary(ctx context.Context, address string) (*conn, error) {
	text := p.conninfoBase(address, p.config.ApplicationName+rejoining) + " dbname=" + superuser + " replication=database"
	return connect(ctx, text, "the primary at "+address)
}

func connect(ctx context.Context, text, whom string) (*conn, error) {
	config, err := pgconn.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", whom, err)
	}
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", whom, err)
	}
	return &conn{pg: pg}, nil
}

// query sends one command and returns the rows of its result as text; NULL is "".
func (c *conn) query(ctx context.Context, sql string) ([][]string, error) {
	results, err := c.pg.Exec(ctx, sql).ReadAll()
	if err != nil {
		verb, _, _ := strings.Cut(sql, "(")
		return nil, fmt.Errorf("engine command %.60s: %w", verb, err)
	}
	var rows [][]string
	for _, r := range results {
		for _, raw := range r.Rows {
			row := make([]string, len(raw))
			for i, v := range raw {
				row[i] = string(v)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// again is query for a statement that comes again and again: to plan one over the server's views takes most of its time.
func (c *conn) again(ctx context.Context, sql string) ([][]string, error) {
	name := c.planned[sql]
	if name == "" {
		name = fmt.Sprintf("understudy_%d", len(c.planned))
		if _, err := c.query(ctx, "PREPARE "+name+" AS "+sql); err != nil {
			return nil, err
		}
		if c.planned == nil {
			c.planned = map[string]string{}
		}
		c.planned[sql] = name
	}
	return c.query(ctx, "EXECUTE "+name)
}

// one is query for a command that answers one row.
func (c *conn) one(ctx context.Context, sql string) ([]string, error) {
	rows, err := c.query(ctx, sql)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("engine command %.60s: it answered %d rows", sql, len(rows))
	}
	if err != nil {
		return nil, err
	}
	return rows[0], nil
}

func (c *conn) close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a goodbye that cannot be sent at once is not sent
	_ = c.pg.Close(ctx)
}

// session keeps a connection between calls, and lets in one at a time.
type session struct {
	mu   sync.Mutex
	conn *conn
	pid  atomic.Int64 // of the backend
}

// with runs f on the session's connection; one that broke since is replaced once, before f did anything.
func (p *PostgreSQL) with(ctx context.Context, s *session, f func(*conn) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		if _, err := s.conn.query(ctx, "SELECT 1"); err != nil {
			s.drop()
		}
	}
	return p.on(ctx, s, f)
}

// repeat is with for what may be done twice: f itself finds out that the connection broke, and runs once more on another.
func (p *PostgreSQL) repeat(ctx context.Context, s *session, f func(*conn) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.conn != nil
	err := p.on(ctx, s, f)
	if err != nil && kept && s.conn == nil && ctx.Err() == nil {
		err = p.on(ctx, s, f)
	}
	return err
}

// on runs f on the session's connection, made if there is none; a broken one is not kept.
func (p *PostgreSQL) on(ctx context.Context, s *session, f func(*conn) error) error {
	if s.conn == nil {
		c, err := p.dial(ctx)
		if err != nil {
			return err
		}
		s.conn = c
		s.pid.Store(int64(c.pg.PID()))
	}
	err := f(s.conn)
	if s.conn.pg.IsClosed() {
		s.drop()
	}
	return err
}

func (s *session) drop() {
	s.conn.close()
	s.conn = nil
}

// stateOf is the SQLSTATE of an error that the server reported, or "".
func stateOf(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return ""
}

const (
	// cannotConnectNow is what a server says that is starting or not consistent yet.
	cannotConnectNow = "57P03"
	// tooManyConnections is what one says that is full.
	tooManyConnections = "53300"
)
