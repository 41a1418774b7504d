package members

import (
	"context"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// Fake is a Members for tests: what members say is set by the test.
type Fake struct {
	mu          sync.Mutex
	services    map[types.NamespacedName]Service
	reports     map[types.NamespacedName]map[string]Report
	terms       map[string]failover.Terms
	proofs      map[string]wire.Proof
	subscribers []Subscriber
	onHandover  HandoverFunc
}

// HandoverFunc answers Handover.
type HandoverFunc func(key types.NamespacedName, member string, request wire.Handover) (wire.HandoverReply, error)

// Answer sets who answers Handover.
func (f *Fake) Answer(with HandoverFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onHandover = with
}

var _ Members = &Fake{}

// Set makes a member say something and notifies subscribers.
func (f *Fake) Set(key types.NamespacedName, report Report) {
	f.mu.Lock()
	if f.reports == nil {
		f.reports = map[types.NamespacedName]map[string]Report{}
	}
	if f.reports[key] == nil {
		f.reports[key] = map[string]Report{}
	}
	f.reports[key][report.Member] = report
	subscribers := slices.Clone(f.subscribers)
	f.mu.Unlock()
	for _, s := range subscribers {
		s(context.Background(), key)
	}
}

// Service is what was synced last.
func (f *Fake) Service(key types.NamespacedName) Service {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.services[key]
}

// Terms are those sent last to a member.
func (f *Fake) Terms(member string) (failover.Terms, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.terms[member]
	return t, ok
}

// Sync implements Members.
func (f *Fake) Sync(s Service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.services == nil {
		f.services = map[types.NamespacedName]Service{}
	}
	f.services[s.Key] = s
}

// Forget implements Members.
func (f *Fake) Forget(key types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.services, key)
	delete(f.reports, key)
}

// Snapshot implements Members.
func (f *Fake) Snapshot(key types.NamespacedName) []Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Report
	for _, r := range f.reports[key] {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Report) int { return strings.Compare(a.Member, b.Member) })
	return out
}

// Handover implements Members.
func (f *Fake) Handover(_ context.Context, key types.NamespacedName, member string, request wire.Handover) (wire.HandoverReply, error) {
	f.mu.Lock()
	answer := f.onHandover
	f.mu.Unlock()
	if answer == nil {
		return wire.HandoverReply{}, errNotConnected
	}
	return answer(key, member, request)
}

// SendTerms implements Members.
func (f *Fake) SendTerms(_ types.NamespacedName, member string, terms failover.Terms) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.terms == nil {
		f.terms = map[string]failover.Terms{}
	}
	f.terms[member] = terms
	return nil
}

// SendProof implements Members.
func (f *Fake) SendProof(_ types.NamespacedName, member string, proof wire.Proof) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.proofs == nil {
		f.proofs = map[string]wire.Proof{}
	}
	f.proofs[member] = proof
	return nil
}

// Proof is what a member was handed last.
func (f *Fake) Proof(member string) (wire.Proof, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.proofs[member]
	return p, ok
}

// Subscribe implements Members.
func (f *Fake) Subscribe(s Subscriber) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subscribers = append(f.subscribers, s)
}
