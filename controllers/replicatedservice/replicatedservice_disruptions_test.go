package replicatedservice

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

// troop is a well service called name, whose members are on nodes n-0 to n-2 in zones z-0 to z-2.
func troop(name string) *scope {
	s := playing(3)
	s.svc.Name = name
	s.pods, s.nodes = map[string]*corev1.Pod{}, map[string]*corev1.Node{}
	for i := range 3 {
		old, member, node := fmt.Sprintf("cache-%d", i), fmt.Sprintf("%s-%d", name, i), fmt.Sprintf("n-%d", i)
		s.nodes[node] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprintf("z-%d", i)}}}
		s.pods[member] = playing(3).pods[old]
		s.pods[member].Name, s.pods[member].Spec.NodeName = member, node
		s.register.Terms.Members[i].Name = member
		report := s.reports[old]
		report.Member, report.Status.Run.Member = member, member
		s.reports[member] = report
	}
	return s
}

// away is what the API server shows of a member that is being made anew.
func away(s *scope, member string) *scope {
	delete(s.pods, member)
	silence(s, member)
	return s
}

// returned is that member, well again in a new pod.
func returned(s *scope, member, node string) *scope {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: member, UID: types.UID("new-" + member)}}
	pod.Spec.NodeName = node
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	s.pods[member] = pod
	say(s, member, func(st *wire.Status) {
		st.Run.PodUID, st.Epoch, st.State, st.Eligible = string(pod.UID), 3, "Following", true
	})
	return s
}

func limited(s *scope, node, zone, cluster int32) *scope {
	s.policy.Budget.MaxDisruptions = v1alpha1.DisruptionLimits{PerNode: node, PerZone: zone, PerCluster: cluster}
	return s
}

// The operator takes no more members away at once than the policy says, of a node, of a zone, of all.
func TestDisruptionLimits(t *testing.T) {
	for name, c := range map[string]struct {
		next   *scope
		member string
		limit  string // in the way; empty: it may
		others string
	}{
		"there is room":                {limited(troop("c"), 2, 2, 3), "c-2", "", ""},
		"the node has its share":       {limited(troop("c"), 1, 2, 3), "c-2", "budget.maxDisruptions.perNode of 1 for node n-2", "default/a-2"},
		"the zone has its share":       {limited(troop("c"), 2, 1, 3), "c-2", "budget.maxDisruptions.perZone of 1 for zone z-2", "default/a-2"},
		"the cluster has its share":    {limited(troop("c"), 3, 3, 2), "c-0", "budget.maxDisruptions.perCluster of 2", "default/a-2, default/b-1"},
		"another node's share":         {limited(troop("c"), 1, 1, 3), "c-0", "", ""},
		"its own member is taken anew": {limited(troop("a"), 1, 1, 1), "a-2", "", ""}, // though there are more than that
	} {
		t.Run(name, func(t *testing.T) {
			d := &disruptions{}
			for _, s := range []*scope{troop("a"), troop("b"), troop("c")} {
				d.settle(s, "agent:2")
			}
			for service, member := range map[string]string{"a": "a-2", "b": "b-1"} {
				if over, _ := d.take(limited(troop(service), 9, 9, 9), member); over != nil {
					t.Fatal(over)
				}
			}
			got, _ := d.take(c.next, c.member)
			if (got == nil) != (c.limit == "") || got != nil && (got.limit != c.limit || firstOf(got.others) != c.others) {
				t.Errorf("%+v, want %q because of %s", got, c.limit, c.others)
			}
		})
	}
}

// A place is free again when the member is well, and not before; where the member is now is where it counts.
func TestDisruptionEnds(t *testing.T) {
	d := &disruptions{}
	may := func(member string) bool {
		over, undo := d.take(limited(troop("b"), 1, 9, 9), member)
		if over == nil {
			undo()
		}
		return over == nil
	}
	d.settle(troop("a"), "agent:2")
	if over, _ := d.take(limited(troop("a"), 1, 9, 9), "a-2"); over != nil {
		t.Fatal("nobody is away")
	}
	d.settle(troop("a"), "agent:2") // the cache has not seen the deletion yet
	if may("b-2") {
		t.Error("a place was free while the old pod was still shown")
	}
	d.settle(away(troop("a"), "a-2"), "agent:2")
	if may("b-2") {
		t.Error("a place was free while the member was away")
	}
	sick := returned(troop("a"), "a-2", "n-1")
	sick.pods["a-2"].Status.Conditions = nil
	d.settle(sick, "agent:2")
	if !may("b-2") {
		t.Error("it counts where it no longer is")
	}
	if may("b-1") {
		t.Error("it does not count where it is now")
	}
	d.settle(returned(troop("a"), "a-2", "n-1"), "agent:2")
	if !may("b-1") {
		t.Error("it counts though it is well")
	}
}

// A pod that could not be deleted in the end, and a service that is no more, count no longer.
func TestDisruptionIsForgotten(t *testing.T) {
	for name, end := range map[string]func(*disruptions){
		"the pod stayed": func(d *disruptions) {
			s := troop("a")
			s.now = noon.Add(2 * time.Minute)
			d.settle(s, "agent:2")
		},
		"the service is gone": func(d *disruptions) { d.forget(types.NamespacedName{Namespace: "default", Name: "a"}) },
		"the member is to go": func(d *disruptions) {
			s := away(troop("a"), "a-2")
			two := int32(2)
			s.svc.Spec.Replicas = &two
			d.settle(s, "agent:2")
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &disruptions{}
			d.settle(troop("a"), "agent:2")
			_, _ = d.take(limited(troop("a"), 1, 1, 1), "a-2")
			end(d)
			if over, _ := d.take(limited(troop("b"), 1, 1, 1), "b-2"); over != nil {
				t.Error(over)
			}
		})
	}
}

// A new leader counts what its predecessor took away, and no outage later on.
func TestDisruptionsOfAnEarlierLeader(t *testing.T) {
	rolling := func() *scope {
		s := away(troop("a"), "a-2")
		s.set = &appsv1.StatefulSet{Status: appsv1.StatefulSetStatus{UpdateRevision: "new"}}
		for _, pod := range s.pods {
			pod.Labels = map[string]string{"controller-revision-hash": "old"}
		}
		return s
	}
	for name, c := range map[string]struct {
		seen   []*scope
		counts bool
	}{
		"a member that is being renewed": {[]*scope{rolling()}, true},
		"a member that has volumes kept": {[]*scope{func() *scope {
			s := away(troop("a"), "a-2")
			s.kept = []corev1.PersistentVolume{{ObjectMeta: metav1.ObjectMeta{Name: "old", Labels: map[string]string{keys.LabelMember: "a-2"}}}}
			return s
		}()}, true},
		"an outage":          {[]*scope{away(troop("a"), "a-2")}, false},
		"an outage later on": {[]*scope{troop("a"), rolling()}, false},
	} {
		d := &disruptions{}
		for _, s := range c.seen {
			d.settle(s, "agent:2")
		}
		if over, _ := d.take(limited(troop("b"), 1, 1, 1), "b-0"); (over != nil) != c.counts {
			t.Errorf("%s counts: %+v, want %t", name, over, c.counts)
		}
	}
}

// An agent that broke a member each of as many services as may be away at once comes to no other one; all else goes on.
func TestSpoilt(t *testing.T) {
	withAgent := func(s *scope, template, pod string) *scope {
		s.set = &appsv1.StatefulSet{}
		s.set.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: names.InstallContainer, Image: template}}
		for _, p := range s.pods {
			p.Spec.InitContainers = []corev1.Container{{Name: names.InstallContainer, Image: pod}}
		}
		return s
	}
	d := &disruptions{}
	for _, name := range []string{"a", "b"} {
		s := withAgent(troop(name), "agent:1", "agent:1")
		(&rolledBack{Member: name + "-2", Agent: "agent:2"}).on(s.set)
		d.settle(s, "agent:2")
	}
	for name, c := range map[string]struct {
		s      *scope
		agent  string
		spoilt string
	}{
		"a renewal that brings it":      {withAgent(limited(troop("c"), 1, 1, 2), "agent:2", "agent:1"), "agent:2", "default/a-2, default/b-2"},
		"one of those":                  {withAgent(limited(troop("a"), 1, 1, 2), "agent:2", "agent:1"), "agent:2", ""}, // for its own sake
		"more may be away":              {withAgent(limited(troop("c"), 1, 1, 3), "agent:2", "agent:1"), "agent:2", ""},
		"a renewal for something else":  {withAgent(limited(troop("c"), 1, 1, 2), "agent:2", "agent:2"), "agent:2", ""},
		"the operator has another one":  {withAgent(limited(troop("c"), 1, 1, 2), "agent:3", "agent:1"), "agent:3", ""},
		"what it runs is another one's": {withAgent(limited(troop("c"), 1, 1, 2), "agent:1", "agent:0"), "agent:2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, service := range []string{"a", "b"} {
				s := withAgent(troop(service), "agent:1", "agent:1")
				(&rolledBack{Member: service + "-2", Agent: "agent:2"}).on(s.set)
				d.settle(s, c.agent)
			}
			if got := firstOf(d.spoilt(c.s, c.s.svc.Name+"-0", c.agent)); got != c.spoilt {
				t.Errorf("%q, want %q", got, c.spoilt)
			}
		})
	}
	if over, _ := d.take(limited(troop("c"), 1, 1, 1), "c-2"); over != nil {
		t.Errorf("healing is held up by %+v", over)
	}
}

// budgeted is a Reconciler that knows of services, of which it has looked at those named.
func budgeted(t *testing.T, services ...string) *Reconciler {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	b := fake.NewClientBuilder().WithScheme(scheme)
	for _, name := range services {
		b = b.WithObjects(&v1alpha1.ReplicatedService{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})
	}
	return &Reconciler{Client: b.Build(), AgentImage: "agent:2"}
}

func same(context.Context, *scope, string) (bool, error) { return true, nil }

// A new leader looks at every service before it takes anything away, for a while.
func TestNothingIsTakenAwayUnseen(t *testing.T) {
	r := budgeted(t, "a", "b")
	r.disruptions.settle(troop("b"), "agent:2")
	for _, c := range []struct {
		after time.Duration
		may   bool
	}{{0, false}, {allSeenWithin, true}} {
		s := limited(troop("b"), 1, 1, 1)
		s.now = noon.Add(c.after)
		if may, _, err := r.mayDisrupt(t.Context(), s, "b-0", same); may != c.may || err != nil || may == (len(s.waiting) > 0) {
			t.Errorf("after %s: %t %v, waiting for %v", c.after, may, err, s.waiting)
		}
	}
}

// What was not carried out since the API server shows something else is not counted.
func TestBudgetIsGivenBack(t *testing.T) {
	r := budgeted(t)
	changed := func(context.Context, *scope, string) (bool, error) { return false, nil }
	if may, _, err := r.mayDisrupt(t.Context(), limited(troop("a"), 1, 1, 1), "a-2", changed); may || err != nil {
		t.Errorf("%t %v", may, err)
	}
	if may, _, err := r.mayDisrupt(t.Context(), limited(troop("b"), 1, 1, 1), "b-2", same); !may || err != nil {
		t.Errorf("%t %v", may, err)
	}
}

// A step that was not carried out leaves counted what was counted before.
func TestTakingAgainIsUndone(t *testing.T) {
	d := &disruptions{}
	if _, undo := d.take(limited(troop("a"), 1, 1, 1), "a-2"); undo == nil {
		t.Fatal("nobody is away")
	}
	again := away(troop("a"), "a-2")
	again.pods["a-2"] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "new"}} // it waits for a node
	again.now = noon.Add(time.Hour)
	_, undo := d.take(limited(again, 1, 1, 1), "a-2")
	if got := d.all[disrupted{again.key(), "a-2"}]; got.node != "n-2" || !got.since.Equal(noon) {
		t.Errorf("taken again it counts elsewhere or anew: %+v", got)
	}
	undo()
	if over, _ := d.take(limited(troop("b"), 1, 1, 1), "b-2"); over == nil {
		t.Error("the member that is away counts no longer")
	}
}

// Who waits says so, in words that do not change with who is in the way, and asks for a person once those have been away for too long.
func TestBudgetIsTold(t *testing.T) {
	r := budgeted(t)
	r.disruptions.settle(troop("a"), "agent:2")
	if over, _ := r.disruptions.take(limited(troop("a"), 1, 1, 1), "a-2"); over != nil {
		t.Fatal(over)
	}
	for _, c := range []struct {
		after time.Duration
		told  bool
	}{{time.Minute, false}, {toldAfter, true}} {
		s := limited(troop("b"), 9, 9, 1)
		s.now, s.rolling = noon.Add(c.after), "renewing b-2"
		may, _, err := r.mayDisrupt(t.Context(), s, "b-2", same)
		if may || err != nil || !strings.Contains(s.rolling, "perCluster of 1 allows it") || strings.Contains(s.rolling, "a-2") || s.next.IsZero() {
			t.Errorf("after %s: %t %v, %q", c.after, may, err, s.rolling)
		}
		if told := len(s.problems) == 1 && s.problems[0].Reason == v1alpha1.ReasonBudgetExhausted && strings.Contains(s.problems[0].Message, "default/a-2"); told != c.told {
			t.Errorf("after %s a person is told: %+v", c.after, s.problems)
		}
	}
}
