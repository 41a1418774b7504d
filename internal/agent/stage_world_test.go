package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/turns"
	"understudy.dev/understudy/internal/wire"
)

// fakeAPI is the API server: one Lease with a version, and no slices.
type fakeAPI struct {
	s          *stage
	lease      failover.Lease
	swaps      []failover.Lease // all that was tried
	turns      []turns.Turn
	unanswered bool // writes are carried out and their answers lost
}

var (
	errConflict = errors.New("the object has been modified")
	errTimeout  = errors.New("context deadline exceeded")
)

// write changes the Lease, as the agent under test or somebody else does.
func (k *fakeAPI) write(l failover.Lease) {
	n, _ := strconv.Atoi(k.lease.Version)
	k.lease = l
	k.lease.Version = strconv.Itoa(n + 1)
}

func (k *fakeAPI) ReadLease(context.Context) (failover.Lease, error) {
	return k.lease, k.s.call("read lease", "")
}

func (k *fakeAPI) SwapLease(_ context.Context, l failover.Lease) (failover.Lease, error) {
	k.swaps = append(k.swaps, l)
	if err := k.s.call("swap", fmt.Sprintf(" to epoch %d under %s", l.Epoch, l.Version)); err != nil {
		return failover.Lease{}, err
	}
	if l.Version != k.lease.Version {
		return failover.Lease{}, errConflict
	}
	k.write(l)
	if k.unanswered {
		return failover.Lease{}, errTimeout
	}
	return k.lease, nil
}

func (k *fakeAPI) TakeTurn(_ context.Context, register string, mine turns.Turn, limits turns.Limits) (turns.Answer, error) {
	if err := k.s.call("take turn", fmt.Sprintf(" in %s for epoch %d, of %d, leaving %d", register, mine.Epoch, limits.All, limits.Leave)); err != nil {
		return turns.Answer{}, err
	}
	next, answer, _ := turns.Take(k.turns, mine, limits)
	k.turns = next
	return answer, nil
}

func (k *fakeAPI) EndTurn(_ context.Context, _, service string, epoch int64) error {
	k.turns, _ = turns.End(k.turns, service, epoch)
	return k.s.call("end turn", fmt.Sprintf(" of epoch %d", epoch))
}

// watch delivers the Lease as it is.
func (k *fakeAPI) watch() {
	l := k.lease
	k.s.happens(func() { k.s.a.OnLease(l, false) })
}

func (k *fakeAPI) Slice(_ context.Context, name string) (*discoveryv1.EndpointSlice, error) {
	return nil, apierrors.NewNotFound(discoveryv1.Resource("endpointslices"), name)
}

func (k *fakeAPI) UpdateSlice(_ context.Context, s *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	return s, nil
}

// fakeGuard only remembers until when the engine may write.
type fakeGuard struct {
	s     *stage
	pid   int
	until failover.Instant
}

func (g *fakeGuard) PID() int                   { return g.pid }
func (g *fakeGuard) Start(string) error         { g.pid = 7; return nil }
func (g *fakeGuard) Ended()                     { g.pid = 0 }
func (g *fakeGuard) Arm(until failover.Instant) { g.until = until }
func (g *fakeGuard) Disarm()                    { g.until = 0 }
func (g *fakeGuard) Fired() failover.Instant    { return 0 }
func (g *fakeGuard) Lateness() time.Duration    { return 0 }

type fakeProcesses struct{ s *stage }

func (p fakeProcesses) Start(engine.Process) (int, error) {
	p.s.ids++
	p.s.engine.primary, p.s.engine.upstream = false, ""
	return 100 + p.s.ids, p.s.call("start", "")
}

func (p fakeProcesses) Kill() error { return nil }

func (p fakeProcesses) KillAll(context.Context) error {
	err := p.s.call("kill", "")
	if err == nil {
		p.s.engine.primary = false
	}
	return err
}

// fakeStore is the disk of a pod that forgot nothing.
type fakeStore struct {
	s       *stage
	promise failover.Epoch
	data    DataRecord
}

func (f *fakeStore) LoadPromise(podUID string) (failover.Durable, string) {
	return failover.Durable{PodUID: podUID}, ""
}

func (f *fakeStore) SavePromise(d failover.Durable) error {
	err := f.s.call("save promise", fmt.Sprint(" ", d.Promise))
	if err == nil {
		f.promise = d.Promise
	}
	return err
}

func (f *fakeStore) LoadData() (DataRecord, error) { return DataRecord{DataID: "data"}, nil }

func (f *fakeStore) SaveData(d DataRecord) error {
	err := f.s.call("save data", fmt.Sprint(" ", d.DataEpoch))
	if err == nil {
		f.data = d
	}
	return err
}

func (f *fakeStore) LoadHistory() []wire.Takeover      { return nil }
func (f *fakeStore) SaveHistory([]wire.Takeover) error { return nil }

type fakeMesh struct{}

func (fakeMesh) Members([]string)                                    {}
func (fakeMesh) Gone(failover.Run, string, func(bool, failover.Run)) {}

type fakeRelay struct{}

func (fakeRelay) Listen()     {}
func (fakeRelay) Lead(string) {}
func (fakeRelay) Stop()       {}

// fakePeer is another member at the far end of a connection. It acknowledges and promises unless it is told otherwise.
type fakePeer struct {
	s       *stage
	link    *Link
	deaf    bool           // answers nothing
	unfit   bool           // could not take over
	promise failover.Epoch // that it has given to somebody
	has     int64          // offset that it answers a handover with
	sent    []wire.Frame   // to it
}

func (s *stage) connect(member string) {
	p := &fakePeer{s: s}
	p.link = &Link{Run: run(member), Outbound: true, Peer: p}
	s.peers[member] = p
	s.a.OnLink(p.link)
}

func (p *fakePeer) RemoteIP() string  { return "10.0.0.9" }
func (p *fakePeer) Close(string)      { p.s.note("goodbye to %s", p.link.Run.Member) }
func (p *fakePeer) says(f wire.Frame) { p.s.happens(func() { p.s.a.OnFrame(p.link, f) }) }
func (p *fakePeer) answer(f wire.Frame) {
	p.s.events = append(p.s.events, func() { p.s.a.OnFrame(p.link, f) })
}

// Send is the agent's word to this member.
func (p *fakePeer) Send(f wire.Frame) {
	p.sent = append(p.sent, f)
	p.s.note("%s to %s", title(f), p.link.Run.Member)
	if p.deaf {
		return
	}
	switch {
	case f.Heartbeat != nil:
		p.acknowledge(*f.Heartbeat)
	case f.PromiseRequest != nil:
		p.givePromise(*f.PromiseRequest)
	case f.PositionRequest != nil:
		r := wire.PositionReport{Epoch: f.PositionRequest.Epoch, Position: failover.Position{DataEpoch: f.PositionRequest.Epoch, Offset: p.has}}
		p.s.After(p.s.a.probeInterval(), func() { p.s.a.OnFrame(p.link, wire.Frame{Position: &r}) })
	}
}

func (p *fakePeer) acknowledge(hb failover.Heartbeat) {
	p.promise = max(p.promise, hb.Epoch)
	p.answer(wire.Frame{Acknowledgement: &failover.Acknowledgement{From: p.link.Run, To: hb.From, Epoch: hb.Epoch, Echo: hb.Sent, Sent: p.s.now,
		Promise: p.promise, Position: hb.Position, DataID: "theirs", Healthy: true, Eligible: !p.unfit}})
}

func (p *fakePeer) givePromise(r failover.Request) {
	p.answer(wire.Frame{Promise: &failover.Promise{From: p.link.Run, To: r.From, ID: r.ID, Given: true, Epoch: r.Epoch, Version: r.Version, Cut: true,
		Position: failover.Position{DataEpoch: r.Known}, DataID: "theirs"}})
}

// title names a frame in the journal.
func title(f wire.Frame) string {
	switch {
	case f.Heartbeat != nil:
		return fmt.Sprint("heartbeat ", f.Heartbeat.Epoch)
	case f.Acknowledgement != nil:
		return fmt.Sprint("acknowledgement ", f.Acknowledgement.Epoch)
	case f.PromiseRequest != nil:
		return "promise request under " + f.PromiseRequest.Version
	case f.Promise != nil:
		return fmt.Sprintf("promise %d given %t", f.Promise.Epoch, f.Promise.Given)
	case f.Released != nil:
		return fmt.Sprint("released ", f.Released.Epoch)
	case f.PositionRequest != nil:
		return "position request"
	default:
		return "other frame"
	}
}
