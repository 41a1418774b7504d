// Package resp speaks Redis' protocol without doing anything by itself: no pool, no retry, no pause. What measures an
// outage must not add any: go-redis, for one, stops dialling for up to a second after as many failed dials as its pool
// has connections, and a benchmark would then measure the library.
package resp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// ErrorReply is an error that the server answered with: it read the command and did not carry it out.
type ErrorReply string

func (e ErrorReply) Error() string { return string(e) }

// maxLength bounds what one reply may ask to be read: a damaged stream is an error, not a gigabyte.
const maxLength = 64 << 20

// Conn is one connection.
type Conn struct {
	conn    net.Conn
	reader  *bufio.Reader
	timeout time.Duration
}

// Dial connects; timeout is that of each later exchange.
func Dial(ctx context.Context, address string, dial, timeout time.Duration) (*Conn, error) {
	dialer := net.Dialer{Timeout: dial}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Conn{conn: c, reader: bufio.NewReaderSize(c, 32<<10), timeout: timeout}, nil
}

// Close ends the connection.
func (c *Conn) Close() { _ = c.conn.Close() }

// Do sends one command and returns its reply: a string, an int64, nil or a slice of these. An ErrorReply is an error.
func (c *Conn) Do(args ...string) (any, error) {
	replies, err := c.Pipeline(args)
	if err != nil {
		return nil, err
	}
	if refused, ok := replies[0].(ErrorReply); ok {
		return nil, refused
	}
	return replies[0], nil
}

// Pipeline sends commands at once and returns their replies in order; an ErrorReply is one of them.
func (c *Conn) Pipeline(commands ...[]string) ([]any, error) {
	var out []byte
	for _, args := range commands {
		out = appendCommand(out, args)
	}
	if err := c.conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(out); err != nil {
		return nil, err
	}
	replies := make([]any, 0, len(commands))
	for range commands {
		reply, err := c.read(0)
		if err != nil {
			return nil, err
		}
		replies = append(replies, reply)
	}
	return replies, nil
}

func appendCommand(out []byte, args []string) []byte {
	out = fmt.Appendf(out, "*%d\r\n", len(args))
	for _, arg := range args {
		out = fmt.Appendf(out, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return out
}

func (c *Conn) read(depth int) (any, error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' || depth > 4 {
		return nil, fmt.Errorf("reading a reply: %q is not one", line)
	}
	kind, text := line[0], string(line[1:len(line)-2])
	switch kind {
	case '+':
		return text, nil
	case '-':
		return ErrorReply(text), nil
	case ':':
		return strconv.ParseInt(text, 10, 64)
	case '$':
		return c.readBulk(text)
	case '*':
		return c.readArray(text, depth)
	}
	return nil, fmt.Errorf("reading a reply: unknown kind %q", kind)
}

func (c *Conn) readBulk(text string) (any, error) {
	n, err := length(text)
	if err != nil || n < 0 {
		return nil, err
	}
	buf := make([]byte, n+2)
	if _, err := io.ReadFull(c.reader, buf); err != nil {
		return nil, err
	}
	return string(buf[:n]), nil
}

func (c *Conn) readArray(text string, depth int) (any, error) {
	n, err := length(text)
	if err != nil || n < 0 {
		return nil, err
	}
	items := make([]any, 0, min(n, 1024))
	for range n {
		item, err := c.read(depth + 1)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func length(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n > maxLength {
		return 0, errors.New("reading a reply: its length " + strconv.Quote(text) + " is none")
	}
	return n, nil
}
