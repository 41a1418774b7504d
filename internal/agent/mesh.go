package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

const (
	// outboxSize bounds the frames that wait for one slow peer; more are dropped, as a network would.
	outboxSize = 32
	// maxInbound bounds the connections that are accepted at once.
	maxInbound = 64
	// redialFirst and redialMost bound the pause between two tries to reach a member.
	redialFirst = 50 * time.Millisecond
	redialMost  = time.Second
	// userTimeout cuts a connection whose bytes are not acknowledged by the other kernel.
	userTimeout = 3 * time.Second
)

// peerConn is the far end of one connection.
type peerConn struct {
	conn *wire.Conn
	out  chan wire.Frame
	done chan struct{}
}

// Send queues a frame; a peer that does not read loses it.
func (p *peerConn) Send(f wire.Frame) {
	select {
	case p.out <- f:
	default:
	}
}

// Close says goodbye first.
func (p *peerConn) Close(reason string) { p.conn.Close(reason) }

// RemoteIP is the address the connection leads to.
func (p *peerConn) RemoteIP() string { return p.conn.RemoteIP() }

// mesh keeps one connection of ours to every member and accepts theirs: each side sends its own requests on the
// connection it made and answers on the other's, so a lost segment delays one direction only.
type mesh struct {
	ctx      context.Context
	self     failover.Run
	service  string
	ns       string
	hello    wire.Hello
	identity *wire.Identity
	post     func(func())
	handler  meshHandler

	mu    sync.Mutex
	peers map[string]*peer
	slots chan struct{}
}

// meshHandler is the agent; its methods are called on the loop.
type meshHandler interface {
	OnLink(l *Link)
	OnFrame(l *Link, f wire.Frame)
	OnLinkEnd(l *Link, eof, goodbye bool)
}

type peer struct {
	cancel context.CancelFunc
	kick   chan string // an address at which the member was seen
}

func newMesh(ctx context.Context, self failover.Run, hello wire.Hello, service, namespace string, id *wire.Identity, post func(func())) *mesh {
	return &mesh{ctx: ctx, self: self, service: service, ns: namespace, hello: hello, identity: id, post: post,
		peers: map[string]*peer{}, slots: make(chan struct{}, maxInbound)}
}

// Members sets whom to keep connections to.
func (m *mesh) Members(list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	want := map[string]bool{}
	for _, name := range list {
		if name == m.self.Member {
			continue
		}
		want[name] = true
		if m.peers[name] == nil {
			ctx, cancel := context.WithCancel(m.ctx)
			p := &peer{cancel: cancel, kick: make(chan string, 1)}
			m.peers[name] = p
			go m.keep(ctx, name, p)
		}
	}
	for name, p := range m.peers {
		if !want[name] {
			p.cancel()
			delete(m.peers, name)
		}
	}
}

// seen tells the dialler of a member at which address it was just seen.
func (m *mesh) seen(member, address string) {
	m.mu.Lock()
	p := m.peers[member]
	m.mu.Unlock()
	if p == nil {
		return
	}
	select {
	case p.kick <- address:
	default: // one is waiting already
	}
}

// keep dials a member again and again, at the address where it was last seen or by its name.
func (m *mesh) keep(ctx context.Context, member string, p *peer) {
	pause := redialFirst
	host := names.MemberHost(member, m.service, m.ns)
	for ctx.Err() == nil {
		conn, err := m.dial(ctx, member, host)
		if err == nil {
			pause = redialFirst
			p := m.start(conn, true)
			select {
			case <-p.done:
			case <-ctx.Done():
				p.conn.Close("it is no member any more")
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case host = <-p.kick:
			pause = redialFirst
		case <-time.After(pause):
			pause = min(2*pause, redialMost)
			if err != nil {
				host = names.MemberHost(member, m.service, m.ns)
			}
		}
	}
}

func (m *mesh) dial(ctx context.Context, member, host string) (*wire.Conn, error) {
	config, err := m.identity.Client()
	if err != nil {
		return nil, err
	}
	return wire.Dial(ctx, net.JoinHostPort(host, strconv.Itoa(names.AgentPort)), member, config, m.hello)
}

// serve accepts connections until the listener is closed.
func (m *mesh) serve(ctx context.Context, listener net.Listener) error {
	config := m.identity.Server()
	for {
		raw, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors, say: do not spin
			continue
		}
		select {
		case m.slots <- struct{}{}:
			go m.accept(ctx, raw, config)
		default:
			_ = raw.Close()
		}
	}
}

func (m *mesh) accept(ctx context.Context, raw net.Conn, config *tls.Config) {
	defer func() { <-m.slots }()
	conn, err := wire.Accept(ctx, raw, config, m.hello)
	if err != nil {
		return
	}
	if conn.Peer.Run.IsZero() && conn.Name != names.OperatorCertName {
		conn.Close("a run must be named")
		return
	}
	if !conn.Peer.Run.IsZero() && conn.Peer.Address == conn.RemoteIP() {
		m.seen(conn.Peer.Run.Member, conn.Peer.Address)
	}
	<-m.start(conn, false).done
}

// start runs a connection; its frames reach the handler on the loop.
func (m *mesh) start(conn *wire.Conn, outbound bool) *peerConn {
	p := &peerConn{conn: conn, out: make(chan wire.Frame, outboxSize), done: make(chan struct{})}
	l := &Link{Run: conn.Peer.Run, Outbound: outbound, Peer: p}
	conn.SetUserTimeout(userTimeout)
	m.post(func() { m.handler.OnLink(l) })
	go func() {
		for {
			select {
			case f := <-p.out:
				if conn.Send(f) != nil {
					conn.Abort()
					return
				}
			case <-p.done:
				return
			}
		}
	}()
	go m.read(l, p)
	return p
}

func (m *mesh) read(l *Link, p *peerConn) {
	goodbye := false
	for {
		f, err := p.conn.Receive()
		if err != nil {
			close(p.done)
			p.conn.Abort()
			m.post(func() { m.handler.OnLinkEnd(l, wire.EndedByPeer(err), goodbye) })
			return
		}
		if f.Goodbye != nil {
			goodbye = true
			continue
		}
		m.post(func() { m.handler.OnFrame(l, f) })
	}
}

// Gone implements Mesh.
func (m *mesh) Gone(run failover.Run, address string, then func(proved bool, later failover.Run)) {
	go func() {
		proved, later := m.gone(m.ctx, run, address)
		m.post(func() { then(proved, later) })
	}()
}

// gone finds out whether the process behind a run whose connection ended is gone: its port refuses, or a later boot of
// the same pod answers. Anything else, a time-out above all, proves nothing.
func (m *mesh) gone(ctx context.Context, run failover.Run, address string) (proved bool, later failover.Run) {
	ctx, cancel := context.WithTimeout(ctx, wire.HandshakeTimeout)
	defer cancel()
	for ctx.Err() == nil {
		conn, err := m.dial(ctx, run.Member, address)
		switch {
		case err == nil:
			answered := conn.Peer.Run
			conn.Close("it was asked whether it lives")
			return false, answered
		case errors.Is(err, syscall.ECONNREFUSED):
			return true, failover.Run{}
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	return false, failover.Run{}
}

// reuseListener listens at once although connections of the run before are still in TIME_WAIT.
func reuseListener(ctx context.Context, port int) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }); e != nil {
			return e
		}
		return err
	}}
	return config.Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(port)))
}
