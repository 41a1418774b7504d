// Package members keeps the operator's connections to the agents of every service: one a member, mTLS, over which the
// agent tells its Status whenever something worth telling changes. Nothing here touches the Kubernetes API.
package members

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// Target is a member's pod to connect to.
type Target struct {
	Member  string
	PodUID  string
	Address string // host:port
}

// Service is what the members of one service are reached with.
type Service struct {
	Key types.NamespacedName
	UID string
	// Identity gives a client certificate of the operator and the authorities to trust, as of now.
	Identity func() (tls.Certificate, *x509.CertPool, error)
	Targets  []Target
}

// Report is what is known of one member.
type Report struct {
	Target
	// Connected says that the connection stands and Status came over it. Otherwise Status is what it said last, and
	// nobody knows whether that still holds.
	Connected bool
	// Tried says that at least one attempt to connect has ended, so that "not connected" means something.
	Tried    bool
	Status   *wire.Status
	Received time.Time
	// Since is when Connected changed last.
	Since time.Time
	// Problem is why it is not connected.
	Problem string
}

// Live is the status of a member that is connected and is the pod we mean; nil otherwise.
func (r Report) Live() *wire.Status {
	if !r.Connected || r.Status == nil || r.Status.Run.PodUID != r.PodUID {
		return nil
	}
	return r.Status
}

// Members is what controllers need of this package.
type Members interface {
	// Sync says which members a service has now.
	Sync(service Service)
	// Forget closes the connections of a service that is gone.
	Forget(key types.NamespacedName)
	// Snapshot has a report for each member of the last Sync, by name.
	Snapshot(key types.NamespacedName) []Report
	// Handover asks the primary to hand over and waits for its answer.
	Handover(ctx context.Context, key types.NamespacedName, member string, request wire.Handover) (wire.HandoverReply, error)
	// SendTerms tells the holder what the policy asks for.
	SendTerms(key types.NamespacedName, member string, terms failover.Terms) error
	// SendProof hands a member what only the operator sees.
	SendProof(key types.NamespacedName, member string, proof wire.Proof) error
	// Subscribe calls f with the key of a service whenever a report changed in something that matters. f may wait
	// until ctx ends, which it does when nobody is interested any more.
	Subscribe(f Subscriber)
}

// Subscriber is told that a report of a service changed.
type Subscriber func(ctx context.Context, key types.NamespacedName)

// Manager is the real Members.
type Manager struct {
	log    logr.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu          sync.Mutex
	services    map[types.NamespacedName]*service
	subscribers []Subscriber
}

type service struct {
	Service
	links map[string]*link
}

var _ Members = &Manager{}

// NewManager returns a manager without connections.
func NewManager(log logr.Logger) *Manager {
	ctx, cancel := context.WithCancel(context.Background())
	return &Manager{log: log, ctx: ctx, cancel: cancel, services: map[types.NamespacedName]*service{}}
}

// Start waits for the end of ctx and then closes every connection with a goodbye.
func (m *Manager) Start(ctx context.Context) error {
	<-ctx.Done()
	m.cancel()
	m.wait.Wait()
	return nil
}

// NeedLeaderElection is true: only the leader connects to members.
func (m *Manager) NeedLeaderElection() bool { return true }

// Subscribe implements Members.
func (m *Manager) Subscribe(f Subscriber) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subscribers = append(m.subscribers, f)
}

func (m *Manager) notify(ctx context.Context, key types.NamespacedName) {
	m.mu.Lock()
	subscribers := slices.Clone(m.subscribers)
	m.mu.Unlock()
	for _, f := range subscribers {
		f(ctx, key)
	}
}

// Sync implements Members.
func (m *Manager) Sync(wanted Service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return
	}
	s := m.services[wanted.Key]
	if s == nil || s.UID != wanted.UID {
		if s != nil {
			s.close()
		}
		s = &service{links: map[string]*link{}}
		m.services[wanted.Key] = s
	}
	s.Service = wanted
	keep := map[string]bool{}
	for _, target := range wanted.Targets {
		keep[target.Member] = true
		old := s.links[target.Member]
		if old != nil && old.target == target {
			old.setIdentity(wanted.Identity)
			continue
		}
		if old != nil {
			old.cancel()
		}
		s.links[target.Member] = m.open(wanted, target)
	}
	for name, l := range s.links {
		if !keep[name] {
			l.cancel()
			delete(s.links, name)
		}
	}
}

func (m *Manager) open(of Service, target Target) *link {
	ctx, cancel := context.WithCancel(m.ctx)
	l := &link{
		target: target, uid: of.UID, identity: of.Identity, cancel: cancel,
		log:     m.log.WithValues("service", of.Key.String(), "member", target.Member),
		changed: func() { m.notify(ctx, of.Key) },
		waiting: map[string]chan wire.HandoverReply{},
		report:  Report{Target: target},
	}
	m.wait.Go(func() { l.run(ctx) })
	return l
}

func (s *service) close() {
	for _, l := range s.links {
		l.cancel()
	}
}

// Forget implements Members.
func (m *Manager) Forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.services[key]; s != nil {
		s.close()
		delete(m.services, key)
	}
}

// Snapshot implements Members.
func (m *Manager) Snapshot(key types.NamespacedName) []Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.services[key]
	if s == nil {
		return nil
	}
	out := make([]Report, 0, len(s.links))
	for _, l := range s.links {
		out = append(out, l.snapshot())
	}
	slices.SortFunc(out, func(a, b Report) int { return strings.Compare(a.Member, b.Member) })
	return out
}

func (m *Manager) link(key types.NamespacedName, member string) (*link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.services[key]; s != nil {
		if l := s.links[member]; l != nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("member %s of service %s is not known", member, key)
}

// Handover implements Members.
func (m *Manager) Handover(ctx context.Context, key types.NamespacedName, member string, request wire.Handover) (wire.HandoverReply, error) {
	l, err := m.link(key, member)
	if err != nil {
		return wire.HandoverReply{}, err
	}
	return l.handover(ctx, request)
}

// SendTerms implements Members.
func (m *Manager) SendTerms(key types.NamespacedName, member string, terms failover.Terms) error {
	l, err := m.link(key, member)
	if err != nil {
		return err
	}
	return l.send(wire.Frame{Policy: &wire.Policy{Terms: terms}})
}

// SendProof implements Members.
func (m *Manager) SendProof(key types.NamespacedName, member string, proof wire.Proof) error {
	l, err := m.link(key, member)
	if err != nil {
		return err
	}
	return l.send(wire.Frame{Proof: &proof})
}
