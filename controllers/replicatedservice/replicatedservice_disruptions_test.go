package replicatedservice

import (
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
		words  string // why not; empty: it may
	}{
		"there is room":                {limited(troop("c"), 2, 2, 3), "c-2", ""},
		"the node has its share":       {limited(troop("c"), 1, 2, 3), "c-2", "members on node n-2 that the operator took away is well again (default/a-2): budget.maxDisruptions.perNode is 1"},
		"the zone has its share":       {limited(troop("c"), 2, 1, 3), "c-2", "in zone z-2 that the operator took away is well again (default/a-2): budget.maxDisruptions.perZone is 1"},
		"the cluster has its share":    {limited(troop("c"), 3, 3, 2), "c-0", "(default/a-2, default/b-1): budget.maxDisruptions.perCluster is 2"},
		"another node's share":         {limited(troop("c"), 1, 1, 3), "c-0", ""},
		"its own member is taken anew": {limited(troop("a"), 1, 1, 2), "a-2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := &disruptions{}
			for _, s := range []*scope{troop("a"), troop("b"), troop("c")} {
				d.settle(s)
			}
			for service, member := range map[string]string{"a": "a-2", "b": "b-1"} {
				if why, _ := d.take(limited(troop(service), 9, 9, 9), member, nil); why != "" {
					t.Fatal(why)
				}
			}
			if why, _ := d.take(c.next, c.member, nil); (why == "") != (c.words == "") || !strings.Contains(why, c.words) {
				t.Errorf("%q, want %q", why, c.words)
			}
		})
	}
}

// A place is free again when the member is well, and not before; where the member is now is where it counts.
func TestDisruptionEnds(t *testing.T) {
	d := &disruptions{}
	next := func() string {
		why, _ := d.take(limited(troop("b"), 1, 9, 9), "b-2", nil)
		d.release(types.NamespacedName{Namespace: "default", Name: "b"}, "b-2")
		return why
	}
	d.settle(troop("a"))
	if why, _ := d.take(limited(troop("a"), 1, 9, 9), "a-2", nil); why != "" {
		t.Fatal(why)
	}
	d.settle(troop("a")) // the cache has not seen the deletion yet
	if next() == "" {
		t.Error("a place was free while the old pod was still shown")
	}
	d.settle(away(troop("a"), "a-2"))
	if next() == "" {
		t.Error("a place was free while the member was away")
	}
	sick := returned(troop("a"), "a-2", "n-1")
	sick.pods["a-2"].Status.Conditions = nil
	d.settle(sick)
	if why := next(); why != "" {
		t.Errorf("it counts where it no longer is: %s", why)
	}
	if why, _ := d.take(limited(troop("b"), 1, 9, 9), "b-1", nil); why == "" {
		t.Error("it does not count where it is now")
	}
	d.settle(returned(troop("a"), "a-2", "n-1"))
	if why, _ := d.take(limited(troop("b"), 1, 9, 9), "b-1", nil); why != "" {
		t.Errorf("it counts though it is well: %s", why)
	}
}

// A pod that could not be deleted in the end, and a service that is no more, count no longer.
func TestDisruptionIsForgotten(t *testing.T) {
	for name, end := range map[string]func(*disruptions){
		"the pod stayed": func(d *disruptions) {
			s := troop("a")
			s.now = noon.Add(2 * time.Minute)
			d.settle(s)
		},
		"the service is gone": func(d *disruptions) { d.forget(types.NamespacedName{Namespace: "default", Name: "a"}) },
		"the member is to go": func(d *disruptions) {
			s := away(troop("a"), "a-2")
			two := int32(2)
			s.svc.Spec.Replicas = &two
			d.settle(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &disruptions{}
			d.settle(troop("a"))
			_, _ = d.take(limited(troop("a"), 1, 1, 1), "a-2", nil)
			end(d)
			if why, _ := d.take(limited(troop("b"), 1, 1, 1), "b-2", nil); why != "" {
				t.Error(why)
			}
		})
	}
}

// A new leader looks at every service before it takes anything away, and counts what its predecessor took away.
func TestDisruptionsOfAnEarlierLeader(t *testing.T) {
	all := []types.NamespacedName{{Namespace: "default", Name: "a"}, {Namespace: "default", Name: "b"}}
	d := &disruptions{}
	d.settle(limited(troop("b"), 1, 1, 1))
	if why, _ := d.take(limited(troop("b"), 1, 1, 1), "b-0", all); !strings.Contains(why, "default/a") {
		t.Errorf("before the other service was looked at: %q", why)
	}
	rolling := away(troop("a"), "a-2")
	rolling.set = &appsv1.StatefulSet{Status: appsv1.StatefulSetStatus{UpdateRevision: "new"}}
	for _, pod := range rolling.pods {
		pod.Labels = map[string]string{"controller-revision-hash": "old"}
	}
	d.settle(rolling)
	if why, _ := d.take(limited(troop("b"), 1, 1, 1), "b-0", all); !strings.Contains(why, "default/a-2") {
		t.Errorf("a member that is being renewed: %q", why)
	}
	late := limited(troop("b"), 1, 1, 2)
	late.now = noon.Add(allSeenWithin)
	if why, _ := d.take(late, "b-0", append(all, types.NamespacedName{Namespace: "default", Name: "never"})); why != "" {
		t.Errorf("after a while one service that cannot be looked at holds all others up: %s", why)
	}
}

// Who waits says so, and asks for a person once those in the way have been away for too long.
func TestBudgetIsTold(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	r := &Reconciler{Client: fake.NewClientBuilder().WithScheme(scheme).Build()}
	r.disruptions.settle(troop("a"))
	if why, _ := r.disruptions.take(limited(troop("a"), 1, 1, 1), "a-2", nil); why != "" {
		t.Fatal(why)
	}
	for _, c := range []struct {
		after time.Duration
		told  bool
	}{{time.Minute, false}, {toldAfter, true}} {
		s := limited(troop("b"), 9, 9, 1)
		s.now, s.rolling = noon.Add(c.after), "renewing b-2"
		may, err := r.mayDisrupt(t.Context(), s, "b-2")
		if may || err != nil || !strings.Contains(s.rolling, "default/a-2") || s.next.IsZero() {
			t.Errorf("after %s: %t %v, %q", c.after, may, err, s.rolling)
		}
		if told := len(s.problems) == 1 && s.problems[0].Reason == v1alpha1.ReasonBudgetExhausted; told != c.told {
			t.Errorf("after %s a person is told: %+v", c.after, s.problems)
		}
	}
}
