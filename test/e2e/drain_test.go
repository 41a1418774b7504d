//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/rounds"
)

// TestDrain: kubectl drain of one node after the other, each with members of both engines, ends each time, with at most one change of primary for each member
// that leaves, and without losing an acknowledged write. Redis has no volumes, so that its members move to other nodes; those of PostgreSQL are bound to theirs
// and wait until they are open again.
func TestDrain(t *testing.T) {
	needHost(t)
	var nodes corev1.NodeList
	must(t, cluster.List(t.Context(), &nodes))
	both := []fixture{redis(t, space(t, "drain-redis"), nil), postgresql(t, space(t, "drain-postgresql"), nil)}
	for _, f := range both {
		f.ready(t)
		stop := guardRoute(t, f.Service)
		defer stop()
		f.toFirst(t, nodes.Items)
	}
	each := func(t *testing.T, test func(*testing.T, fixture)) {
		for _, f := range both {
			t.Run(f.Service.Name, func(t *testing.T) { t.Parallel(); test(t, f) })
		}
	}
	for i := range nodes.Items {
		t.Run(nodes.Items[i].Name, func(t *testing.T) {
			d := drainOf(t, nodes.Items[i].Name, len(both))
			each(t, func(t *testing.T, f fixture) { f.drained(t, d) })
		})
	}
	t.Run("Evictions", func(t *testing.T) { each(t, func(t *testing.T, f fixture) { f.evictions(t) }) })
	t.Run("MemberMissing", both[1].memberMissing)
}

// drain is one kubectl drain of a node with members of several services. It is given up once one of them is.
type drain struct {
	node   string
	giveUp func()
	// written and seen return once all services are written to, and once each has seen who its primary is after the drain.
	written, seen func() error
	run           func() (time.Duration, error)
	uncordon      func()
}

func drainOf(t *testing.T, node string, services int) drain {
	kubectl := faults.KubectlIn(repository)
	uncordon := cleanup(t, "opening node "+node, func(ctx context.Context) error { return kubectl.Uncordon(ctx, node) })
	ctx, giveUp := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(giveUp)
	return drain{
		node: node, giveUp: giveUp, written: meeting(ctx, services), seen: meeting(ctx, services), uncordon: sync.OnceFunc(uncordon),
		run: sync.OnceValues(func() (time.Duration, error) {
			begun := time.Now()
			out, err := kubectl.Drain(ctx, node)
			if err == nil && strings.Contains(out, "InternalError") {
				err = fmt.Errorf("an eviction was answered with 500:\n%s", out)
			}
			return time.Since(begun), err
		}),
	}
}

// meeting returns what returns when it has been called n times, or ctx is over.
func meeting(ctx context.Context, n int) func() error {
	var come atomic.Int64
	all := make(chan struct{})
	return func() error {
		if come.Add(1) == int64(n) {
			close(all)
		}
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%d of %d services came: %w", come.Load(), n, ctx.Err())
		}
	}
}

// toFirst makes sure that at least one drain meets the primary: it moves on from a node that is drained, and might stay ahead.
func (f fixture) toFirst(t *testing.T, nodes []corev1.Node) {
	t.Helper()
	s := f.scene(t)
	for _, replica := range s.replicas {
		if s.node(replica) == nodes[0].Name && s.primary.Node != nodes[0].Name {
			must(t, kube.Until(t.Context(), time.Minute, replica+" to be fit to take over", func(ctx context.Context) (bool, string, error) {
				obj, err := f.Service.Object(ctx)
				if err != nil {
					return false, "", err
				}
				c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionFailoverPossible)
				return c != nil && c.Status == metav1.ConditionTrue && strings.Contains(c.Message, replica), fmt.Sprintf("%+v", c), nil
			}))
			_, err := f.Switchover(t.Context(), replica)
			must(t, err)
			must(t, kube.Until(t.Context(), time.Minute, replica+" to be the primary", func(ctx context.Context) (bool, string, error) {
				p, err := f.Service.Primary(ctx)
				return p.Member == replica, p.Member, err
			}))
			return
		}
	}
}

// drained drains a node under load, opens it again and waits until all is well.
func (f fixture) drained(t *testing.T, d drain) {
	defer func() {
		if t.Failed() {
			d.giveUp()
		}
	}()
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	must(t, f.Clients.Ensure(t.Context()))
	must(t, f.Service.WaitEvictable(t.Context(), time.Minute))
	c, apart, err := f.Clients.NotOn(t.Context(), d.node)
	must(t, err)
	defer c.Close()
	if !apart {
		t.Fatalf("the only load client is on %s, which is to be drained", d.node)
	}
	config, err := f.LoadConfig(t.Context())
	must(t, err)
	config.LimitSeconds = 600
	var took time.Duration
	var s scene
	var after kube.Primary
	m, err := rounds.Measure(t.Context(), c, fmt.Sprintf("drain-%d", time.Now().UnixNano()), rounds.Target{
		Config: config, Within: time.Minute,
		Inject: func(context.Context) (err error) {
			if err := d.written(); err != nil {
				return err
			}
			s = f.scene(t)
			took, err = d.run()
			return err
		},
		Over: func(ctx context.Context) (err error) {
			if after, err = f.Service.Primary(ctx); err != nil {
				return err
			}
			if err := d.seen(); err != nil {
				return err
			}
			d.uncordon()
			return f.WaitHealthy(ctx, 3*time.Minute)
		},
	})
	must(t, err)
	leaving := 0
	for member := range s.pods {
		if s.node(member) == d.node {
			leaving++
		}
	}
	t.Logf("%s: drained of %d members in %s; %s on %s in epoch %d → %s on %s in epoch %d; outage %.1f ms; %d writes acknowledged, %d lost, %d unknown",
		d.node, leaving, took.Round(100*time.Millisecond), s.primary.Member, s.primary.Node, s.primary.Epoch, after.Member, after.Node, after.Epoch,
		float64(m.Longest().Microseconds)/1000, m.Acknowledged, m.Verification.Lost, m.Unknown)
	if m.Verification.Lost > 0 {
		t.Errorf("%d acknowledged writes were lost: %v", m.Verification.Lost, m.Verification.LostSequence)
	}
	most := int64(0)
	if s.primary.Node == d.node {
		most = int64(leaving)
	}
	if grown := after.Epoch - s.primary.Epoch; grown > most || (most > 0 && grown < 1) {
		t.Errorf("epoch %d became %d, want %d changes of primary at most", s.primary.Epoch, after.Epoch, most)
	}
	if after.Node == d.node {
		t.Errorf("primary %s is on the drained node %s", after.Member, d.node)
	}
	f.requestsEnded(t)
}

// requestsEnded: none of the switchovers that the operator asked for by itself has failed or goes on.
func (f fixture) requestsEnded(t *testing.T) {
	t.Helper()
	must(t, kube.Until(t.Context(), 90*time.Second, "the operator's switchovers to end well", func(ctx context.Context) (bool, string, error) {
		var all v1alpha1.FailoverList
		if err := cluster.List(ctx, &all, client.InNamespace(f.namespace), client.HasLabels{keys.LabelReason}); err != nil {
			return false, "", err
		}
		for i := range all.Items {
			fo := &all.Items[i]
			if c := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionReady); c == nil || c.Status != metav1.ConditionTrue {
				return false, fmt.Sprintf("%s: %+v", fo.Name, c), nil
			}
		}
		return true, "", nil
	}))
}

// evict asks once to evict a member's pod.
func (f fixture) evict(ctx context.Context, member string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return cluster.Core.CoreV1().RESTClient().Post().Namespace(f.namespace).Resource("pods").Name(member).SubResource("eviction").
		MaxRetries(0).Body(&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: member}}).Do(ctx).Error()
}

// evictionWaits checks for a while that an eviction is answered with 429 and nothing else.
func (f fixture) evictionWaits(t *testing.T, member string, d time.Duration) {
	t.Helper()
	tries := 0
	for end := time.Now().Add(d); time.Now().Before(end); tries++ {
		if err := f.evict(t.Context(), member); !apierrors.IsTooManyRequests(err) {
			t.Fatalf("try %d to evict %s while another member is missing: %v, want 429", tries+1, member, err)
		}
		pause(t, 200*time.Millisecond)
	}
	t.Logf("%d evictions of %s were refused with 429", tries, member)
}

// evictions: the second waits for the first.
func (f fixture) evictions(t *testing.T) {
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	must(t, f.Service.WaitEvictable(t.Context(), time.Minute))
	s := f.scene(t)
	must(t, f.evict(t.Context(), s.replicas[0]))
	f.evictionWaits(t, s.replicas[1], time.Second)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	must(t, f.Service.WaitEvictable(t.Context(), time.Minute))
	now, err := f.Service.Primary(t.Context())
	must(t, err)
	if now.Epoch != s.primary.Epoch {
		t.Errorf("epoch %d became %d when a replica was evicted", s.primary.Epoch, now.Epoch)
	}
}

// memberMissing: while a member has no node to go to, no other one may be evicted.
func (f fixture) memberMissing(t *testing.T) {
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	s := f.scene(t)
	missing := s.replicas[0]
	_, err := kubectl(t, "", "cordon", s.node(missing))
	must(t, err)
	uncordon := cleanup(t, "opening node "+s.node(missing), func(context.Context) error {
		return f.Kubectl.Uncordon(context.WithoutCancel(t.Context()), s.node(missing))
	})
	must(t, faults.DeletePod(t.Context(), cluster, f.namespace, missing))
	must(t, kube.UntilEvery(t.Context(), time.Minute, 100*time.Millisecond, missing+" to wait for its node", func(ctx context.Context) (bool, string, error) {
		var pod corev1.Pod
		err := cluster.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: missing}, &pod)
		before := s.pods[missing]
		return pod.UID != before.UID && pod.Status.Phase == corev1.PodPending, string(pod.Status.Phase), client.IgnoreNotFound(err)
	}))
	for _, member := range []string{s.replicas[1], s.primary.Member} {
		f.evictionWaits(t, member, 5*time.Second)
	}
	uncordon()
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	must(t, f.Service.WaitEvictable(t.Context(), time.Minute))
}
