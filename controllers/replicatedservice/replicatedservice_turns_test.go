package replicatedservice

import (
	"errors"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
)

// serviceUnder is a service of a namespace under a policy, of a priority class.
func serviceUnder(namespace, name, policy, class string) *v1alpha1.ReplicatedService {
	svc := &v1alpha1.ReplicatedService{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	svc.Spec.Template.PriorityClassName = class
	if policy != "" {
		svc.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: policy}
	}
	return svc
}

// A service shares turns with those under its policy in its namespace, and where the operator limits the cluster with all others.
func TestReadCrowd(t *testing.T) {
	mine := serviceUnder("x", "mine", "p", "")
	for name, c := range map[string]struct {
		others  []client.Object
		cluster int
		policy  int32
		want    crowd
	}{
		"alone":                          {nil, 0, 1, crowd{}},
		"one beside it":                  {[]client.Object{serviceUnder("x", "a", "p", "")}, 0, 1, crowd{most: 1, in: "failovers.policy.p"}},
		"one beside it, no limit":        {[]client.Object{serviceUnder("x", "a", "p", "")}, 0, 0, crowd{}},
		"one under another policy":       {[]client.Object{serviceUnder("x", "a", "q", "")}, 0, 1, crowd{}},
		"one in another namespace":       {[]client.Object{serviceUnder("y", "a", "p", "")}, 0, 1, crowd{}},
		"as many as the cluster's limit": {[]client.Object{serviceUnder("y", "a", "p", "")}, 2, 10, crowd{}},
		"more than the cluster's limit":  {[]client.Object{serviceUnder("y", "a", "p", "")}, 1, 10, crowd{most: 1, in: "operator/failovers.cluster", group: "x/p"}},
		"no limit but the cluster's":     {[]client.Object{serviceUnder("y", "a", "p", "")}, 1, 0, crowd{most: 1, in: "operator/failovers.cluster", group: "x/p"}},
		"both limits": {[]client.Object{serviceUnder("x", "a", "p", "high"), serviceUnder("y", "a", "p", "")}, 2, 1,
			crowd{most: 2, in: "operator/failovers.cluster", group: "x/p", behind: 1, groupMost: 1, groupBehind: 1}},
		"one of higher priority":             {[]client.Object{serviceUnder("y", "a", "", "high")}, 1, 0, crowd{most: 1, in: "operator/failovers.cluster", group: "x/p", behind: 1}},
		"within the cluster's, not policy's": {[]client.Object{serviceUnder("x", "a", "p", "high")}, 5, 1, crowd{most: 1, in: "failovers.policy.p", behind: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := turnsStage(t, append(c.others, mine.DeepCopy())...)
			r.ClusterTurns.Most = c.cluster
			s := &scope{svc: mine, memory: &memory{}, now: noon}
			s.policy.Budget.MaxConcurrentFailovers = c.policy
			if err := r.readCrowd(t.Context(), s); err != nil || s.crowd != c.want {
				t.Errorf("%+v (%v), want %+v", s.crowd, err, c.want)
			}
		})
	}
}

func turnsStage(t *testing.T, objects ...client.Object) (*Reconciler, client.Client) {
	t.Helper()
	known := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(known), v1alpha1.AddToScheme(known)); err != nil {
		t.Fatal(err)
	}
	high := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 1000}
	c := fake.NewClientBuilder().WithScheme(known).WithObjects(append(objects, high)...).Build()
	return &Reconciler{Client: c, Live: c, ClusterTurns: ClusterTurns{Most: 1, Namespace: "operator"}}, c
}

// Agents of a service may change the one Lease of the cluster's turns for as long as the service is there.
func TestClusterTurnsAreTheServices(t *testing.T) {
	mine := serviceUnder("x", "mine", "", "")
	r, c := turnsStage(t, mine.DeepCopy(), serviceUnder("y", "a", "", ""))
	s := &scope{svc: mine, memory: &memory{}, now: noon}
	if err := errors.Join(r.readCrowd(t.Context(), s), r.ensureTurns(t.Context(), s)); err != nil {
		t.Fatal(err)
	}
	role, _ := get(t, c, "failovers.cluster", &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "operator"}})
	if len(role.Rules) != 1 || len(role.Rules[0].ResourceNames) != 1 || role.Rules[0].ResourceNames[0] != "failovers.cluster" {
		t.Errorf("the Role allows %+v", role.Rules)
	}
	if _, there := get(t, c, "failovers.cluster", &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "operator"}}); !there {
		t.Error("there is no Lease to count in")
	}
	binding := func() (*rbacv1.RoleBinding, bool) {
		return get(t, c, "failovers.cluster.x.mine", &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "operator"}})
	}
	if b, there := binding(); !there || len(b.Subjects) != 1 || b.Subjects[0].Namespace != "x" || b.Subjects[0].Name != "mine-agent" || b.RoleRef.Name != role.Name {
		t.Errorf("bound: %+v", b)
	}
	s.now = noon.Add(seeTurnsAgain + time.Second)
	if err := r.ensureTurns(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	r.leaveTurns(t.Context(), mine)
	r.leaveTurns(t.Context(), mine)
	if _, there := binding(); there {
		t.Error("agents of a service that is gone may change the turns")
	}
}
