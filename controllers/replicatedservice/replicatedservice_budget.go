package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/workload"
)

// budgetCalm is how long all members must have been well before evictions are allowed again.
const budgetCalm = 2 * time.Second

// readBudgets reads the service's own budget and all others of the namespace.
func (r *Reconciler) readBudgets(ctx context.Context, s *scope) error {
	list := &policyv1.PodDisruptionBudgetList{}
	if err := r.Client.List(ctx, list, client.InNamespace(s.svc.Namespace)); err != nil {
		return err
	}
	for i := range list.Items {
		if ownedBy(&list.Items[i], s.svc) {
			s.budget = &list.Items[i]
		} else {
			s.foreign = append(s.foreign, list.Items[i])
		}
	}
	return nil
}

// BareBudget leaves out the status, which changes with every pod.
func BareBudget(obj any) (any, error) {
	if budget, ok := obj.(*policyv1.PodDisruptionBudget); ok {
		budget.ManagedFields, budget.Status = nil, policyv1.PodDisruptionBudgetStatus{}
	}
	return obj, nil
}

// nextEvictions says what the budget lets go. It closes as soon as a member is missing, and opens only when all have been well
// for a while: the API server counts a pod that is ready, and a member that is ready may not follow yet.
func nextEvictions(s *scope) workload.Evictions {
	var now workload.Evictions
	if s.budget != nil {
		now = workload.EvictionsOf(s.budget)
	}
	if !s.heard() {
		return now // what was decided before the operator started holds until the members were heard
	}
	next := workload.Evictions{Unready: mayLoseUnready(s)}
	if !whole(s) {
		s.memory.wholeSince = time.Time{}
		return next
	}
	if s.memory.wholeSince.IsZero() {
		s.memory.wholeSince = s.now
	}
	left := budgetCalm - s.now.Sub(s.memory.wholeSince)
	next.One = now.One || left <= 0
	if !next.One {
		s.lookIn(left)
	}
	return next
}

// whole reports whether every member does its part and none is about to go, and somebody could take over from the primary.
func whole(s *scope) bool {
	if s.count() < 2 || !redundant(s).ok || !candidatesReady(s).ok {
		return false
	}
	for _, name := range s.memberNames() {
		pod, status := s.pods[name], s.reports[name].Live()
		if pod == nil || pod.DeletionTimestamp != nil || status.Run.PodUID != string(pod.UID) || !votes(s, pod) {
			return false
		}
	}
	return true
}

// mayLoseUnready reports whether a member whose pod is not ready is of no use to anybody: the primary and all others are well.
// With two members down either may have the only other copy of what was written last.
func mayLoseUnready(s *scope) bool {
	serving := s.server()
	if serving == nil || !well(s, serving.Run.Member) {
		return false
	}
	down := 0
	for _, name := range s.memberNames() {
		if !well(s, name) {
			down++
		}
	}
	return down <= 1
}

// budgetProblems names other budgets that match the members' pods: two for one pod make the API server answer every eviction
// with 500, at which drains give up. A service of one member has none of its own.
func budgetProblems(s *scope) []Problem {
	if s.count() < 2 {
		return nil
	}
	var found []string
	for i := range s.foreign {
		if b := &s.foreign[i]; b.Name != s.svc.Name && matchesPods(s, b.Spec.Selector) {
			found = append(found, b.Name)
		}
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return []Problem{{Reason: v1alpha1.ReasonForeignBudget, Message: fmt.Sprintf(
		"PodDisruptionBudget %s matches pods of the service, which has a budget of its own, %s: with two for one pod the API server answers every eviction "+
			"with error 500, and no drain of their nodes ends. Delete it with `kubectl delete pdb %s -n %s`, or change its spec.selector",
		strings.Join(found, " and "), s.svc.Name, strings.Join(found, " "), s.svc.Namespace)}}
}

func matchesPods(s *scope, selector *metav1.LabelSelector) bool {
	matches, err := metav1.LabelSelectorAsSelector(selector) // nil matches none, an empty one all
	if err != nil {
		return false // the API server takes no such budget
	}
	for _, pod := range s.pods {
		if matches.Matches(labels.Set(pod.Labels)) {
			return true
		}
	}
	return false
}
