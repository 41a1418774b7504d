package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/lease"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/policy"
	"understudy.dev/understudy/internal/workload"
)

// leaseDo is what is to be done to the Lease.
type leaseDo int

const (
	leaseKeep   leaseDo = iota
	leaseCreate         // with epoch 0 and no holder
	leaseGrant          // epoch 1 to the first member, rule Bootstrap
	leaseTerms          // mode and accepted evidence; at epoch 0 everything
)

type leaseStep struct {
	do       leaseDo
	register failover.Lease // what the Lease is to hold
	problem  *Problem
	waiting  string
}

// decideLease says what to do to the Lease. have is nil when there is none; routed is the highest epoch of the slices.
func decideLease(s *scope, have *failover.Lease, routed failover.Epoch) leaseStep {
	known := routed
	if p := s.svc.Status.Primary; p != nil {
		known = max(known, failover.Epoch(p.Epoch))
	}
	if have == nil || have.Epoch < known {
		if known > 0 {
			return leaseStep{problem: leaseLost(s, have, known)}
		}
	}
	members := policy.Members(s.svc.Name, s.count())
	switch {
	case !s.known && have == nil:
		return leaseStep{waiting: "the FailoverPolicy, before the first primary is named"}
	case have == nil && !s.mayBuild():
		return leaseStep{}
	case have == nil:
		return leaseStep{do: leaseCreate, register: failover.Lease{Terms: policy.Terms(s.policy, members, s.svc.Spec.State)}}
	case have.Epoch == 0 && have.Holder.IsZero():
		return decideBootstrap(s, *have, members)
	case !s.known:
		return leaseStep{}
	}
	terms, differs := policy.AtOnce(have.Terms, policy.Terms(s.policy, have.Terms.Members, s.svc.Spec.State))
	if !differs {
		return leaseStep{}
	}
	out := *have
	out.Terms = terms
	return leaseStep{do: leaseTerms, register: out}
}

// decideBootstrap grants epoch 1 only when every member said that it has neither data nor a promise.
func decideBootstrap(s *scope, have failover.Lease, members []failover.MemberEntry) leaseStep {
	if s.known {
		wanted := policy.Terms(s.policy, members, s.svc.Spec.State)
		if policy.ByHolder(have.Terms, wanted) || !sameAtOnce(have.Terms, wanted) {
			have.Terms = wanted
			return leaseStep{do: leaseTerms, register: have}
		}
	}
	if s.paused() {
		return leaseStep{}
	}
	var silent []string
	var first failover.Run
	for i, entry := range have.Terms.Members {
		status := s.reports[entry.Name].Live()
		switch {
		case status == nil:
			silent = append(silent, entry.Name)
		case status.HasData:
			return leaseStep{problem: dataFound(s, entry.Name)}
		case status.Promise > 0 || status.Epoch > 0:
			return leaseStep{problem: leaseLost(s, &have, max(status.Promise, status.Epoch))}
		case i == 0:
			first = status.Run
		}
	}
	if len(silent) > 0 || first.IsZero() {
		return leaseStep{waiting: "the first answer of " + strings.Join(silent, ", ")}
	}
	have.Epoch, have.Holder = 1, first
	return leaseStep{do: leaseGrant, register: have}
}

func sameAtOnce(have, want failover.Terms) bool {
	_, differs := policy.AtOnce(have, want)
	return !differs
}

func leaseLost(s *scope, have *failover.Lease, known failover.Epoch) *Problem {
	state := "is gone"
	if have != nil {
		state = fmt.Sprintf("says epoch %d", have.Epoch)
	}
	return &Problem{Reason: v1alpha1.ReasonLeaseLost, Blocking: true, Message: fmt.Sprintf(
		"Lease %s %s, but epoch %d was already granted: nobody is named primary from a guess. Restore the Lease of that epoch from a backup, "+
			"or delete and create the ReplicatedService anew, with its volumes if it has any", names.Lease(s.svc.Name), state, known)}
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
	step := decideLease(s, s.register, s.routedEpoch())
	if step.do != leaseKeep || step.problem != nil {
		var err error
		if step, err = r.decideLive(ctx, s); err != nil {
			return err
		}
	}
	if step.problem != nil {
		s.problems = append(s.problems, *step.problem)
	}
	if step.waiting != "" {
		s.waiting = append(s.waiting, step.waiting)
	}
	return nil
}

func (r *Reconciler) decideLive(ctx context.Context, s *scope) (leaseStep, error) {
	obj, err := r.liveLease(ctx, s.svc)
	if err != nil {
		return leaseStep{}, err
	}
	current, err := r.liveSlices(ctx, s)
	if err != nil {
		return leaseStep{}, err
	}
	var have *failover.Lease
	if obj != nil {
		have = readable(ctx, obj)
	}
	var routed failover.Epoch
	for i := range current {
		routed = max(routed, sliceEpoch(&current[i]))
	}
	step := decideLease(s, have, routed)
	if step.do == leaseKeep {
		s.register = have
		return step, nil
	}
	if obj == nil {
		obj = workload.Lease(s.svc)
	}
	if err := lease.Write(obj, step.register, s.now); err != nil {
		return step, err
	}
	write := func() error { return r.Client.Update(ctx, obj, apply.FieldOwner) }
	if step.do == leaseCreate {
		write = func() error { return r.create(ctx, obj) }
	}
	if err := write(); err != nil {
		if apierrors.IsConflict(err) {
			return leaseStep{}, err
		}
		return leaseStep{}, fmt.Errorf("writing Lease %s: %w", obj.Name, err)
	}
	s.register = readable(ctx, obj)
	ctrl.LoggerFrom(ctx).Info("the Lease was written", "lease", obj.Name, "epoch", s.register.Epoch, "holder", s.register.Holder.String(),
		"mode", s.register.Terms.Mode)
	return step, nil
}

// ensureTerms tells the holder what only it may put into force.
func (r *Reconciler) ensureTerms(_ context.Context, s *scope) error {
	if !s.known || s.register == nil || s.register.Epoch == 0 || s.paused() {
		return nil
	}
	wanted := policy.Terms(s.policy, s.register.Terms.Members, s.svc.Spec.State)
	if wanted.MinReplicasToWrite >= int(s.count()) {
		return nil
	}
	status := s.reports[s.register.Holder.Member].Live()
	if !policy.ByHolder(s.register.Terms, wanted) || status == nil || status.Run != s.register.Holder {
		return nil
	}
	s.waiting = append(s.waiting, "the primary, to put the policy's terms into force")
	wanted.Opened, wanted.Sets = s.register.Terms.Opened, slices.Clone(s.register.Terms.Sets)
	return r.Members.SendTerms(s.key(), s.register.Holder.Member, wanted)
}
