package pgbouncer

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// console answers as PgBouncer's does. A command it has no answer for hangs.
type console struct {
	net.Listener
	mu      sync.Mutex
	told    []string
	answers map[string]string // an error's message by command; empty: all is well
}

func newConsole(t *testing.T, address string, answers map[string]string) *console {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &console{Listener: l, answers: answers}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(conn)
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return c
}

func (c *console) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	b := pgproto3.NewBackend(conn, conn)
	for {
		m, err := b.ReceiveStartupMessage()
		if err != nil {
			return
		}
		if _, tls := m.(*pgproto3.SSLRequest); tls {
			_, _ = conn.Write([]byte("N"))
			continue
		}
		if s, ok := m.(*pgproto3.StartupMessage); !ok || s.Parameters["database"] != "pgbouncer" || s.Parameters["user"] != "admin" {
			return
		}
		break
	}
	b.Send(&pgproto3.AuthenticationCleartextPassword{})
	if b.Flush() != nil {
		return
	}
	_ = b.SetAuthType(pgproto3.AuthTypeCleartextPassword)
	if m, err := b.Receive(); err != nil || m.(*pgproto3.PasswordMessage).Password != "secret" {
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	_ = b.Flush()
	for {
		m, err := b.Receive()
		q, isQuery := m.(*pgproto3.Query)
		if err != nil || !isQuery {
			return
		}
		c.mu.Lock()
		c.told = append(c.told, q.String)
		problem, known := c.answers[q.String]
		c.mu.Unlock()
		switch {
		case !known:
			continue // it waits for a transaction to end
		case problem != "":
			b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "08P01", Message: problem})
		default:
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte(q.String)})
		}
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		_ = b.Flush()
	}
}

func (c *console) heard() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.told)
}

// poolers are two consoles behind one name.
func poolers(t *testing.T, first, second map[string]string) (*Poolers, *console, *console) {
	t.Helper()
	a := newConsole(t, "127.0.0.1:0", first)
	port := a.Addr().(*net.TCPAddr).Port
	b := newConsole(t, net.JoinHostPort("127.0.0.2", strconv.Itoa(port)), second)
	return &Poolers{Hosts: []string{"pooler"}, Port: port, Database: "app", User: "admin", Password: func() (string, error) { return "secret", nil },
		Lookup: func(_ context.Context, host string) ([]string, error) {
			if host != "pooler" {
				return nil, errors.New("no such host")
			}
			return []string{"127.0.0.1", "127.0.0.2"}, nil
		}}, a, b
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestEveryPoolerIsTold(t *testing.T) {
	fine := map[string]string{"PAUSE app": "", "RESUME app": ""}
	p, a, b := poolers(t, fine, map[string]string{"PAUSE app": "database app is already paused", "RESUME app": "database app is not paused"})
	if err := errors.Join(p.Pause(within(t, 5*time.Second)), p.Resume(within(t, 5*time.Second))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*console{a, b} {
		if got := strings.Join(c.heard(), ", "); got != "PAUSE app, RESUME app, RESUME app" {
			t.Errorf("one was told %s; want to go on over the console that was kept, and over a new one", got)
		}
	}
}

// Every pooler is told to make its connections anew, and one that refuses is named.
func TestConnectionsAreMadeAnew(t *testing.T) {
	p, a, b := poolers(t, map[string]string{"RECONNECT app": ""}, map[string]string{"RECONNECT app": "no such database"})
	err := p.Renew(within(t, 5*time.Second))
	if err == nil || !strings.Contains(err.Error(), "127.0.0.2") || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("it says %v, want who refused", err)
	}
	for _, c := range []*console{a, b} {
		if got := strings.Join(c.heard(), ", "); got != "RECONNECT app" {
			t.Errorf("one was told %s", got)
		}
	}
}

// A pooler that is behind its name no more, as one that does not count as ready while it is paused, is let go on nevertheless.
func TestOneThatIsNotFoundAgainIsLetGoOn(t *testing.T) {
	fine := map[string]string{"PAUSE app": "", "RESUME app": ""}
	p, _, b := poolers(t, fine, fine)
	if err := p.Pause(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	p.Lookup = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	if err := p.Resume(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(b.heard(), ", "); got != "PAUSE app, RESUME app" {
		t.Errorf("it was told %s", got)
	}
}

// One that cannot pause in time is named, and all are let go on afterwards.
func TestAPauseThatIsNotReachedIsTakenBack(t *testing.T) {
	p, a, b := poolers(t, map[string]string{"PAUSE app": "", "RESUME app": ""}, map[string]string{"RESUME app": ""})
	err := p.Pause(within(t, 300*time.Millisecond))
	if err == nil || !strings.Contains(err.Error(), "127.0.0.2") {
		t.Errorf("it says %v, want who did not pause", err)
	}
	if err := p.Resume(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*console{a, b} {
		if got := c.heard(); got[0] != "PAUSE app" || got[len(got)-1] != "RESUME app" {
			t.Errorf("one was told %s", got)
		}
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	p, _, _ := poolers(t, map[string]string{"PAUSE app": "no such database: app", "RESUME app": ""}, map[string]string{"PAUSE app": "", "RESUME app": ""})
	if err := p.Pause(within(t, 5*time.Second)); err == nil || !strings.Contains(err.Error(), "no such database: app") {
		t.Errorf("a pooler without the database: %v", err)
	}
	p.Hosts = append(p.Hosts, "nowhere")
	if err := p.Resume(within(t, 5*time.Second)); err == nil || !strings.Contains(err.Error(), "pgBouncer.hosts") {
		t.Errorf("a name without addresses: %v", err)
	}
	p.Hosts, p.Password = p.Hosts[:1], func() (string, error) { return "wrong", nil }
	if err := p.Resume(within(t, 5*time.Second)); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("a wrong password: %v; want an error that does not tell it", err)
	}
}

func TestNamesAreQuoted(t *testing.T) {
	for name, want := range map[string]string{"app": "app", "My db": `"My db"`, `a"b`: `"a""b"`} {
		if got := quoted(name); got != want {
			t.Errorf("%s becomes %s, want %s", name, got, want)
		}
	}
}
