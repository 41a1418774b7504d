//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/resp"
	"understudy.dev/understudy/test/internal/rounds"
)

// fixture is one service in a namespace of its own.
type fixture struct {
	rounds.Runner

	namespace string
}

// space makes a namespace that is removed after the test, unless the test failed: then it is left to be looked at.
func space(t *testing.T, name string) string {
	t.Helper()
	ctx := t.Context()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "e2e-" + name}}
	removeNamespace(t, ctx, ns.Name)
	if err := cluster.Create(ctx, ns); err != nil {
		t.Fatalf("making namespace %s: %v", ns.Name, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			aftermath(t, ns.Name)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		removeNamespace(t, ctx, ns.Name)
	})
	return ns.Name
}

// removeNamespace deletes the services first and the namespace after them, as a careful person does.
func removeNamespace(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	var services v1alpha1.ReplicatedServiceList
	if err := cluster.List(ctx, &services, client.InNamespace(name)); err != nil {
		t.Fatalf("listing what is left in %s: %v", name, err)
	}
	for i := range services.Items {
		if err := cluster.Delete(ctx, &services.Items[i]); client.IgnoreNotFound(err) != nil {
			t.Fatalf("deleting service %s/%s: %v", name, services.Items[i].Name, err)
		}
	}
	must(t, kube.Until(ctx, 90*time.Second, "the services of namespace "+name+" to go", func(ctx context.Context) (bool, string, error) {
		err := cluster.List(ctx, &services, client.InNamespace(name))
		return len(services.Items) == 0, fmt.Sprintf("%d are left", len(services.Items)), err
	}))
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := cluster.Delete(ctx, ns); client.IgnoreNotFound(err) != nil {
		t.Fatalf("deleting namespace %s: %v", name, err)
	}
	must(t, kube.Until(ctx, 90*time.Second, "namespace "+name+" to go", func(ctx context.Context) (bool, string, error) {
		err := cluster.Get(ctx, client.ObjectKeyFromObject(ns), ns)
		return apierrors.IsNotFound(err), fmt.Sprintf("%v", ns.Status.Conditions), client.IgnoreNotFound(err)
	}))
}

const shortLeaseMilliseconds = 1500

// shortLease is a policy under which a silent primary is replaced soon.
func shortLease(t *testing.T, namespace string) *v1alpha1.FailoverPolicy {
	t.Helper()
	policy := &v1alpha1.FailoverPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "fast"},
		Spec:       v1alpha1.FailoverPolicySpec{Detection: v1alpha1.DetectionSpec{LeaseDurationMilliseconds: shortLeaseMilliseconds}},
	}
	must(t, cluster.Create(t.Context(), policy))
	return policy
}

// redis is a service of three members; change adjusts it before it is made.
func redis(t *testing.T, namespace string, change func(*v1alpha1.ReplicatedService)) fixture {
	t.Helper()
	obj := &v1alpha1.ReplicatedService{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "cache"},
		Spec: v1alpha1.ReplicatedServiceSpec{
			Replicas: ptr.To[int32](3),
			Engine:   v1alpha1.EngineSpec{Redis: &v1alpha1.RedisSpec{}},
			Template: v1alpha1.MemberTemplate{
				Image: image,
				Resources: &corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse("48Mi")},
					Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
				},
			},
		},
	}
	if change != nil {
		change(obj)
	}
	if err := cluster.Create(t.Context(), obj); err != nil {
		t.Fatalf("making service %s/%s: %v", namespace, obj.Name, err)
	}
	return fixture{namespace: namespace, Runner: rounds.Runner{
		Kubectl: faults.KubectlIn(repository),
		Service: kube.Service{Cluster: cluster, Namespace: namespace, Name: obj.Name},
		Clients: loadClients(namespace), Injector: injector,
	}}
}

// ready waits for the service and its load clients.
func (f fixture) ready(t *testing.T) fixture {
	t.Helper()
	must(t, f.Clients.Ensure(t.Context()))
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	return f
}

// patch changes the service's spec.
func (f fixture) patch(t *testing.T, change func(*v1alpha1.ReplicatedServiceSpec)) {
	t.Helper()
	obj, err := f.Service.Object(t.Context())
	must(t, err)
	before := client.MergeFrom(obj.DeepCopy())
	change(&obj.Spec)
	if err := cluster.Patch(t.Context(), obj, before); err != nil {
		t.Fatalf("changing service %s/%s: %v", f.namespace, obj.Name, err)
	}
}

// condition waits for a condition with a reason and returns its message.
func (f fixture) condition(t *testing.T, name, reason string) string {
	t.Helper()
	var message string
	what := fmt.Sprintf("condition %s of %s/%s with reason %s", name, f.namespace, f.Service.Name, reason)
	must(t, kube.Until(t.Context(), 90*time.Second, what, func(ctx context.Context) (bool, string, error) {
		obj, err := f.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		c := meta.FindStatusCondition(obj.Status.Conditions, name)
		if c == nil {
			return false, "no such condition", nil
		}
		message = c.Message
		return c.Reason == reason && c.Status == metav1.ConditionTrue, fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), nil
	}))
	return message
}

// keys that must still be there after every fault; the load's own keys are removed by its verification.
const markers = 500

// mark writes keys that stay.
func (f fixture) mark(t *testing.T) {
	t.Helper()
	conn := f.primary(t)
	defer conn.Close()
	for i := range markers {
		if _, err := conn.Do("SET", "marker:"+strconv.Itoa(i), strconv.Itoa(i)); err != nil {
			t.Fatalf("writing marker %d: %v", i, err)
		}
	}
	// Asynchronous replication may lose the newest writes; these are not to be among them.
	reached, err := conn.Do("WAIT", "2", "5000")
	if err != nil || reached != int64(2) {
		t.Fatalf("waiting until two replicas have the markers: %v %v", reached, err)
	}
}

// primary connects to the primary's engine.
func (f fixture) primary(t *testing.T) *resp.Conn {
	t.Helper()
	p, err := f.Service.Primary(t.Context())
	must(t, err)
	password, err := f.Service.Password(t.Context())
	must(t, err)
	address, stop, err := cluster.Forward(t.Context(), f.namespace, p.Member, 6379)
	must(t, err)
	t.Cleanup(stop)
	conn, err := resp.Dial(t.Context(), address, 2*time.Second, 10*time.Second)
	must(t, err)
	if _, err := conn.Do("AUTH", password); err != nil {
		t.Fatalf("authenticating with %s: %v", p.Member, err)
	}
	return conn
}

// marked checks that every member has every marker: an empty member that is followed empties the others.
func (f fixture) marked(t *testing.T) {
	t.Helper()
	pods, err := f.Service.Pods(t.Context())
	must(t, err)
	for _, pod := range pods {
		must(t, kube.Until(t.Context(), 30*time.Second, "the markers on "+pod.Name, func(ctx context.Context) (bool, string, error) {
			n, err := f.Service.Redis(ctx, pod.Name, "DBSIZE")
			return n == int64(markers), fmt.Sprintf("%v keys, want %d", n, markers), err
		}))
	}
}
