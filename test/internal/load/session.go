package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"understudy.dev/understudy/test/internal/history/serial"
)

// listTable is where transactions append: a row is a list, its elements with commas between them.
const listTable = "understudy_lists"

// serializable is the isolation that a history is judged by.
const serializable = "SERIALIZABLE"

// session carries out transactions of lists over a connection that is made anew after each failure.
type session struct {
	rows

	isolation string
	// withheld counts cancel requests that were not sent.
	withheld atomic.Int64
}

func newSession(config Config) *session {
	s := &session{isolation: serializable}
	s.rows = rows{config: config, table: listTable, tune: s.tuned, dialled: func() {}}
	return s
}

// tuned makes one connection.
//
// A driver that gives a statement up asks the server, over a second connection, to cancel it. A COMMIT that waits for
// replicas would be cancelled into one that does not: others read what the next primary may not have. That is what PostgreSQL
// promises to who cancels, and no fault of the service, so this client never does.
func (s *session) tuned(config *pgx.ConnConfig) {
	dial, dials := config.DialFunc, atomic.Int64{}
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials.Add(1) > 1 {
			s.withheld.Add(1)
			return nil, errors.New("a commit is not to be cancelled")
		}
		return dial(ctx, network, address)
	}
	for name, value := range map[string]string{
		// A table of a few rows would be read as a whole, which conflicts with whatever others write.
		"enable_seqscan": "off",
		// A deadlock is looked for only after a second; and what the transaction of a client that is gone holds is let go of. Neither
		// ends a wait for replicas, as statement_timeout would.
		"lock_timeout": "100ms", "idle_in_transaction_session_timeout": "5s",
	} {
		config.RuntimeParams[name] = value
	}
}

// transact carries out a transaction and fills in its fate, its times and what it read.
func (s *session) transact(ctx context.Context, txn *serial.Txn, now func() int64) error {
	txn.Call = now()
	err := s.attempt(ctx, txn)
	txn.Return = now()
	if err != nil {
		s.recover(ctx, err)
	}
	return err
}

// attempt runs up to the COMMIT, and it too.
//
// Whatever fails before the COMMIT is sent, the transaction did not happen: a server ends the transaction of a connection that
// breaks, and nobody else can commit it. From the instant at which it is sent, only a refusal says that.
func (s *session) attempt(ctx context.Context, txn *serial.Txn) error {
	txn.Fate = serial.Failed
	if err := s.exec(ctx, "BEGIN ISOLATION LEVEL "+s.isolation); err != nil {
		return &stageError{"begin", err}
	}
	for i := range txn.Ops {
		if err := s.do(ctx, &txn.Ops[i]); err != nil {
			return &stageError{string(txn.Ops[i].Kind), err}
		}
	}
	var err error
	if txn.Fate, err = s.commit(ctx); err != nil {
		return &stageError{"commit", err}
	}
	return nil
}

func (s *session) do(ctx context.Context, op *serial.Op) error {
	if op.Kind == serial.Append {
		return s.exec(ctx, "INSERT INTO "+listTable+" AS old VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = old.value || ',' || excluded.value",
			op.Key, strconv.Itoa(op.Value))
	}
	ctx, cancel := s.patience(ctx)
	defer cancel()
	var value string
	err := s.conn.QueryRow(ctx, "SELECT value FROM "+listTable+" WHERE key = $1", op.Key).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	op.List = elements(value)
	return err
}

// elements of a list. What is no number becomes one that nobody appended, for the judge to find.
func elements(value string) []int {
	var list []int
	for _, part := range strings.Split(value, ",") {
		n, err := strconv.Atoi(part)
		if err != nil {
			n = -1
		}
		list = append(list, n)
	}
	return list
}

func (s *session) exec(ctx context.Context, sql string, args ...any) error {
	ctx, cancel := s.patience(ctx)
	defer cancel()
	_, err := s.conn.Exec(ctx, sql, args...)
	return err
}

// patience is for one statement. The end of the recording ends none: it would be of unknown fate for nothing.
func (s *session) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), s.config.reply())
}

func (s *session) commit(ctx context.Context) (serial.Fate, error) {
	ctx, cancel := s.patience(ctx)
	defer cancel()
	s.doubtful = false
	tag, err := s.conn.Exec(ctx, "COMMIT")
	switch {
	case err != nil && neverCommitted(err):
		return serial.Failed, err
	case err != nil:
		return serial.Unknown, err
	case tag.String() != "COMMIT":
		return serial.Failed, fmt.Errorf("it was answered with %s", tag)
	case s.doubtful:
		return serial.Unknown, unanswered{fmt.Errorf("it was answered with warning %s: it may be on the primary alone", notWaited)}
	}
	return serial.Committed, nil
}

// neverCommitted says whether the server refused a COMMIT: conflicts are looked for before anything is written.
func neverCommitted(err error) bool {
	var state *pgconn.PgError
	return errors.As(err, &state) && (state.Code == "40001" || state.Code == "40P01")
}

// recover makes the connection usable again after a refusal; any other is dropped.
func (s *session) recover(ctx context.Context, err error) {
	var state *pgconn.PgError
	if !errors.As(err, &state) || s.conn.IsClosed() || s.exec(ctx, "ROLLBACK") != nil {
		s.drop()
	}
}
