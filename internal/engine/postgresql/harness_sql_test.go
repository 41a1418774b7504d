package postgresql

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// client is an application's connection as the owner of the database.
func (m *member) client() (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := pgconn.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d dbname=app sslmode=disable", m.config.Port))
	if err != nil {
		return nil, err
	}
	c.User, c.Password = m.config.Owner, ownerPassword
	return pgconn.ConnectConfig(ctx, c)
}

func (m *member) mustClient() *pgconn.PgConn {
	m.t.Helper()
	c, err := m.client()
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Close(ctx)
	})
	return c
}

func exec1(ctx context.Context, c *pgconn.PgConn, sql string) (string, error) {
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	if n := len(results); n > 0 && len(results[n-1].Rows) > 0 {
		return string(results[n-1].Rows[0][0]), nil
	}
	return "", nil
}

func (m *member) sql(sql string) string {
	m.t.Helper()
	v, err := exec1(within(m.t), m.mustClient(), sql)
	if err != nil {
		m.t.Fatalf("%s: %s: %v", m.name, sql, err)
	}
	return v
}

// admin asks as the superuser, over the server's own socket.
func (m *member) admin(sql string) string {
	m.t.Helper()
	c, err := m.dial(within(m.t))
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.close()
	row, err := c.one(within(m.t), sql)
	if err != nil {
		m.t.Fatalf("%s: %s: %v", m.name, sql, err)
	}
	return row[0]
}

// writes writes until it is stopped.
func (m *member) writes() (stop func()) {
	m.t.Helper()
	c := m.mustClient()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			_, _ = exec1(context.Background(), c, "INSERT INTO t VALUES (1)")
		}
	}()
	return func() { cancel(); <-over }
}
