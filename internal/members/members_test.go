package members

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"understudy.dev/understudy/internal/certs"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

const within = 10 * time.Second

var key = types.NamespacedName{Namespace: "default", Name: "cache"}

// authority signs for one test.
type authority struct {
	*testing.T
	pair certs.Pair
}

func newAuthority(t *testing.T) authority {
	pair, err := certs.NewAuthority(rand.Reader, time.Now(), "test")
	if err != nil {
		t.Fatal(err)
	}
	return authority{t, pair}
}

func (a authority) issue(name string) (tls.Certificate, *x509.CertPool) {
	a.Helper()
	pair, err := certs.Issue(rand.Reader, time.Now(), a.pair, certs.Leaf{Name: name, DNSNames: []string{name}, Life: time.Hour})
	if err != nil {
		a.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		a.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.pair.Cert)
	return cert, pool
}

func (a authority) identity() (tls.Certificate, *x509.CertPool, error) {
	cert, pool := a.issue("understudy-operator")
	return cert, pool, nil
}

// agent answers as an agent does.
type agent struct {
	listener net.Listener
	run      failover.Run

	mu     sync.Mutex
	conn   *wire.Conn
	opened int
	terms  *failover.Terms
	asked  int
}

func newAgent(a authority, name string) *agent { return newAgentOf(a, name, "uid-"+name) }

func newAgentOf(a authority, name, podUID string) *agent {
	a.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.Fatal(err)
	}
	ag := &agent{listener: listener, run: failover.Run{Member: name, PodUID: podUID, BootID: "boot"}}
	cert, pool := a.issue(name)
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { ag.serve(raw, cert, pool) })
		}
	})
	a.Cleanup(func() {
		_ = listener.Close()
		ag.drop()
		wait.Wait()
	})
	return ag
}

func (ag *agent) serve(raw net.Conn, cert tls.Certificate, pool *x509.CertPool) {
	conn, err := wire.Accept(context.Background(), raw, wire.ServerConfig(cert, pool), wire.Hello{ServiceUID: "service", Run: ag.run})
	if err != nil {
		return
	}
	ag.mu.Lock()
	ag.conn = conn
	ag.opened++
	ag.mu.Unlock()
	for {
		frame, err := conn.Receive()
		if err != nil {
			return
		}
		switch {
		case frame.WatchStatus != nil:
			ag.mu.Lock()
			ag.asked++
			ag.mu.Unlock()
			ag.say(func(*wire.Status) {})
		case frame.Handover != nil && frame.Handover.Target == "nobody":
			ag.drop()
		case frame.Handover != nil:
			_ = conn.Send(wire.Frame{HandoverReply: &wire.HandoverReply{ID: frame.Handover.ID, Target: frame.Handover.Target}})
		case frame.Policy != nil:
			ag.mu.Lock()
			ag.terms = &frame.Policy.Terms
			ag.mu.Unlock()
		}
	}
}

func (ag *agent) say(change func(*wire.Status)) {
	status := wire.Status{Run: ag.run, State: "Following", Eligible: true}
	change(&status)
	ag.mu.Lock()
	conn := ag.conn
	ag.mu.Unlock()
	_ = conn.Send(wire.Frame{Status: &status})
}

func (ag *agent) drop() {
	ag.mu.Lock()
	defer ag.mu.Unlock()
	if ag.conn != nil {
		ag.conn.Close("the test drops it")
	}
}

func (ag *agent) target() Target {
	return Target{Member: ag.run.Member, PodUID: ag.run.PodUID, Address: ag.listener.Addr().String()}
}

// house is a manager with a count of its notifications.
type house struct {
	*Manager
	*testing.T
	mu   sync.Mutex
	told int
}

func newHouse(t *testing.T) *house {
	h := &house{Manager: NewManager(logr.Discard()), T: t}
	h.Subscribe(func(context.Context, types.NamespacedName) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.told++
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return h
}

func (h *house) notifications() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told
}

func (h *house) eventually(what string, check func() bool) {
	h.Helper()
	deadline := time.Now().Add(within)
	for time.Now().Before(deadline) {
		if check() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.Fatalf("not within %s: %s; reports %+v", within, what, h.Snapshot(key))
}

func (h *house) live(member string) *wire.Status {
	for _, r := range h.Snapshot(key) {
		if r.Member == member {
			return r.Live()
		}
	}
	return nil
}

func TestStatusArrives(t *testing.T) {
	a, h := newAuthority(t), newHouse(t)
	ag := newAgent(a, "cache-0")
	h.Sync(Service{Key: key, UID: "service", Identity: a.identity, Targets: []Target{ag.target()}})
	h.eventually("a status", func() bool { return h.live("cache-0") != nil })
	before := h.notifications()
	for i := range 20 {
		ag.say(func(s *wire.Status) { s.LagBytes, s.Position.Offset = int64(i), int64(i) })
	}
	h.eventually("the newest lag", func() bool { return h.live("cache-0").LagBytes == 19 })
	if n := h.notifications(); n != before {
		t.Errorf("%d notifications for lag alone", n-before)
	}
	ag.say(func(s *wire.Status) { s.State = "CatchingUp" })
	h.eventually("a notification of another state", func() bool { return h.notifications() > before })
}

func TestReconnects(t *testing.T) {
	a, h := newAuthority(t), newHouse(t)
	ag := newAgent(a, "cache-0")
	h.Sync(Service{Key: key, UID: "service", Identity: a.identity, Targets: []Target{ag.target()}})
	h.eventually("a status", func() bool { return h.live("cache-0") != nil })
	before := h.notifications()
	ag.drop()
	h.eventually("a notification of the end", func() bool { return h.notifications() > before })
	h.eventually("another connection", func() bool {
		ag.mu.Lock()
		defer ag.mu.Unlock()
		return ag.opened > 1
	})
	h.eventually("a status again", func() bool { return h.live("cache-0") != nil })
}

// TestStrangers: neither another service's agent nor another member nor another pod passes for the one we mean.
func TestStrangers(t *testing.T) {
	a := newAuthority(t)
	ag := newAgent(a, "cache-0")
	other := newAuthority(t)
	for name, service := range map[string]Service{
		"another authority": {UID: "service", Identity: other.identity, Targets: []Target{ag.target()}},
		"another service":   {UID: "else", Identity: a.identity, Targets: []Target{ag.target()}},
		"another member":    {UID: "service", Identity: a.identity, Targets: []Target{{Member: "cache-1", PodUID: "uid-cache-0", Address: ag.target().Address}}},
		"another pod":       {UID: "service", Identity: a.identity, Targets: []Target{{Member: "cache-0", PodUID: "older", Address: ag.target().Address}}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			service.Key = key
			h.Sync(service)
			h.eventually("an attempt", func() bool { return h.Snapshot(key)[0].Tried })
			if status := h.Snapshot(key)[0].Live(); status != nil {
				t.Errorf("believed %+v", status)
			}
		})
	}
}

func TestHandover(t *testing.T) {
	a, h := newAuthority(t), newHouse(t)
	ag := newAgent(a, "cache-0")
	if _, err := h.Handover(t.Context(), key, "cache-0", wire.Handover{ID: "1"}); err == nil {
		t.Error("handed over to a member nobody knows")
	}
	h.Sync(Service{Key: key, UID: "service", Identity: a.identity, Targets: []Target{ag.target()}})
	h.eventually("a status", func() bool { return h.live("cache-0") != nil })
	reply, err := h.Handover(t.Context(), key, "cache-0", wire.Handover{ID: "2", Target: "cache-1"})
	if err != nil || reply.Target != "cache-1" {
		t.Errorf("%+v, %v", reply, err)
	}
	if _, err := h.Handover(t.Context(), key, "cache-0", wire.Handover{ID: "3", Target: "nobody"}); err == nil {
		t.Error("no error though the connection ended without an answer")
	}
}

func TestTermsArrive(t *testing.T) {
	a, h := newAuthority(t), newHouse(t)
	ag := newAgent(a, "cache-0")
	h.Sync(Service{Key: key, UID: "service", Identity: a.identity, Targets: []Target{ag.target()}})
	h.eventually("a status", func() bool { return h.live("cache-0") != nil })
	if err := h.SendTerms(key, "cache-0", failover.Terms{LeaseMillis: 1500}); err != nil {
		t.Fatal(err)
	}
	h.eventually("the terms", func() bool {
		ag.mu.Lock()
		defer ag.mu.Unlock()
		return ag.terms != nil && ag.terms.LeaseMillis == 1500
	})
}

// TestSyncFollowsPods: a new pod of the same name gets a connection of its own, a pod that is gone none.
func TestSyncFollowsPods(t *testing.T) {
	a, h := newAuthority(t), newHouse(t)
	first, second := newAgent(a, "cache-0"), newAgentOf(a, "cache-0", "uid-2")
	service := Service{Key: key, UID: "service", Identity: a.identity, Targets: []Target{first.target()}}
	h.Sync(service)
	h.eventually("a status", func() bool { return h.live("cache-0") != nil })
	service.Targets = []Target{second.target()}
	h.Sync(service)
	h.eventually("the new pod's status", func() bool { s := h.live("cache-0"); return s != nil && s.Run.PodUID == "uid-2" })
	service.Targets = nil
	h.Sync(service)
	if reports := h.Snapshot(key); len(reports) != 0 {
		t.Errorf("reports of nobody: %+v", reports)
	}
	h.Forget(key)
}

// TestAsksAgain: silence on a connection is found out, though TCP alone would take minutes.
func TestAsksAgain(t *testing.T) {
	a, h := newAuthority(t), newHouse(t)
	ag := newAgent(a, "cache-0")
	h.Sync(Service{Key: key, UID: "service", Identity: a.identity, Targets: []Target{ag.target()}})
	h.eventually("a second question", func() bool {
		ag.mu.Lock()
		defer ag.mu.Unlock()
		return ag.asked > 1
	})
}

func TestDigest(t *testing.T) {
	full := func(volume string) *wire.Status {
		return &wire.Status{Full: []wire.Full{{Volume: volume, Least: 1, Size: 20}}}
	}
	if Digest(full("data")) == Digest(full("wal")) {
		t.Error("which volume is full makes no difference")
	}
	base := wire.Status{State: "Following", Eligible: true, Explanation: "a", Configured: "1"}
	for name, c := range map[string]struct {
		change  func(*wire.Status)
		differs bool
	}{
		"lag":                   {func(s *wire.Status) { s.LagBytes = 5 }, false},
		"position":              {func(s *wire.Status) { s.Position.Offset = 5 }, false},
		"lateness":              {func(s *wire.Status) { s.GuardLatenessMicros = 5 }, false},
		"state":                 {func(s *wire.Status) { s.State = "CatchingUp" }, true},
		"serving":               {func(s *wire.Status) { s.Serving = true }, true},
		"routed":                {func(s *wire.Status) { s.Routed = true }, true},
		"refused by a guard":    {func(s *wire.Status) { s.Eligible, s.Reason = false, "Lagging" }, true},
		"a takeover":            {func(s *wire.Status) { s.Takeovers = []wire.Takeover{{Epoch: 2}} }, true},
		"data":                  {func(s *wire.Status) { s.HasData = true }, true},
		"a dead end":            {func(s *wire.Status) { s.Stuck = &wire.Stuck{Reason: "RejoinFailed"} }, true},
		"a volume is full":      {func(s *wire.Status) { s.Full = []wire.Full{{Volume: "data", Least: 1, Size: 20}} }, true},
		"what was kept aside":   {func(s *wire.Status) { s.Lost = &wire.Lost{Epoch: 3} }, true},
		"a configuration":       {func(s *wire.Status) { s.Configured = "2" }, true},
		"its refusal":           {func(s *wire.Status) { s.Refused = "too large" }, true},
		"a restart it needs":    {func(s *wire.Status) { s.PendingRestart, s.RestartFor = true, []string{"max_connections"} }, true},
		"explanation of no one": {func(s *wire.Status) { s.Explanation = "b" }, false},
	} {
		changed := base
		c.change(&changed)
		if got := Digest(&base) != Digest(&changed); got != c.differs {
			t.Errorf("%s: differs is %t", name, got)
		}
	}
}
