package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
)

const (
	// askBudgetAgain is when a step that the budget did not allow is tried again: that others are well again is no news of this service's.
	askBudgetAgain = 5 * time.Second
	// allSeenWithin is how long a new leader takes nothing away before it has looked at every service once: what its predecessor took away counts too.
	allSeenWithin = 30 * time.Second
	// toldAfter is how long members may be in the way before a person is told.
	toldAfter = 10 * time.Minute
	// toldOfBudget is how many members are named to people.
	toldOfBudget = 5
)

// disruption is a member that the operator took away and that is not well again.
type disruption struct {
	node, zone string
	pod        types.UID // that was taken away; empty: an earlier leader did it
	since      time.Time
}

type disrupted struct {
	service types.NamespacedName
	member  string
}

func (d disrupted) String() string { return d.service.Namespace + "/" + d.member }

// disruptions are those of all services. They are the leader's alone, and a new one finds out from the services what its predecessor left.
type disruptions struct {
	mu    sync.Mutex
	begun time.Time // when the first service was looked at
	seen  map[types.NamespacedName]bool
	all   map[disrupted]disruption
}

// settleDisruptions takes in how the service's members are now.
func (r *Reconciler) settleDisruptions(_ context.Context, s *scope) error {
	if s.heard() {
		r.disruptions.settle(s)
	}
	return nil
}

func (d *disruptions) settle(s *scope) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begin(s.now)
	d.seen[s.key()] = true
	away := takenAway(s)
	for id, was := range d.all {
		if id.service != s.key() {
			continue
		}
		if !slices.Contains(s.memberNames(), id.member) || back(s, id.member, was) {
			delete(d.all, id)
			continue
		}
		d.all[id] = placed(s, id.member, was)
	}
	for _, member := range away {
		id := disrupted{s.key(), member}
		if _, known := d.all[id]; !known {
			d.all[id] = placed(s, member, disruption{since: s.now})
		}
	}
}

func (d *disruptions) begin(now time.Time) {
	if d.all == nil {
		d.begun, d.seen, d.all = now, map[types.NamespacedName]bool{}, map[disrupted]disruption{}
	}
}

// back reports whether a member that was taken away is well again, or was not taken away in the end.
func back(s *scope, member string, was disruption) bool {
	pod := s.pods[member]
	return well(s, member) && (pod.UID != was.pod || s.now.Sub(was.since) > time.Minute)
}

// placed is a disruption with where its member is now; as long as it is nowhere, it counts where it was.
func placed(s *scope, member string, was disruption) disruption {
	if pod := s.pods[member]; pod != nil && pod.Spec.NodeName != "" {
		was.node, was.zone = pod.Spec.NodeName, s.zoneOf(pod)
	}
	return was
}

// takenAway are members that are not well and show that an operator did it: they run the newest template while others do not yet, or have volumes that
// were kept.
func takenAway(s *scope) []string {
	due := renewals(s)
	var out []string
	for _, name := range s.memberNames() {
		renewed := len(due) > 0 && !slices.Contains(due, name)
		if !well(s, name) && (renewed || len(keptVolumes(s, name)) > 0) {
			out = append(out, name)
		}
	}
	return out
}

// mayDisrupt reports whether the budget allows a member to be taken away now, and counts it if so. Else it says why not, and a person is told once
// others have been missing for too long.
func (r *Reconciler) mayDisrupt(ctx context.Context, s *scope, member string) (bool, error) {
	list := &v1alpha1.ReplicatedServiceList{}
	if err := r.Client.List(ctx, list); err != nil {
		return false, fmt.Errorf("listing the services before %s is taken away: %w", member, err)
	}
	services := make([]types.NamespacedName, 0, len(list.Items))
	for i := range list.Items {
		if !list.Items[i].DeletionTimestamp.IsZero() {
			continue
		}
		services = append(services, types.NamespacedName{Namespace: list.Items[i].Namespace, Name: list.Items[i].Name})
	}
	why, oldest := r.disruptions.take(s, member, services)
	if why == "" {
		return true, nil
	}
	s.lookIn(askBudgetAgain)
	why = fmt.Sprintf("%s is not touched before %s", member, why)
	s.waiting = append(s.waiting, "the budget: "+why)
	if s.rolling != "" {
		s.rolling += "; " + why
	}
	if !oldest.IsZero() && s.now.Sub(oldest) >= toldAfter {
		s.problems = append(s.problems, Problem{Reason: v1alpha1.ReasonBudgetExhausted, Message: why +
			". See what their services say and put that right, or raise that field in the policy"})
	}
	return false, nil
}

// take counts a member, or says why it may not be taken away, and since when the oldest of those that are in the way has been away.
func (d *disruptions) take(s *scope, member string, services []types.NamespacedName) (string, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begin(s.now)
	if s.now.Sub(d.begun) < allSeenWithin {
		for _, service := range services {
			if !d.seen[service] {
				return fmt.Sprintf("the operator, which started lately, has looked at service %s", service), time.Time{}
			}
		}
	}
	id, taken := disrupted{s.key(), member}, placed(s, member, disruption{pod: s.pods[member].UID, since: s.now})
	if why, oldest := d.over(id, taken, s.policy.Budget.MaxDisruptions); why != "" {
		return why, oldest
	}
	d.all[id] = taken
	return "", time.Time{}
}

// over says which limit another disruption would pass.
func (d *disruptions) over(id disrupted, taken disruption, limits v1alpha1.DisruptionLimits) (string, time.Time) {
	for _, limit := range []struct {
		field, where string
		most         int32
		counts       func(disruption) bool
	}{
		{"perNode", " on node " + taken.node, limits.PerNode, func(o disruption) bool { return taken.node != "" && o.node == taken.node }},
		{"perZone", " in zone " + taken.zone, limits.PerZone, func(o disruption) bool { return taken.zone != "" && o.zone == taken.zone }},
		{"perCluster", "", limits.PerCluster, func(disruption) bool { return true }},
	} {
		var others []string
		var oldest time.Time
		for other, o := range d.all {
			if other == id || !limit.counts(o) {
				continue
			}
			others = append(others, other.String())
			if oldest.IsZero() || o.since.Before(oldest) {
				oldest = o.since
			}
		}
		if limit.most > 0 && len(others) >= int(limit.most) {
			return fmt.Sprintf("one of the members%s that the operator took away is well again (%s): budget.maxDisruptions.%s is %d", limit.where,
				firstOf(others), limit.field, limit.most), oldest
		}
	}
	return "", time.Time{}
}

// firstOf names some of many, in order, so that what is told does not change for nothing.
func firstOf(all []string) string {
	slices.Sort(all)
	if left := len(all) - toldOfBudget; left > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:toldOfBudget], ", "), left)
	}
	return strings.Join(all, ", ")
}

// release takes back what take counted, since the step was not carried out.
func (d *disruptions) release(service types.NamespacedName, member string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.all, disrupted{service, member})
}

func (d *disruptions) forget(service types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seen, service)
	for id := range d.all {
		if id.service == service {
			delete(d.all, id)
		}
	}
}
