// Package relay leads clients that still come to a former primary's address to its successor. Each node learns of a new
// route in its own time, tens of milliseconds after the successor writes already; until then connections arrive where the
// engine was killed. Instead of being refused there they are passed on, byte by byte and without being understood. Only an
// engine that may write acknowledges anything, so it does not matter who passes a request on.
// docs/design/2026-11-24-relay.md has the measurement.
package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

const (
	// patience is how long an accepted connection waits for a successor before it is closed.
	patience = time.Second
	// dialTimeout bounds the way to the successor.
	dialTimeout = 500 * time.Millisecond
	// most connections are passed on at once; more are refused, and their clients try again.
	most = 512
)

// Relay listens between the end of one engine and the start of the next.
type Relay struct {
	addresses []string
	log       logr.Logger

	mu        sync.Mutex
	listeners []net.Listener
	led       chan struct{} // closed when target is set
	target    string
	slots     chan struct{}
}

// New makes a relay for the engine's addresses (host:port).
func New(addresses []string, log logr.Logger) *Relay {
	return &Relay{addresses: addresses, log: log, slots: make(chan struct{}, most)}
}

// Listen accepts connections; they wait until Lead says where to.
func (r *Relay) Listen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.listeners) > 0 {
		return
	}
	led := make(chan struct{})
	r.led, r.target = led, ""
	for _, address := range r.addresses {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
		if err != nil {
			r.log.Info("Clients of the old address are not led to the successor", "address", address, "why", err.Error())
			continue
		}
		r.listeners = append(r.listeners, l)
		go r.accept(l, led)
	}
}

// Lead says where the successor's engine listens.
func (r *Relay) Lead(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.led == nil || r.target != "" {
		return
	}
	r.target = address
	close(r.led)
}

// Stop closes the door, so that the engine can have the port again. Connections that were passed on go on.
func (r *Relay) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.listeners {
		_ = l.Close()
	}
	r.listeners = nil
}

func (r *Relay) accept(l net.Listener, led <-chan struct{}) {
	for {
		client, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // out of descriptors, say: do not spin
			continue
		}
		select {
		case r.slots <- struct{}{}:
			go func() {
				r.pass(client, led)
				<-r.slots
			}()
		default:
			refuse(client)
		}
	}
}

// refuse closes with a reset, as a port without a listener answers.
func refuse(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

func (r *Relay) pass(client net.Conn, led <-chan struct{}) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-led:
	case <-timer.C:
		refuse(client)
		return
	}
	r.mu.Lock()
	target := r.target
	r.mu.Unlock()
	server, err := net.DialTimeout("tcp", target, dialTimeout)
	if err != nil {
		refuse(client)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { copyTo(server, client) })
	both.Go(func() { copyTo(client, server) })
	both.Wait()
	_, _ = client.Close(), server.Close()
}

// copyTo passes on until the end of one direction; the kernel does the copying where it can.
func copyTo(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if t, ok := to.(*net.TCPConn); ok && err == nil {
		_ = t.CloseWrite()
		return
	}
	_, _ = to.Close(), from.Close() // a reset is passed on as an end of both
}
