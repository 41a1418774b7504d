package load

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"understudy.dev/understudy/test/internal/resp"
)

// link is the client's connection, made anew after each failure.
type link struct {
	config  Config
	conn    *resp.Conn
	dialled func()
}

// stageError says how far an attempt came.
type stageError struct {
	stage string
	err   error
}

func (e *stageError) Error() string { return e.stage + ": " + e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

func (l *link) drop() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// ready connects unless there is a connection.
func (l *link) ready(ctx context.Context) error {
	if l.conn != nil {
		return nil
	}
	return l.connect(ctx)
}

// set writes one key. sent says whether the write may have reached the service.
func (l *link) set(ctx context.Context, key, value string) (sent bool, err error) {
	if err := l.ready(ctx); err != nil {
		return false, err
	}
	reply, err := l.conn.Do("SET", key, value)
	if err != nil {
		return true, &stageError{"write", err}
	}
	if reply != "OK" {
		return true, &stageError{"write", errors.New("the reply was not OK")}
	}
	return true, l.confirm()
}

// transact carries out commands in one MULTI and returns their replies. An ErrorReply says that the last of them was not
// carried out; after any other error nothing is known. There must be a connection.
func (l *link) transact(commands ...[]string) ([]any, error) {
	all := append([][]string{{"MULTI"}}, commands...)
	replies, err := l.conn.Pipeline(append(all, []string{"EXEC"})...)
	if err != nil {
		return nil, &stageError{"write", err}
	}
	// Without a MULTI the commands were carried out one by one, whatever EXEC says.
	if replies[0] != "OK" {
		return nil, &stageError{"write", unanswered{errors.New("the reply to MULTI was not OK")}}
	}
	outcome := replies[len(replies)-1]
	if refused, ok := outcome.(resp.ErrorReply); ok {
		return nil, &stageError{"write", why(replies, refused)}
	}
	results, ok := outcome.([]any)
	if !ok || len(results) != len(commands) {
		return nil, &stageError{"write", unanswered{errors.New("the reply to EXEC was not one for each command")}}
	}
	if refused, ok := results[len(results)-1].(resp.ErrorReply); ok {
		return nil, &stageError{"write", refused}
	}
	return results, nil
}

// why is the refusal of the command for which EXEC was refused, if there is one: EXEC's own says nothing.
func why(replies []any, exec resp.ErrorReply) error {
	for _, reply := range replies {
		if refused, ok := reply.(resp.ErrorReply); ok {
			return refused
		}
	}
	return exec
}

// wasRefused says whether the service answered that it did not do what it was asked.
func wasRefused(err error) bool {
	var answered resp.ErrorReply
	var state *pgconn.PgError
	if errors.As(err, &state) {
		// A PostgreSQL whose connections are ended says so too, in the middle of a commit as well.
		return !strings.HasPrefix(state.Code, "57P") && !strings.HasPrefix(state.Code, "08")
	}
	return errors.As(err, &answered)
}

// confirm waits until enough replicas have what this connection wrote. Who is answered with fewer knows nothing of the write.
func (l *link) confirm() error {
	want := l.config.WaitReplicas
	if want == 0 {
		return nil
	}
	reply, err := l.conn.Do("WAIT", strconv.Itoa(want), l.config.waitMilliseconds())
	if err == nil {
		if n, ok := reply.(int64); ok && n >= int64(want) {
			return nil
		}
		err = errors.New("too few replicas confirmed it")
	}
	return &stageError{"wait", unanswered{err}}
}

// unanswered is an error after which the fate of a write is not known, even where the service answered something.
type unanswered struct{ error }

func (l *link) connect(ctx context.Context) error {
	address := l.config.Address
	if len(l.config.Sentinels) > 0 {
		var err error
		if address, err = l.ask(ctx); err != nil {
			return err
		}
	}
	conn, err := resp.Dial(ctx, address, l.config.dial(), l.config.reply())
	if err != nil {
		return &stageError{"connect", err}
	}
	l.dialled()
	if l.config.Password != "" {
		if _, err := conn.Do("AUTH", l.config.Password); err != nil {
			conn.Close()
			return &stageError{"authenticate", err}
		}
	}
	l.conn = conn
	return nil
}

// ask asks the sentinels in order for the primary's address; the first that answers is believed.
func (l *link) ask(ctx context.Context) (string, error) {
	var last error
	for _, sentinel := range l.config.Sentinels {
		address, err := l.askOne(ctx, sentinel)
		if err == nil {
			return address, nil
		}
		last = err
	}
	return "", &stageError{"sentinel", last}
}

func (l *link) askOne(ctx context.Context, sentinel string) (string, error) {
	conn, err := resp.Dial(ctx, sentinel, l.config.dial(), l.config.reply())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	reply, err := conn.Do("SENTINEL", "get-master-addr-by-name", l.config.Master)
	if err != nil {
		return "", err
	}
	parts, ok := reply.([]any)
	if !ok || len(parts) != 2 {
		return "", errors.New("the sentinel does not know master " + l.config.Master)
	}
	host, _ := parts[0].(string)
	port, _ := parts[1].(string)
	return net.JoinHostPort(host, port), nil
}

// reason names an error in one word or two, without addresses, so that equal ones are counted together.
func reason(err error) string {
	var answered resp.ErrorReply
	var state *pgconn.PgError
	switch {
	case errors.As(err, &answered):
		word, _, _ := strings.Cut(string(answered), " ")
		return word
	case errors.As(err, &state):
		return state.Code
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	}
	return "other"
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
