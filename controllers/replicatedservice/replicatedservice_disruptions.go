package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	// broken members by service, whose roll to the present agent was taken back.
	broken map[types.NamespacedName]string
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
	if !d.seen[s.key()] {
		for _, member := range takenAway(s) {
			d.all[disrupted{s.key(), member}] = placed(s, member, disruption{since: s.now})
		}
	}
	d.seen[s.key()] = true
	if d.broken[s.key()] = brokenBy(s, agent); d.broken[s.key()] == "" {
		delete(d.broken, s.key())
	}
}

// brokenBy is the member that the agent of this operator's version broke, so that its roll was taken back; empty: there is none.
func brokenBy(s *scope, agent string) string {
	if note := takenBack(s.set); note != nil && note.Agent != "" && note.Agent == agent {
		return note.Member
	}
	return ""
}

// spoilt says which members the agent broke that a renewal would bring, if they are as many as may be away at once: it would break a few at a time until it
// had broken one of each service.
func (d *disruptions) spoilt(s *scope, member, agent string) []string {
	if s.set == nil || agentImage(s.set.Spec.Template.Spec) != agent || agentImage(s.pods[member].Spec) == agent {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var broken []string
	for service, name := range d.broken {
		if service != s.key() {
			broken = append(broken, disrupted{service, name}.String())
		}
	}
	if most := int(s.policy.Budget.MaxDisruptions.PerCluster); most == 0 || len(broken) < most {
		return nil
	}
	return broken
}

func (d *disruptions) begin(now time.Time) {
	if d.all == nil {
		d.begun, d.seen, d.all, d.broken = now, map[types.NamespacedName]bool{}, map[disrupted]disruption{}, map[types.NamespacedName]string{}
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
	if volumes := s.stranded[member]; was.node == "" && len(volumes) > 0 {
		was.node = volumes[0].claim.Annotations[selectedNode]
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

// mayDisrupt reports whether the budget allows a member to be taken away now and the API server shows it as it was seen, and counts it if so; undo is for a
// step that was not carried out. Else it says why not, and a person is told once others have been away for too long.
func (r *Reconciler) mayDisrupt(ctx context.Context, s *scope, member string, asSeen func(context.Context, *scope, string) (bool, error)) (may bool, undo func(), err error) {
	if unseen, err := r.unseen(ctx, s); unseen != "" || err != nil {
		s.waitsForBudget(member, fmt.Sprintf("the operator, which started lately, has looked at service %s", unseen))
		return false, nil, err
	}
	full, undo := r.disruptions.take(s, member)
	if full != nil {
		s.waitsForBudget(member, fmt.Sprintf("%s allows it", full.limit)) // who is in the way changes all the time, and is told only when that is news
		if s.now.Sub(full.oldest) >= toldAfter {
			s.problems = append(s.problems, Problem{Reason: v1alpha1.ReasonBudgetExhausted, Message: fmt.Sprintf(
				"%s is not touched: as many members as %s allows were taken away by the operator and are not well again (%s). See what their services say and put that right, "+
					"or raise that field in the policy", member, full.limit, firstOf(full.others))})
		}
		return false, nil, nil
	}
	same, err := asSeen(ctx, s, member)
	if !same || err != nil {
		undo()
		s.retry = true
		return false, nil, err
	}
	return true, undo, nil
}

// undone reports whether the API server's answer says for certain that a deletion was not carried out.
func undone(err error) bool { return apierrors.IsConflict(err) || apierrors.IsForbidden(err) }

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

// take counts a member, or says which limit is in the way. undo takes that back.
func (d *disruptions) take(s *scope, member string) (full *over, undo func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begin(s.now)
	id := disrupted{s.key(), member}
	before, away := d.all[id]
	taken := before // one that is away already makes no more of them, and stays away for as long as it has been
	if !away {
		taken = disruption{since: s.now}
	}
	taken = placed(s, member, taken)
	taken.pod = s.pods[member].UID
	if !away {
		if full := d.over(taken, s.policy.Budget.MaxDisruptions); full != nil {
			return full, nil
		}
	}
	d.all[id] = taken
	return nil, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if delete(d.all, id); away {
			d.all[id] = before
		}
	}
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

func (d *disruptions) forget(service types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seen, service)
	delete(d.broken, service)
	for id := range d.all {
		if id.service == service {
			delete(d.all, id)
		}
	}
}
