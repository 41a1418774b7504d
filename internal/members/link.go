package members

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"understudy.dev/understudy/internal/wire"
)

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// askEvery is how often a Status is asked for again: a node that lost its power says nothing, and TCP alone would
	// notice after minutes.
	askEvery = 2 * time.Second
	// silentAfter cuts a connection over which nothing came for so long.
	silentAfter = 5 * time.Second
)

var errNotConnected = errors.New("the operator has no connection to that member at the moment")

// link is the connection to one member's pod.
type link struct {
	target  Target
	uid     string
	cancel  context.CancelFunc
	log     logr.Logger
	changed func()

	mu       sync.Mutex
	identity func() (tls.Certificate, *x509.CertPool, error)
	conn     *wire.Conn
	waiting  map[string]chan wire.HandoverReply
	report   Report
	digest   string
}

func (l *link) setIdentity(identity func() (tls.Certificate, *x509.CertPool, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.identity = identity
}

func (l *link) snapshot() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.report
}

// run connects again and again until ctx ends.
func (l *link) run(ctx context.Context) {
	backoff := minBackoff
	for ctx.Err() == nil {
		begun := time.Now()
		err := l.session(ctx)
		l.lost(err)
		if time.Since(begun) > maxBackoff {
			backoff = minBackoff
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// session is one connection from dial to end.
func (l *link) session(ctx context.Context) error {
	l.mu.Lock()
	identity := l.identity
	l.mu.Unlock()
	cert, roots, err := identity()
	if err != nil {
		return err
	}
	hello := wire.Hello{ServiceUID: l.uid}
	conn, err := wire.Dial(ctx, l.target.Address, l.target.Member, wire.ClientConfig(cert, roots), hello)
	if err != nil {
		return err
	}
	if err := conn.Send(wire.Frame{WatchStatus: &wire.WatchStatus{}}); err != nil {
		conn.Close("asking for the status failed")
		return err
	}
	l.mu.Lock()
	l.conn = conn
	l.mu.Unlock()
	heard := make(chan struct{}, 1)
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { watchdog(ctx, conn, heard, done) })
	err = l.receive(conn, heard)
	close(done)
	watch.Wait()
	return err
}

// watchdog keeps asking, and closes the connection when nothing comes or ctx ends.
func watchdog(ctx context.Context, conn *wire.Conn, heard, done <-chan struct{}) {
	ask := time.NewTicker(askEvery)
	defer ask.Stop()
	silent := time.NewTimer(silentAfter)
	defer silent.Stop()
	for {
		select {
		case <-done:
			conn.Close("the connection ended")
			return
		case <-ctx.Done():
			conn.Close("the operator ends or the pod changed")
			return
		case <-silent.C:
			conn.Close("nothing was heard for too long")
			return
		case <-heard:
			silent.Reset(silentAfter)
		case <-ask.C:
			_ = conn.Send(wire.Frame{WatchStatus: &wire.WatchStatus{}})
		}
	}
}

func (l *link) receive(conn *wire.Conn, heard chan<- struct{}) error {
	for {
		frame, err := conn.Receive()
		if err != nil {
			return err
		}
		select {
		case heard <- struct{}{}:
		default:
		}
		switch {
		case frame.Status != nil:
			l.heardStatus(frame.Status)
		case frame.HandoverReply != nil:
			l.answer(*frame.HandoverReply)
		case frame.Goodbye != nil:
			return fmt.Errorf("it said goodbye: %s", frame.Goodbye.Reason)
		}
	}
}

func (l *link) heardStatus(status *wire.Status) {
	l.mu.Lock()
	now := time.Now()
	if !l.report.Connected {
		l.report.Since = now
	}
	l.report.Connected, l.report.Tried, l.report.Problem = true, true, ""
	l.report.Status, l.report.Received = status, now
	digest := Digest(status)
	differs := digest != l.digest
	l.digest = digest
	l.mu.Unlock()
	if differs {
		l.changed()
	}
}

func (l *link) lost(err error) {
	l.mu.Lock()
	first := !l.report.Tried
	was := l.report.Connected
	if was || first {
		l.report.Since = time.Now()
	}
	l.report.Connected, l.report.Tried = false, true
	if err != nil {
		l.report.Problem = err.Error()
	}
	l.conn, l.digest = nil, ""
	for id, reply := range l.waiting {
		close(reply)
		delete(l.waiting, id)
	}
	l.mu.Unlock()
	if was || first {
		l.log.V(1).Info("member is not connected", "reason", l.report.Problem)
		l.changed()
	}
}

func (l *link) send(frame wire.Frame) error {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return errNotConnected
	}
	return conn.Send(frame)
}

func (l *link) handover(ctx context.Context, request wire.Handover) (wire.HandoverReply, error) {
	reply := make(chan wire.HandoverReply, 1)
	l.mu.Lock()
	if l.conn == nil {
		l.mu.Unlock()
		return wire.HandoverReply{}, errNotConnected
	}
	l.waiting[request.ID] = reply
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiting, request.ID)
	}()
	if err := l.send(wire.Frame{Handover: &request}); err != nil {
		return wire.HandoverReply{}, err
	}
	select {
	case answer, ok := <-reply:
		if !ok {
			return wire.HandoverReply{}, fmt.Errorf("the connection to %s ended before it answered", l.target.Member)
		}
		return answer, nil
	case <-ctx.Done():
		return wire.HandoverReply{}, fmt.Errorf("waiting for the answer of %s: %w", l.target.Member, ctx.Err())
	}
}

func (l *link) answer(reply wire.HandoverReply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.waiting[reply.ID]; ok {
		c <- reply
		delete(l.waiting, reply.ID)
	}
}
