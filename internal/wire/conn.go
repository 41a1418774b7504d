package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// MaxFrame bounds what a peer may make us read at once.
	MaxFrame = 64 << 10
	// HandshakeTimeout bounds dialling, TLS and the hello together.
	HandshakeTimeout = 2 * time.Second
	// WriteTimeout bounds one frame; a peer that does not read is cut.
	WriteTimeout = time.Second
)

// Conn is one mTLS connection after both hellos.
type Conn struct {
	tls    *tls.Conn
	reader *bufio.Reader
	write  sync.Mutex
	Peer   Hello  // what the other side said of itself
	Name   string // common name of its verified certificate
}

// Dial connects to an agent that must present a certificate for serverName.
func Dial(ctx context.Context, address, serverName string, config *tls.Config, hello Hello) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, HandshakeTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.ServerName = serverName
	return handshake(ctx, raw, tls.Client(raw, config), hello)
}

// Accept completes an incoming connection.
func Accept(ctx context.Context, raw net.Conn, config *tls.Config, hello Hello) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, HandshakeTimeout)
	defer cancel()
	return handshake(ctx, raw, tls.Server(raw, config), hello)
}

func handshake(ctx context.Context, raw net.Conn, secure *tls.Conn, hello Hello) (*Conn, error) {
	c := &Conn{tls: secure, reader: bufio.NewReader(secure)}
	err := c.greet(ctx, hello)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) greet(ctx context.Context, hello Hello) error {
	deadline, _ := ctx.Deadline()
	if err := c.tls.SetDeadline(deadline); err != nil {
		return err
	}
	if err := c.tls.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake with %s: %w", c.tls.RemoteAddr(), err)
	}
	certs := c.tls.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return fmt.Errorf("TLS handshake with %s: it showed no certificate", c.tls.RemoteAddr())
	}
	c.Name = certs[0].Subject.CommonName
	if err := c.Send(Frame{Hello: &hello}); err != nil {
		return err
	}
	frame, err := c.Receive()
	if err != nil {
		return fmt.Errorf("waiting for the hello of %s: %w", c.tls.RemoteAddr(), err)
	}
	if frame.Hello == nil {
		return fmt.Errorf("%s (%s) did not begin with a hello", c.tls.RemoteAddr(), c.Name)
	}
	c.Peer = *frame.Hello
	if c.Peer.ServiceUID != hello.ServiceUID {
		return fmt.Errorf("%s (%s) belongs to service UID %q, not to %q", c.tls.RemoteAddr(), c.Name, c.Peer.ServiceUID, hello.ServiceUID)
	}
	if !c.Peer.Run.IsZero() && c.Peer.Run.Member != c.Name {
		return fmt.Errorf("%s says it is %q, its certificate says %q", c.tls.RemoteAddr(), c.Peer.Run.Member, c.Name)
	}
	return c.tls.SetDeadline(time.Time{})
}

// RemoteIP is the address of the other side.
func (c *Conn) RemoteIP() string {
	host, _, _ := net.SplitHostPort(c.tls.RemoteAddr().String())
	return host
}

// Send writes one frame. It may be called from several goroutines.
func (c *Conn) Send(f Frame) error {
	body, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encoding a frame: %w", err)
	}
	if len(body) > MaxFrame {
		return fmt.Errorf("a frame of %d bytes is over the limit of %d", len(body), MaxFrame)
	}
	buf := make([]byte, 4+len(body))
	binary.BigEndian.PutUint32(buf, uint32(len(body)))
	copy(buf[4:], body)
	c.write.Lock()
	defer c.write.Unlock()
	if err := c.tls.SetWriteDeadline(time.Now().Add(WriteTimeout)); err != nil {
		return err
	}
	_, err = c.tls.Write(buf)
	return err
}

// Receive reads one frame.
func (c *Conn) Receive() (Frame, error) {
	var f Frame
	var size [4]byte
	if _, err := io.ReadFull(c.reader, size[:]); err != nil {
		return f, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > MaxFrame {
		return f, fmt.Errorf("a frame of %d bytes is over the limit of %d", n, MaxFrame)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.reader, body); err != nil {
		return f, err
	}
	if err := json.Unmarshal(body, &f); err != nil {
		return f, fmt.Errorf("decoding a frame: %w", err)
	}
	return f, nil
}

// Close says goodbye and closes, so that the end of this connection is not taken for the end of the process.
func (c *Conn) Close(reason string) {
	_ = c.Send(Frame{Goodbye: &Goodbye{Reason: reason}})
	_ = c.tls.Close()
}

// EndedByPeer reports whether err is an end of file: the other side's kernel closed the connection in order. A reset,
// an ICMP error and a time-out are silence, for a firewall can make them.
func EndedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// Abort closes without a goodbye, for a connection that is broken already.
func (c *Conn) Abort() { _ = c.tls.NetConn().Close() }

// SetUserTimeout lets the kernel cut the connection when sent bytes stay unacknowledged for d.
func (c *Conn) SetUserTimeout(d time.Duration) {
	tcp, ok := c.tls.NetConn().(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	setUserTimeout(raw, d)
}

func setUserTimeout(raw syscall.RawConn, d time.Duration) {
	_ = raw.Control(func(fd uintptr) { // best effort: without it TCP's own limits hold
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// Dialer makes connections that the kernel cuts when sent bytes stay unacknowledged for d, the first ones included.
func Dialer(d time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: d, KeepAlive: 30 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
		setUserTimeout(raw, d)
		return nil
	}}
}
