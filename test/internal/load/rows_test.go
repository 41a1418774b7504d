package load

import (
	"errors"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestFirstOfSeveralServersThatMayBeWrittenTo(t *testing.T) {
	refusing, standby, primary := pretend(t, "on"), pretend(t, "on"), pretend(t, "off")
	_ = refusing.Close()
	config := Config{
		Addresses: []string{refusing.Addr().String(), standby.Addr().String(), primary.Addr().String()},
		Engine:    PostgreSQL, User: "u", Database: "d",
	}.WithDefaults()
	r := &rows{config: config, dialled: func() {}}
	if err := r.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer r.drop()
	if got, want := r.conn.PgConn().Conn().RemoteAddr().String(), primary.Addr().String(); got != want {
		t.Errorf("connected to %s, want the primary, %s", got, want)
	}
}

func TestNoServerMayBeWrittenTo(t *testing.T) {
	one, other := pretend(t, "on"), pretend(t, "on")
	config := Config{
		Addresses: []string{one.Addr().String(), other.Addr().String()}, Engine: PostgreSQL, User: "u", Database: "d",
	}.WithDefaults()
	r := &rows{config: config, dialled: func() {}}
	if err := r.ready(t.Context()); err == nil {
		r.drop()
		t.Error("connected to a standby")
	}
}

func TestStandbyIsNotReadBack(t *testing.T) {
	for standby, want := range map[string]bool{"on": true, "off": false} {
		r := &rows{config: Config{Address: pretend(t, standby).Addr().String(), Engine: PostgreSQL, User: "u", Database: "d"}.WithDefaults(), dialled: func() {}, made: true}
		if _, err := r.get(t.Context(), []string{"a"}); errors.Is(err, errNotPrimary) != want {
			t.Errorf("in hot standby %s: %v", standby, err)
		}
		r.drop()
	}
}

func TestValid(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		valid  bool
	}{
		{"nothing", Config{}, false},
		{"address", Config{Address: "a:1"}, true},
		{"sentinels", Config{Sentinels: []string{"a:1"}}, true},
		{"two ways", Config{Address: "a:1", Sentinels: []string{"a:1"}}, false},
		{"servers of PostgreSQL", Config{Addresses: []string{"a:1"}, Engine: PostgreSQL}, true},
		{"servers of Redis", Config{Addresses: []string{"a:1"}}, false},
	} {
		if err := c.config.Valid(); (err == nil) != c.valid {
			t.Errorf("%s: %v, want valid %t", c.name, err, c.valid)
		}
	}
}

// pretend is a PostgreSQL server that answers every query with one row: whether it is read only.
func pretend(t *testing.T, readOnly string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn, readOnly)
		}
	}()
	return listener
}

func serve(conn net.Conn, readOnly string) {
	defer conn.Close()
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	backend.Send(&pgproto3.AuthenticationOk{})
	backend.Send(&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: readOnly})
	backend.Send(ready)
	for backend.Flush() == nil {
		message, err := backend.Receive()
		if err != nil {
			return
		}
		if _, ok := message.(*pgproto3.Query); !ok {
			return
		}
		backend.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("transaction_read_only"), DataTypeOID: 25}}})
		backend.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(readOnly)}})
		backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("SHOW")})
		backend.Send(ready)
	}
}
