package replicatedservice

import (
	"strings"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

func budgetOf(s *scope, e workload.Evictions) *policyv1.PodDisruptionBudget {
	return workload.Budget(workload.Input{Service: s.svc, Evictions: e})
}

func TestNextEvictions(t *testing.T) {
	open, closed, none := workload.Evictions{One: true, Unready: true}, workload.Evictions{Unready: true}, workload.Evictions{}
	starting := func(name string) func(*scope) {
		return func(s *scope) {
			say(s, name, func(st *wire.Status) { st.Epoch, st.State, st.Message = 3, "CatchingUp", "it copies" })
		}
	}
	unready := func(name string) func(*scope) { return func(s *scope) { s.pods[name].Status.Conditions = nil } }
	for name, c := range map[string]struct {
		now, want workload.Evictions
		change    []func(*scope)
	}{
		"all is well":                          {open, open, nil},
		"ready, and does not follow yet":       {open, closed, []func(*scope){starting("cache-2")}},
		"a member is silent":                   {open, closed, []func(*scope){func(s *scope) { silence(s, "cache-2") }}},
		"a pod is missing":                     {open, closed, []func(*scope){func(s *scope) { delete(s.pods, "cache-2") }}},
		"a pod is ending, and still follows":   {open, closed, []func(*scope){func(s *scope) { s.pods["cache-2"].DeletionTimestamp = &metav1.Time{Time: noon} }}},
		"the primary's pod is ending":          {open, none, []func(*scope){func(s *scope) { s.pods["cache-0"].DeletionTimestamp = &metav1.Time{Time: noon} }}},
		"a pod was made anew":                  {open, closed, []func(*scope){func(s *scope) { s.pods["cache-2"].UID = "another" }}},
		"nobody may take over":                 {open, none, []func(*scope){unfit("cache-1"), unfit("cache-2")}},
		"one may":                              {open, open, []func(*scope){unfit("cache-1")}},
		"nobody serves":                        {open, none, []func(*scope){func(s *scope) { s.reports["cache-0"].Status.Serving = false }}},
		"two are down: either may be needed":   {open, none, []func(*scope){starting("cache-1"), starting("cache-2")}},
		"the primary is not ready":             {open, workload.Evictions{One: true}, []func(*scope){unready("cache-0")}},
		"well again, a moment ago":             {closed, closed, nil},
		"well again, for a while":              {closed, open, []func(*scope){func(s *scope) { s.memory.wholeSince = noon.Add(-budgetCalm) }}},
		"the last pod that was down came back": {none, closed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := playing(3, c.change...)
			s.budget = budgetOf(s, c.now)
			if got := nextEvictions(s); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if whole(s) != !s.memory.wholeSince.IsZero() {
				t.Errorf("all well: %t, since %s", whole(s), s.memory.wholeSince)
			}
		})
	}
}

// TestBudgetOpensLater: a member that was well for a moment and is not any more begins anew.
func TestBudgetOpensLater(t *testing.T) {
	s := playing(3)
	s.budget = budgetOf(s, workload.Evictions{Unready: true})
	if got := nextEvictions(s); got.One || s.next.Sub(noon) != budgetCalm {
		t.Fatalf("at once: %+v, and looked at again at %s", got, s.next)
	}
	s.now = noon.Add(budgetCalm - time.Millisecond)
	silence(s, "cache-1")
	nextEvictions(s)
	say(s, "cache-1", func(st *wire.Status) { st.Epoch, st.State, st.Eligible = 3, "Following", true })
	s.now = noon.Add(budgetCalm)
	if nextEvictions(s).One {
		t.Error("it opens though cache-1 was silent a millisecond ago")
	}
	s.now = s.now.Add(budgetCalm)
	if !nextEvictions(s).One {
		t.Error("it does not open again")
	}
}

func TestForeignBudgets(t *testing.T) {
	budget := func(name string, selector *metav1.LabelSelector) func(*scope) {
		return func(s *scope) {
			s.foreign = append(s.foreign, policyv1.PodDisruptionBudget{
				ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: selector},
			})
		}
	}
	labels := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	labelled := func(s *scope) {
		for _, pod := range s.pods {
			pod.Labels = map[string]string{"team": "blue"}
		}
	}
	for name, c := range map[string]struct {
		s     *scope
		names string
	}{
		"none":                      {playing(3, labelled), ""},
		"it matches":                {playing(3, labelled, budget("mine", labels("team", "blue"))), "mine"},
		"all pods":                  {playing(3, labelled, budget("all", &metav1.LabelSelector{})), "all"},
		"two":                       {playing(3, labelled, budget("b", labels("team", "blue")), budget("a", &metav1.LabelSelector{})), "a and b"},
		"other pods":                {playing(3, labelled, budget("mine", labels("team", "red"))), ""},
		"no pods at all":            {playing(3, labelled, budget("mine", nil)), ""},
		"the name of ours is taken": {playing(3, labelled, budget("cache", labels("team", "blue"))), ""}, // which is another problem
		"there is none of ours":     {scene(labelled, single, budget("mine", labels("team", "blue"))), ""},
	} {
		t.Run(name, func(t *testing.T) {
			problems := budgetProblems(c.s)
			if c.names == "" {
				if len(problems) > 0 {
					t.Errorf("told of %+v", problems)
				}
				return
			}
			if len(problems) != 1 || problems[0].Reason != v1alpha1.ReasonForeignBudget || problems[0].Blocking ||
				!strings.Contains(problems[0].Message, "PodDisruptionBudget "+c.names+" matches") || !strings.Contains(problems[0].Message, "kubectl delete pdb") {
				t.Errorf("told of %+v", problems)
			}
		})
	}
}
