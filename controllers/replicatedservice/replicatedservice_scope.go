package replicatedservice

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/certs"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/members"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/policy"
	"understudy.dev/understudy/internal/workload"
)

// scope is one look at a service: what was read, and what was found out on the way. It has no client, so that
// everything that decides on it can be tested without one.
type scope struct {
	now       time.Time
	svc       *v1alpha1.ReplicatedService // as it was read
	effective *v1alpha1.ReplicatedService // with what cannot be changed any more taken from what runs
	problems  []Problem
	waiting   []string // what the operator waits for, for people
	stays     string   // why the primary stays on a node that is to be emptied, for people
	rolling   string   // what a roll does next, for people; empty: there is none

	set       *appsv1.StatefulSet
	unsettled bool // set may be of an older spec
	pods      map[string]*corev1.Pod
	nodes     map[string]*corev1.Node     // of the pods, and of the volumes
	stranded  map[string][]strandedVolume // of pods that no node can take because of them
	kept      []corev1.PersistentVolume   // what members had before they began anew
	budget    *policyv1.PodDisruptionBudget
	foreign   []policyv1.PodDisruptionBudget // of the namespace, and not the service's
	primary   *corev1.Service
	replicas  *corev1.Service
	slices    []discoveryv1.EndpointSlice // of the primary's Service
	register  *failover.Lease
	policy    v1alpha1.FailoverPolicySpec
	crowd     crowd
	known     bool // the policy is known
	reports   map[string]members.Report
	gone      map[string]string // pods of members that are proven never to vote again, where that was looked for
	failovers []v1alpha1.Failover
	certs     certs.State
	memory    *memory

	passwordSecret, passwordKey string

	next  time.Time // when to look again
	retry bool      // a conflict: look again soon
}

func (s *scope) key() types.NamespacedName { return client.ObjectKeyFromObject(s.svc) }

// count is the number of members, those included that are to go and are still named by the Lease.
func (s *scope) count() int32 { return ptr.Deref(s.effective.Spec.Replicas, 3) }

func (s *scope) memberNames() []string {
	out := make([]string, 0, s.count())
	for i := range int(s.count()) {
		out = append(out, names.Member(s.svc.Name, i))
	}
	return out
}

func (s *scope) paused() bool { return s.svc.Spec.State == v1alpha1.StatePaused }

// mayBuild says whether owned objects may be made or changed.
func (s *scope) mayBuild() bool {
	for _, p := range s.problems {
		if p.Blocking {
			return false
		}
	}
	return !s.paused()
}

// lookAt makes the service be looked at again at an instant.
func (s *scope) lookAt(at time.Time) {
	if s.next.IsZero() || at.Before(s.next) {
		s.next = at
	}
}

func (s *scope) lookIn(d time.Duration) { s.lookAt(s.now.Add(d)) }

func (r *Reconciler) input(s *scope) workload.Input {
	return workload.Input{
		Service: s.effective, AgentImage: r.AgentImage, PasswordSecret: s.passwordSecret, PasswordKey: s.passwordKey,
		Evictions: nextEvictions(s),
	}
}

// heard reports whether every member that could answer the operator was asked: right after its start it has not heard
// them yet, and must not call them unreachable for that.
func (s *scope) heard() bool {
	for _, name := range s.memberNames() {
		pod := s.pods[name]
		if pod == nil || pod.Status.PodIP == "" || finished(pod) {
			continue
		}
		if report, known := s.reports[name]; !known || !report.Tried {
			return false
		}
	}
	return true
}

// absorb turns errors that need a person, or only time, into what the status says, and returns the others.
func (s *scope) absorb(err error) error {
	var taken *apply.TakenError
	var leaving *apply.LeavingError
	switch {
	case errors.As(err, &taken):
		s.problems = append(s.problems, Problem{Reason: v1alpha1.ReasonNameTaken, Message: fmt.Sprintf(
			"%s %s exists and belongs to somebody else: rename or delete it, or choose another metadata.name", taken.Kind, taken.Name)})
		s.lookIn(30 * time.Second)
		return nil
	case errors.As(err, &leaving):
		s.waiting = append(s.waiting, leaving.Error())
		s.lookIn(2 * time.Second)
		return nil
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
		s.retry = true
		return nil
	}
	return err
}

func (s *scope) result(err error) (ctrl.Result, error) {
	if err != nil {
		return ctrl.Result{}, err
	}
	if s.retry {
		s.lookIn(100 * time.Millisecond)
	}
	if s.next.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(s.next.Sub(s.now), time.Millisecond)}, nil
}

// gather reads everything from the cache.
func (r *Reconciler) gather(ctx context.Context, svc *v1alpha1.ReplicatedService) (*scope, error) {
	s := &scope{
		now: r.Now(), svc: svc, pods: map[string]*corev1.Pod{}, reports: map[string]members.Report{},
		memory: r.memories.of(client.ObjectKeyFromObject(svc)),
	}
	for _, read := range []func(context.Context, *scope) error{r.readWorkload, r.readNodes, r.readKept, r.readBudgets, r.readRoutes, r.readRegister, r.readPolicy, r.readCrowd} {
		if err := read(ctx, s); err != nil {
			return nil, err
		}
	}
	for _, report := range r.Members.Snapshot(s.key()) {
		s.reports[report.Member] = report
	}
	if err := r.readClaims(ctx, s); err != nil {
		return nil, err
	}
	list := &v1alpha1.FailoverList{}
	if err := r.Client.List(ctx, list, client.InNamespace(svc.Namespace)); err != nil {
		return nil, err
	}
	for _, fo := range list.Items {
		if fo.Spec.ServiceRef.Name == svc.Name && !OfPredecessor(&fo, svc) {
			s.failovers = append(s.failovers, fo)
		}
	}
	s.effective, s.problems = effective(svc, s.set)
	s.effective.Spec.Replicas = ptr.To(s.membersToRun())
	if named := upTo(s.named()); s.set != nil && named > 0 && s.count() > named && len(outdated(s)) > 0 {
		s.effective.Spec.Replicas = &named // those that run something older may not know of more
		s.waiting = append(s.waiting, "members to be renewed, before new ones come")
	}
	s.problems = append(s.problems, policyProblems(s)...)
	s.problems = append(s.problems, podProblems(s)...)
	s.problems = append(s.problems, stuckProblems(s)...)
	s.problems = append(s.problems, budgetProblems(s)...)
	s.problems = append(s.problems, awayProblems(s)...)
	s.problems = append(s.problems, strandedProblems(s)...) // after all others, which keep a member from beginning anew
	noteReadOnly(s)
	return s, nil
}

func (r *Reconciler) readWorkload(ctx context.Context, s *scope) error {
	set := &appsv1.StatefulSet{}
	if found, err := r.owned(ctx, s, s.svc.Name, set); err != nil {
		return err
	} else if found {
		s.set = set
	}
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.InNamespace(s.svc.Namespace), client.MatchingLabels(workload.Selector(s.svc.Name))); err != nil {
		return err
	}
	for i := range pods.Items {
		s.pods[pods.Items[i].Name] = &pods.Items[i]
	}
	return nil
}

func (r *Reconciler) readRoutes(ctx context.Context, s *scope) error {
	for name, into := range map[string]**corev1.Service{
		names.PrimaryService(s.svc.Name): &s.primary, names.ReplicasService(s.svc.Name): &s.replicas,
	} {
		service := &corev1.Service{}
		if found, err := r.owned(ctx, s, name, service); err != nil {
			return err
		} else if found {
			*into = service
		}
	}
	list := &discoveryv1.EndpointSliceList{}
	err := r.Client.List(ctx, list, client.InNamespace(s.svc.Namespace), client.MatchingLabels{keys.LabelService: s.svc.Name})
	if err != nil {
		return err
	}
	for _, slice := range list.Items {
		if isPrimarySlice(s.svc, slice.Name) {
			s.slices = append(s.slices, slice)
		}
	}
	return nil
}

// owned reads an object and reports whether it is there and this service's.
func (r *Reconciler) owned(ctx context.Context, s *scope, name string, into client.Object) (bool, error) {
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: s.svc.Namespace, Name: name}, into)
	if err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return ownedBy(into, s.svc), nil
}

func (r *Reconciler) readPolicy(ctx context.Context, s *scope) error {
	ref := s.svc.Spec.FailoverPolicyRef
	if ref == nil {
		s.policy, s.known = policy.Defaults(), true
		return nil
	}
	found := &v1alpha1.FailoverPolicy{}
	err := r.Client.Get(ctx, types.NamespacedName{Namespace: s.svc.Namespace, Name: ref.Name}, found)
	if apierrors.IsNotFound(err) {
		return nil
	}
	s.policy, s.known = found.Spec, err == nil
	return err
}

// OfPredecessor reports whether a Failover is about an earlier service of the same name: those that people created stay
// when a service is deleted, and their epochs say nothing about its successor's.
func OfPredecessor(fo *v1alpha1.Failover, svc *v1alpha1.ReplicatedService) bool {
	return fo.CreationTimestamp.Before(&svc.CreationTimestamp)
}

// memory is what the operator remembers of a service between two looks; losing it costs a little time, and what was tried in vain is tried
// again.
type memory struct {
	routeWrong   time.Time // since when the route differs from what it should be
	epoch        failover.Epoch
	epochChanged time.Time
	missing      time.Time // since when pods are missing
	calmFor      string    // the member that a roll renews next, all others being well since calmSince
	calmSince    time.Time
	home         string // the member that the primary moves back to, all being well since homeSince
	homeSince    time.Time
	unwell       map[string]time.Time   // since when members are not well though their pods are ready
	away         map[string]bool        // members of which an event told that they stopped doing their part
	illBefore    map[string]bool        // members that were not well when they were renewed
	gone         map[string]time.Time   // since when a member's volume is of no use any more
	readOnly     map[string]time.Time   // since when a member's volume refuses writes
	remounted    map[string]podSeen     // members whose pods were made anew since their volume refused writes
	begunAnew    map[string]podSeen     // members that began anew with fresh volumes
	behind       map[string]lagSeen     // the least lag of members that are behind
	healed       map[string][]time.Time // when members were made anew whose containers ended again and again
	parting      podSeen                // since when the primary's node has been to be emptied, and the primary's pod
	turnsIn      string                 // the Lease that counts failovers, and when it was there
	turnsSeen    time.Time
	wholeSince   time.Time // since when all members have been well, while evictions are forbidden
}

// podSeen is a pod about which something was seen or done, and when.
type podSeen struct {
	at  time.Time
	pod types.UID
}

// firstSeen is since when something has been so of a member, and notes it when it is new.
func firstSeen(m *map[string]time.Time, member string, now time.Time) time.Time {
	if *m == nil {
		*m = map[string]time.Time{}
	}
	if (*m)[member].IsZero() {
		(*m)[member] = now
	}
	return (*m)[member]
}

type memories struct {
	mu  sync.Mutex
	all map[types.NamespacedName]*memory
}

func (m *memories) of(key types.NamespacedName) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = map[types.NamespacedName]*memory{}
	}
	if m.all[key] == nil {
		m.all[key] = &memory{}
	}
	return m.all[key]
}

func (m *memories) forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, key)
}
