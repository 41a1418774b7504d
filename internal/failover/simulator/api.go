package simulator

import (
	"context"
	"errors"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/turns"
)

// api is the API server: one Lease with a version, its watches, and the primary's slice.
type api struct {
	s       *sim
	exists  bool
	lease   failover.Lease
	version int
	down    int
	slow    float64 // milliseconds added at most
	flaky   int     // answers are lost, writes come late
	highest failover.Epoch
	turns   []turns.Turn

	route        failover.Epoch
	endpoints    []string
	routeVersion int
}

// watch is one life's watch of the Lease.
type watch struct {
	up   bool
	last int64
}

func (a *api) reachable(place int) bool { return a.down == 0 && a.s.net.both(place, apiPlace) }

func (a *api) current() failover.Lease {
	l := a.lease
	l.Version = strconv.Itoa(a.version)
	return l
}

var (
	errConflict = errors.New("the object has been modified")
	errNotFound = apierrors.NewNotFound(discoveryv1.Resource("leases"), "s")
)

// swap is an update with a precondition; the admission policy lets no epoch fall.
func (a *api) swap(l failover.Lease, who string) (failover.Lease, error) {
	switch {
	case !a.exists:
		return failover.Lease{}, errNotFound
	case l.Version != strconv.Itoa(a.version):
		return failover.Lease{}, errConflict
	case l.Epoch < a.lease.Epoch:
		return failover.Lease{}, errors.New("denied: an epoch never falls")
	}
	a.put(l, who)
	return a.current(), nil
}

func (a *api) put(l failover.Lease, who string) {
	before := a.lease
	a.lease, a.exists = l, true
	a.version++
	if l.Epoch < a.highest {
		a.s.broke("I2", "the Lease fell from epoch %d to %d", a.highest, l.Epoch)
	}
	if l.Epoch > a.highest {
		a.s.res.Grants++
		a.s.granted(before, l)
	}
	a.highest = max(a.highest, l.Epoch)
	a.s.promise(l)
	if a.s.cfg.Story {
		a.s.note("api", "%s writes the Lease: epoch %d of %s, opened %d, members %v next %v sets %v renewed %d", who, l.Epoch, l.Holder.String(),
			l.Terms.Opened, l.Terms.Members, l.Terms.Next, l.Terms.Sets, l.Terms.Renewed)
	}
	for _, m := range a.s.members {
		if m.pod != nil && m.pod.life != nil {
			a.tell(m.pod.life)
		}
	}
}

// tell delivers the Lease as it is now over a life's watch.
func (a *api) tell(l *life) {
	w := l.watch
	if !w.up || l.dead {
		return
	}
	if !a.reachable(l.node.place) {
		w.up = false
		a.follow(l)
		return
	}
	lease := a.current()
	at := max(a.s.now+a.s.between(0.5, 4)+a.s.between(0, a.slow), w.last+1)
	w.last = at
	a.s.at(at, func() { l.deliver(func() { l.agent.OnLease(lease, false) }) })
}

// follow reads the Lease and watches it, again and again until it can.
func (a *api) follow(l *life) {
	a.s.after(a.s.between(20, 200), func() {
		if l.dead {
			return
		}
		if a.s.now < l.halted() || !a.reachable(l.node.place) || !a.exists {
			a.follow(l)
			return
		}
		lease := a.current()
		l.watch.up = true
		at := max(a.s.now+a.s.between(0.5, 4)+a.s.between(0, a.slow), l.watch.last+1)
		l.watch.last = at
		a.s.at(at, func() { l.deliver(func() { l.agent.OnLease(lease, true) }) })
	})
}

// kubeOf is the agent's client.
type kubeOf struct{ l *life }

// call is one request: it takes its time, and may not be answered.
func (k *kubeOf) call() error {
	a, l := &k.l.s.api, k.l
	l.cost += a.s.between(1, 6) + a.s.between(0, a.slow)
	if !a.reachable(l.node.place) || l.cost > l.limit {
		l.cost = l.limit
		return errDeadline
	}
	return nil
}

func (k *kubeOf) ReadLease(context.Context) (failover.Lease, error) {
	a := &k.l.s.api
	if err := k.call(); err != nil {
		return failover.Lease{}, err
	}
	if !a.exists {
		return failover.Lease{}, errNotFound
	}
	return a.current(), nil
}

func (k *kubeOf) SwapLease(_ context.Context, l failover.Lease) (failover.Lease, error) {
	a, s := &k.l.s.api, k.l.s
	who := k.l.m.name
	if err := k.call(); err != nil {
		if a.down == 0 && s.net.open(k.l.node.place, apiPlace) && s.chance(0.5) {
			s.after(s.between(0, 800), func() { _, _ = a.swap(l, who+", late,") }) // the client has given up, the server has not
		}
		return failover.Lease{}, err
	}
	out, err := a.swap(l, who)
	if a.flaky > 0 && s.chance(0.2) {
		k.l.cost = k.l.limit
		return failover.Lease{}, errDeadline // carried out, not answered
	}
	return out, err
}

// Every member of the one service that is played shares its turns.
func (k *kubeOf) TakeTurn(_ context.Context, _ string, mine turns.Turn, limits turns.Limits) (turns.Answer, error) {
	if err := k.call(); err != nil {
		return turns.Answer{}, err
	}
	a := &k.l.s.api
	next, answer, changed := turns.Take(a.turns, mine, limits)
	if changed {
		a.turns = next
	}
	return answer, nil
}

func (k *kubeOf) EndTurn(_ context.Context, _, service string, epoch int64) error {
	if err := k.call(); err != nil {
		return err
	}
	k.l.s.api.turns, _ = turns.End(k.l.s.api.turns, service, epoch)
	return nil
}

func (k *kubeOf) Slice(_ context.Context, name string) (*discoveryv1.EndpointSlice, error) {
	if err := k.call(); err != nil {
		return nil, err
	}
	a := &k.l.s.api
	out := &discoveryv1.EndpointSlice{}
	out.Name, out.ResourceVersion = name, strconv.Itoa(a.routeVersion)
	out.Annotations = map[string]string{keys.AnnotationEpoch: strconv.FormatInt(int64(a.route), 10)}
	for _, e := range a.endpoints {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: []string{e}})
	}
	return out, nil
}

func (k *kubeOf) UpdateSlice(_ context.Context, in *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	if err := k.call(); err != nil {
		return nil, err
	}
	a := &k.l.s.api
	if in.ResourceVersion != strconv.Itoa(a.routeVersion) {
		return nil, apierrors.NewConflict(discoveryv1.Resource("endpointslices"), in.Name, errConflict)
	}
	n, _ := strconv.ParseInt(in.Annotations[keys.AnnotationEpoch], 10, 64)
	var to []string
	for _, e := range in.Endpoints {
		to = append(to, e.Addresses...)
	}
	a.s.routed(failover.Epoch(n), to)
	return in, nil
}
