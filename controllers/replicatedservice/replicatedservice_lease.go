package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/lease"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/policy"
	"understudy.dev/understudy/internal/workload"
)

// decideLease says what to do to the Lease, by the rules in internal/failover. have is nil when there is none; routed is
// the highest epoch of the slices.
func decideLease(s *scope, have *failover.Lease, routed failover.Epoch) failover.LeaseStep {
	view := failover.OperatorView{
		Lease: have, Known: s.knownEpoch(routed), Sure: s.known, Paused: s.paused(), Blocked: !s.mayBuild(),
		Reports: map[string]failover.MemberReport{}, Silent: map[string]time.Duration{},
	}
	least, _ := leastOf(s, have)
	view.Wanted = s.wantedTerms(least)
	for name, report := range s.reports {
		status := report.Live()
		if pod := s.pods[name]; pod != nil && pod.DeletionTimestamp != nil && (have == nil || !have.Terms.HasMember(name)) {
			continue // it is going, and another of that name comes
		}
		if status == nil {
			if report.Tried {
				view.Silent[name] = s.now.Sub(report.Since)
			}
			continue
		}
		r := failover.MemberReport{
			Run: status.Run, Epoch: status.Epoch, Promise: status.Promise, HasData: status.HasData, Running: status.Running, Serving: status.Serving, DataID: status.DataIdentity,
		}
		if status.Lease != nil {
			r.Lease = *status.Lease
		}
		view.Reports[name] = r
	}
	return failover.DecideLease(view)
}

// knownEpoch is the highest epoch that the status and the slices name, of which routed is that of the slices.
func (s *scope) knownEpoch(routed failover.Epoch) failover.Epoch {
	if p := s.svc.Status.Primary; p != nil {
		return max(routed, failover.Epoch(p.Epoch))
	}
	return routed
}

// wantedTerms are what spec and policy ask for.
func (s *scope) wantedTerms(members []failover.MemberEntry) failover.Terms {
	terms := policy.Terms(s.policy, s.effective.Spec, members)
	terms.CooldownMillis = cooldown(s).Milliseconds()
	terms.Preferred = preferred(s)
	c := s.crowd
	terms.Turns, terms.TurnsIn, terms.Behind = c.most, c.in, c.behind
	terms.TurnsOf, terms.GroupTurns, terms.GroupBehind = c.group, c.groupMost, c.groupBehind
	if e := epochIn(s.svc, keys.AnnotationApproved); s.register != nil && e == s.register.Epoch {
		terms.Approved = e // of another epoch nobody has seen what happened
	}
	return terms
}

// preferred are the members in the zone where the primary is wanted. One that is between two nodes stays what it was: the Lease is not to be
// written in the middle of a failover for that.
func preferred(s *scope) []string {
	p := s.effective.Spec.Placement
	if p == nil || p.PreferredZone == "" {
		return nil
	}
	var out []string
	for _, name := range s.memberNames() {
		pod := s.pods[name]
		moves := pod == nil || pod.Spec.NodeName == ""
		if !moves && s.zoneOf(pod) == p.PreferredZone || moves && s.register != nil && slices.Contains(s.register.Terms.Preferred, name) {
			out = append(out, name)
		}
	}
	return out
}

// preferredFirst are the members in the order in which one is chosen to hand over to.
func preferredFirst(s *scope) []string {
	first := preferred(s)
	for _, name := range s.memberNames() {
		if !slices.Contains(first, name) {
			first = append(first, name)
		}
	}
	return first
}

// zoneOf is the zone of the node that a pod is on; empty: it has none, or is not known.
func (s *scope) zoneOf(pod *corev1.Pod) string {
	if node := s.nodes[pod.Spec.NodeName]; node != nil && node.Labels[corev1.LabelTopologyZone] != "" {
		return node.Labels[corev1.LabelTopologyZone]
	}
	return pod.Labels[corev1.LabelTopologyZone]
}

// leaseProblem is a step's problem in the words of this API; nil if it has none.
func leaseProblem(s *scope, have *failover.Lease, step failover.LeaseStep) *Problem {
	switch step.Problem {
	case failover.LeaseLost:
		return leaseLost(s, have, step)
	case failover.DataFound:
		return dataFound(s, step.Member)
	}
	return nil
}

func leaseLost(s *scope, have *failover.Lease, step failover.LeaseStep) *Problem {
	state := "is gone"
	if have != nil {
		state = fmt.Sprintf("says epoch %d", have.Epoch)
	}
	missing := ""
	if len(step.Waiting) > 0 {
		missing = " (" + strings.Join(step.Waiting, ", ") + " does not answer)"
	}
	return &Problem{Reason: v1alpha1.ReasonLeaseLost, Message: fmt.Sprintf(
		"Lease %s %s, but epoch %d was already granted. It is made anew as soon as a majority of the members says which Lease it read last%s: nobody is "+
			"named primary from a guess. If they cannot come back, restore the Lease from a backup, or delete and create the ReplicatedService anew, with its volumes if it has any",
		names.Lease(s.svc.Name), state, step.Epoch, missing)}
}

func dataFound(s *scope, member string) *Problem {
	volume := "its data directory"
	if s.effective.Spec.Storage != nil {
		volume = "PersistentVolumeClaim data-" + member
	}
	return &Problem{Reason: v1alpha1.ReasonDataFound, Message: fmt.Sprintf(
		"member %s has data in %s though this service never had a primary: whose it is is not guessed. "+
			"If it may go, delete that claim and the pod; if not, choose another metadata.name", member, volume)}
}

func (r *Reconciler) readRegister(ctx context.Context, s *scope) error {
	obj := &coordinationv1.Lease{}
	found, err := r.owned(ctx, s, names.Lease(s.svc.Name), obj)
	if err != nil || !found {
		return err
	}
	s.register = readable(ctx, obj)
	return nil
}

// readable is the register in a Lease; one that cannot be read counts as epoch 0 without members, below every other.
func readable(ctx context.Context, obj *coordinationv1.Lease) *failover.Lease {
	register, err := lease.Read(obj)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "the Lease cannot be read")
		return &failover.Lease{Version: obj.ResourceVersion}
	}
	return &register
}

// liveLease reads the Lease from the API server; nil if there is none.
func (r *Reconciler) liveLease(ctx context.Context, svc *v1alpha1.ReplicatedService) (*coordinationv1.Lease, error) {
	obj := &coordinationv1.Lease{}
	err := r.Live.Get(ctx, types.NamespacedName{Namespace: svc.Namespace, Name: names.Lease(svc.Name)}, obj)
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if !ownedBy(obj, svc) {
		want := workload.Lease(svc)
		return nil, apply.Owned(obj, want)
	}
	return obj, nil
}

// ensureLease decides by the cache and, when something is to be done, once more by what the API server says now.
func (r *Reconciler) ensureLease(ctx context.Context, s *scope) error {
	have := s.register
	step := decideLease(s, have, s.routedEpoch())
	if step.Write != nil || step.Problem != "" {
		var err error
		if have, step, err = r.decideLive(ctx, s); err != nil {
			return err
		}
	}
	if p := leaseProblem(s, have, step); p != nil {
		s.problems = append(s.problems, *p)
	} else if len(step.Waiting) > 0 {
		s.waiting = append(s.waiting, "an answer of "+strings.Join(step.Waiting, ", "))
	}
	return nil
}

func (r *Reconciler) decideLive(ctx context.Context, s *scope) (have *failover.Lease, step failover.LeaseStep, err error) {
	obj, err := r.liveLease(ctx, s.svc)
	if err != nil {
		return nil, step, err
	}
	current, err := r.liveSlices(ctx, s)
	if err != nil {
		return nil, step, err
	}
	if obj != nil {
		have = readable(ctx, obj)
	}
	var routed failover.Epoch
	for i := range current {
		routed = max(routed, sliceEpoch(&current[i]))
	}
	step = decideLease(s, have, routed)
	s.register = have
	if step.Write == nil {
		return have, step, nil
	}
	if obj == nil {
		obj = workload.Lease(s.svc)
	}
	if err := lease.Write(obj, *step.Write, s.now); err != nil {
		return have, step, err
	}
	if step.Create {
		err = r.create(ctx, obj)
	} else {
		err = r.Client.Update(ctx, obj, apply.FieldOwner)
	}
	switch {
	case apierrors.IsConflict(err):
		return have, failover.LeaseStep{}, err
	case err != nil:
		return have, step, fmt.Errorf("writing Lease %s: %w", obj.Name, err)
	}
	s.register = readable(ctx, obj)
	ctrl.LoggerFrom(ctx).Info("the Lease was written", "lease", obj.Name, "why", step.Why, "epoch", s.register.Epoch,
		"holder", s.register.Holder.String(), "mode", s.register.Terms.Mode)
	return have, step, nil
}

// followers is how many replicas follow within the limit.
func followers(s *scope) int {
	n := 0
	for _, name := range s.memberNames() {
		if well(s, name) && !holds(s, name) {
			n++
		}
	}
	return n
}

// ensureTerms tells the holder what only it may put into force.
func (r *Reconciler) ensureTerms(_ context.Context, s *scope) error {
	if !s.known || s.register == nil || s.register.Epoch == 0 || s.paused() {
		return nil
	}
	wanted := s.wantedTerms(s.register.Terms.Members)
	if wanted.MinReplicasToWrite >= int(declared(s.svc)) {
		return nil
	}
	if following := followers(s); wanted.Quorum > s.register.Terms.Quorum && following < wanted.Quorum {
		s.waiting = append(s.waiting, fmt.Sprintf("%d replicas to follow, before writes wait for as many (%d do)", wanted.Quorum, following))
		wanted.Quorum, wanted.EveryWaits = s.register.Terms.Quorum, s.register.Terms.EveryWaits
	}
	status := s.reports[s.register.Holder.Member].Live()
	if !policy.ByHolder(s.register.Terms, wanted) || status == nil || status.Run != s.register.Holder {
		return nil
	}
	s.waiting = append(s.waiting, "the primary, to put the policy's terms into force")
	wanted.Opened, wanted.Sets = s.register.Terms.Opened, slices.Clone(s.register.Terms.Sets)
	return r.Members.SendTerms(s.key(), s.register.Holder.Member, wanted)
}
