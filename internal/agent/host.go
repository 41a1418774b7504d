package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/guard"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/relay"
	"understudy.dev/understudy/internal/supervisor"
	"understudy.dev/understudy/internal/wire"
)

// Host gives an agent a real machine: PID 1's duties, clocks, disk, network and API server.
type Host struct {
	// Options but World, Guard, Processes, Store and Mesh.
	Options  Options
	Kube     KubeWatcher
	Identity *wire.Identity
	StateDir string
	DataDir  string
	// Leave asks the agent to hand over and end when it is closed or sent to.
	Leave <-chan struct{}
}

// host is a Host that runs.
type host struct {
	Host
	agent *Agent
	inbox chan func()
	ctx   context.Context
}

// Run starts everything in the order that the safety rules ask for, and returns when the agent was asked to end and has
// handed over.
func (o Host) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := &host{Host: o, inbox: make(chan func(), 256), ctx: ctx}
	g, err := guard.New()
	if err != nil {
		return err
	}
	self := o.Options.Self
	hello := wire.Hello{ServiceUID: o.Options.Config.ServiceUID, Run: self, Address: o.Options.IPs[0]}
	m := newMesh(ctx, self, hello, o.Options.Config.Service, o.Options.Config.Namespace, o.Identity, h.post)
	options := o.Options
	options.Kube, options.World, options.Guard, options.Mesh = o.Kube, h, g, m
	var addresses []string
	for _, ip := range options.IPs {
		addresses = append(addresses, net.JoinHostPort(ip, strconv.Itoa(options.Engine.Port())))
	}
	options.Relay = relay.New(addresses, options.Log)
	options.Store = files{state: o.StateDir, data: o.DataDir}
	options.Processes = supervisor.New(func(e supervisor.Exit) { h.post(func() { h.agent.OnExit(e) }) })
	h.agent = New(options)
	m.handler = h.agent
	if err := h.agent.Begin(); err != nil {
		return err
	}
	listener, err := reuseListener(ctx, names.AgentPort)
	if err != nil {
		return fmt.Errorf("listening for peers: %w", err)
	}
	defer func() { _ = listener.Close() }()
	go func() { _ = m.serve(ctx, listener) }()
	go h.followLease()
	h.serveHTTP(ctx)
	return h.loop()
}

// loop: something happened, decide, do.
func (h *host) loop() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	leave := h.Leave
	for !h.agent.Ended() {
		select {
		case <-h.ctx.Done():
			return h.ctx.Err()
		case f := <-h.inbox:
			f()
			h.drain()
		case <-leave:
			leave = nil
			h.agent.Leave()
		case <-timer.C:
		}
		timer.Reset(h.agent.Step())
	}
	return nil
}

// drain takes what else has happened already, so that one decision sees it all.
func (h *host) drain() {
	for range 64 {
		select {
		case f := <-h.inbox:
			f()
		default:
			return
		}
	}
}

// post runs f on the loop.
func (h *host) post(f func()) {
	select {
	case h.inbox <- f:
	case <-h.ctx.Done():
	}
}

// Now implements World.
func (h *host) Now() failover.Instant { return guard.Now() }

// Wall implements World.
func (h *host) Wall() time.Time { return time.Now() }

const (
	// readTogether is how far apart the two clocks may be read; a process that is stopped between them reads nonsense.
	readTogether = 10 * time.Millisecond
	readTries    = 5
)

// WallOffset implements World.
func (h *host) WallOffset() (time.Duration, bool) {
	for range readTries {
		before := guard.Now()
		wall := time.Now().UnixNano()
		if guard.Now().Sub(before) < readTogether {
			return time.Duration(wall - int64(before)), true
		}
	}
	return 0, false
}

// After implements World.
func (h *host) After(d time.Duration, f func()) { time.AfterFunc(d, func() { h.post(f) }) }

// Beside implements World.
func (h *host) Beside(limit time.Duration, work func(ctx context.Context), then func()) {
	go func() {
		ctx, cancel := h.ctx, context.CancelFunc(func() {})
		if limit > 0 {
			ctx, cancel = context.WithTimeout(h.ctx, limit)
		}
		work(ctx)
		cancel()
		h.post(then)
	}()
}

// followLease reads the Lease from the quorum, watches it, and begins anew when the watch ends.
func (h *host) followLease() {
	pause := 50 * time.Millisecond
	for h.ctx.Err() == nil {
		call, cancel := context.WithTimeout(h.ctx, apiTimeout)
		l, err := h.Kube.ReadLease(call)
		cancel()
		if err == nil {
			pause = 50 * time.Millisecond
			h.post(func() { h.agent.OnLease(l, true) })
			err = h.Kube.WatchLease(h.ctx, l.Version, func(l failover.Lease) { h.post(func() { h.agent.OnLease(l, false) }) })
		}
		if err != nil && h.ctx.Err() == nil {
			h.agent.Log.Info("The Lease cannot be followed; trying again", "why", err.Error(), "in", pause)
		}
		select {
		case <-h.ctx.Done():
		case <-time.After(pause + rand.N(pause)): //nolint:gosec // jitter
		}
		pause = min(2*pause, 2*time.Second)
	}
}
