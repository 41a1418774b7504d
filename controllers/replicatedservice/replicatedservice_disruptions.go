package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
		r.disruptions.settle(s, r.AgentImage)
	}
	return nil
}

func (d *disruptions) settle(s *scope, agent string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begin(s.now)
	broken := brokenBy(s, agent)
	for id, was := range d.all {
		if id.service != s.key() {
			continue
		}
		if !slices.Contains(s.memberNames(), id.member) || (id.member != broken && back(s, id.member, was)) {
			delete(d.all, id)
			continue
		}
		d.all[id] = placed(s, id.member, was)
	}
	var found []string
	if broken != "" {
		found = []string{broken}
	}
	if !d.seen[s.key()] {
		found = append(found, takenAway(s)...)
	}
	for _, member := range found {
		id := disrupted{s.key(), member}
		if _, known := d.all[id]; !known {
			d.all[id] = placed(s, member, disruption{since: s.now})
		}
	}
	d.seen[s.key()] = true
}

// brokenBy is the member that the agent of this operator's version broke, so that its roll was taken back. It counts until the operator has another one: else the next
// services would be rolled to it, a few at a time, until it had broken a member of each.
func brokenBy(s *scope, agent string) string {
	if note := takenBack(s.set); note != nil && note.Agent != "" && note.Agent == agent {
		return note.Member
	}
	return ""
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

// takenAway are members that are not well and look as if an operator did it: they run the newest template while others do not yet, or have volumes that
// were kept. It is a guess, for what an earlier leader did: of its own doing a leader knows.
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

// mayDisrupt reports whether the budget allows a member to be taken away now and the API server shows it as it was seen, and counts it if so. Else
// it says why not, and a person is told once others have been away for too long.
func (r *Reconciler) mayDisrupt(ctx context.Context, s *scope, member string, asSeen func(context.Context, *scope, string) (bool, error)) (bool, error) {
	if unseen, err := r.unseen(ctx, s); unseen != "" || err != nil {
		s.waitsForBudget(member, fmt.Sprintf("the operator, which started lately, has looked at service %s", unseen))
		return false, err
	}
	if over := r.disruptions.take(s, member); over != nil {
		s.waitsForBudget(member, fmt.Sprintf("%s allows it", over.limit)) // who is in the way changes all the time, and is told only when that is news
		if s.now.Sub(over.oldest) >= toldAfter {
			s.problems = append(s.problems, Problem{Reason: v1alpha1.ReasonBudgetExhausted, Message: fmt.Sprintf(
				"%s is not touched: as many members as %s allows were taken away by the operator and are not well again (%s). See what their services say and put that right, "+
					"or raise that field in the policy", member, over.limit, firstOf(over.others))})
		}
		return false, nil
	}
	same, err := asSeen(ctx, s, member)
	if !same || err != nil {
		r.disruptions.release(s.key(), member)
		s.retry = true
	}
	return same && err == nil, err
}

func (s *scope) waitsForBudget(member, until string) {
	why := fmt.Sprintf("%s is not touched before %s", member, until)
	s.lookIn(askBudgetAgain)
	s.waiting = append(s.waiting, "the budget: "+why)
	if s.rolling != "" {
		s.rolling += "; " + why
	}
}

// unseen is a service that a new leader has not looked at yet; empty: it takes members away.
func (r *Reconciler) unseen(ctx context.Context, s *scope) (string, error) {
	if !r.disruptions.young(s.now) {
		return "", nil
	}
	list := &v1alpha1.ReplicatedServiceList{}
	if err := r.Client.List(ctx, list); err != nil {
		return "", fmt.Errorf("listing the services before a member is taken away: %w", err)
	}
	for i := range list.Items {
		svc := &list.Items[i]
		if svc.DeletionTimestamp.IsZero() && !r.disruptions.saw(client.ObjectKeyFromObject(svc)) {
			return svc.Namespace + "/" + svc.Name, nil
		}
	}
	return "", nil
}

// young reports whether this operator began so lately that it may not have seen every service.
func (d *disruptions) young(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begin(now)
	return now.Sub(d.begun) < allSeenWithin
}

func (d *disruptions) saw(service types.NamespacedName) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen[service]
}

// over is a limit that another disruption would pass.
type over struct {
	limit  string
	others []string
	oldest time.Time // since when the oldest of those that are in the way has been away
}

// take counts a member, or says which limit is in the way.
func (d *disruptions) take(s *scope, member string) *over {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begin(s.now)
	id, taken := disrupted{s.key(), member}, placed(s, member, disruption{pod: s.pods[member].UID, since: s.now})
	if _, away := d.all[id]; !away { // one that is away already makes no more of them
		if over := d.over(taken, s.policy.Budget.MaxDisruptions); over != nil {
			return over
		}
	}
	d.all[id] = taken
	return nil
}

func (d *disruptions) over(taken disruption, limits v1alpha1.DisruptionLimits) *over {
	for _, limit := range []struct {
		field, where string
		most         int32
		counts       func(disruption) bool
	}{
		{"perNode", " for node " + taken.node, limits.PerNode, func(o disruption) bool { return taken.node != "" && o.node == taken.node }},
		{"perZone", " for zone " + taken.zone, limits.PerZone, func(o disruption) bool { return taken.zone != "" && o.zone == taken.zone }},
		{"perCluster", "", limits.PerCluster, func(disruption) bool { return true }},
	} {
		full := &over{limit: fmt.Sprintf("budget.maxDisruptions.%s of %d%s", limit.field, limit.most, limit.where)}
		for other, o := range d.all {
			if !limit.counts(o) {
				continue
			}
			full.others = append(full.others, other.String())
			if full.oldest.IsZero() || o.since.Before(full.oldest) {
				full.oldest = o.since
			}
		}
		if limit.most > 0 && len(full.others) >= int(limit.most) {
			return full
		}
	}
	return nil
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
