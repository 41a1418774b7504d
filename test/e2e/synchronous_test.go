//go:build e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/controllers/replicatedservice"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/rounds"
)

var (
	soakFor  = flag.Duration("soak", 0, "how long TestSoak draws faults at random; 0: not at all")
	soakSeed = flag.Uint64("soak-seed", 0, "which faults TestSoak draws; 0: any")
	soakOn   = flag.String("soak-engine", "redis", "on which engine TestSoak makes them: redis or postgresql")
)

// synchronous is a service in which what WAIT confirmed outlives any one member, with volumes.
func synchronous(t *testing.T, name string) fixture {
	t.Helper()
	needHost(t)
	namespace := space(t, name)
	policy := shortLease(t, namespace)
	return redis(t, namespace, func(obj *v1alpha1.ReplicatedService) {
		obj.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: policy.Name}
		obj.Spec.Replication = &v1alpha1.ReplicationSpec{Mode: v1alpha1.Synchronous, Synchronous: &v1alpha1.SynchronousSpec{Quorum: 1}}
		obj.Spec.Storage = &v1alpha1.StorageSpec{
			Size: resource.MustParse("256Mi"), StorageClassName: ptr.To("disk"), Retention: v1alpha1.DeleteVolumes,
		}
	}).ready(t)
}

// TestSynchronous runs the list of faults once, on writes that WAIT confirmed: none of them is lost, and what several
// clients see of the same keys meanwhile is linearizable.
func TestSynchronous(t *testing.T) {
	t.Parallel()
	f := inCalm(t, func() fixture { return synchronous(t, "synchronous") })
	stop := guardRoute(t, f.Service)
	for _, d := range disturbances {
		t.Run(d.name, func(t *testing.T) { f.disturb(t, d) })
	}
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute)) // after the last of them too
	stop()
}

// TestSoak draws one or two faults at a time for as long as -soak says (make soak FOR=1h).
func TestSoak(t *testing.T) {
	if *soakFor == 0 {
		t.Skip("make soak FOR=1h runs it")
	}
	if *soakSeed == 0 {
		*soakSeed = rand.Uint64() //nolint:gosec // which faults are drawn is no secret
	}
	t.Logf("-soak-seed=%d", *soakSeed)
	random := rand.New(rand.NewPCG(*soakSeed, 0)) //nolint:gosec // the same seed draws the same faults
	f := soaked(t)
	stop := guardRoute(t, f.Service)
	count := 0
	for end := time.Now().Add(*soakFor); time.Now().Before(end) && !t.Failed(); {
		drawn := []disturbance{disturbances[random.IntN(len(disturbances))]}
		if second := disturbances[random.IntN(len(disturbances))]; random.IntN(3) == 0 && drawn[0].meets != disks && second.meets != disks {
			drawn = append(drawn, second)
		}
		f.disturb(t, drawn...)
		count += len(drawn)
	}
	stop()
	t.Logf("%d faults", count)
}

func soaked(t *testing.T) fixture {
	t.Helper()
	if *soakOn == "postgresql" {
		needHost(t)
		return postgresql(t, space(t, "soak"), nil).ready(t)
	}
	return synchronous(t, "soak")
}

// disturb makes faults, all at once, under load, undoes them, reads back what was confirmed, and judges the history of
// the clients that ran beside it.
func (f fixture) disturb(t *testing.T, all ...disturbance) {
	t.Helper()
	alone := slices.ContainsFunc(all, func(d disturbance) bool { return d.meets == wide })
	if alone {
		calm.Lock()
		defer calm.Unlock()
	} else {
		calm.RLock()
		defer calm.RUnlock()
	}
	f.nothingAsked(t)
	must(t, f.WaitHealthy(t.Context(), 5*time.Minute))
	s := f.scene(t)
	c, _, err := f.Clients.NotOn(t.Context(), s.primary.Node)
	must(t, err)
	defer c.Close()
	config, err := f.LoadConfig(t.Context())
	must(t, err)
	config.WaitReplicas = 1 // of Redis: PostgreSQL answers no commit before
	routes, err := f.Service.WatchRoute(t.Context())
	must(t, err)
	defer routes.Stop()
	name, lasts := "", time.Duration(0)
	var undo []func()
	for _, d := range all {
		name, lasts = strings.TrimPrefix(name+"+"+d.name, "+"), max(lasts, d.lasts)
		if d.undo != nil {
			undo = append(undo, cleanup(t, "undoing "+d.name, func(ctx context.Context) error { return d.undo(ctx, s) }))
		}
	}
	defer func() { // whatever happens, before others go on
		for _, undo := range undo {
			undo()
		}
	}()
	id := fmt.Sprintf("sync-%d", time.Now().UnixNano())
	recording := record(t, c, id, config)
	result, err := rounds.Measure(t.Context(), c, id, rounds.Target{
		Config: config, Within: 2 * time.Minute,
		Inject: func(ctx context.Context) error {
			for _, d := range all {
				if err := d.inject(ctx, s); client.IgnoreNotFound(err) != nil && len(all) == 1 {
					return fmt.Errorf("%s: %w", d.name, err) // of two, one may have taken away what the other needs
				}
			}
			return nil
		},
		Over: func(ctx context.Context) error {
			pause(t, lasts)
			for _, undo := range undo {
				undo()
			}
			if len(all) == 1 && all[0].due(config.Engine) == changes {
				return f.Service.WaitRouted(ctx, routes, s.primary.Epoch, time.Minute)
			}
			return nil
		},
	})
	recording.judge(t, name, s.replacedUnseen)
	must(t, err)
	now, err := f.Service.Primary(t.Context())
	must(t, err)
	outage := time.Duration(result.Longest().Microseconds) * time.Microsecond
	t.Logf("%s: %s in epoch %d → %s in epoch %d, outage %s, %d writes confirmed, %d lost, %d unknown", name, s.primary.Member,
		s.primary.Epoch, now.Member, now.Epoch, outage.Round(time.Millisecond), result.Acknowledged, result.Verification.Lost, result.Unknown)
	if result.Verification.Lost > 0 {
		t.Errorf("%s: %d confirmed writes were lost: %v", name, result.Verification.Lost, result.Verification.LostSequence)
	}
	if len(all) == 1 && all[0].due(config.Engine) == stays && (now.Epoch != s.primary.Epoch || outage > 2*time.Second) {
		t.Errorf("%s: the primary was well, but epoch %d became %d and no write was confirmed for %s", name, s.primary.Epoch, now.Epoch, outage)
	}
	if alone {
		f.nothingAsked(t) // others too count on an operator, and the one that was killed has a successor when it has ended what was asked for
	}
}

// nothingAsked waits until every change of primary that somebody asked for is over: one whose operator was killed is carried out by the
// next, half a minute later.
func (f fixture) nothingAsked(t *testing.T) {
	t.Helper()
	must(t, kube.Until(t.Context(), 2*time.Minute, "what was asked for to be over", func(ctx context.Context) (bool, string, error) {
		var all v1alpha1.FailoverList
		if err := cluster.List(ctx, &all, client.InNamespace(f.namespace)); err != nil {
			return false, "", err
		}
		for i := range all.Items {
			if fo := &all.Items[i]; fo.Spec.Type != v1alpha1.TypeAutomatic && !replicatedservice.Over(fo) {
				return false, fmt.Sprintf("%s: %+v", fo.Name, fo.Status.Conditions), nil
			}
		}
		return true, "", nil
	}))
}

// replacedUnseen is nil once a Failover says that a primary of the scene or after it was replaced on QuorumCut: it may have lived.
func (s scene) replacedUnseen(ctx context.Context) error {
	what := fmt.Sprintf("a Failover of %s after epoch %d on %s", s.f.Service.Name, s.primary.Epoch, v1alpha1.EvidenceQuorumCut)
	return kube.Until(ctx, time.Minute, what, func(ctx context.Context) (bool, string, error) {
		var all v1alpha1.FailoverList
		if err := cluster.List(ctx, &all, client.InNamespace(s.f.namespace)); err != nil {
			return false, "", err
		}
		seen := []string{}
		for _, fo := range all.Items {
			if fo.Spec.ServiceRef.Name == s.f.Service.Name && fo.Status.Epoch > s.primary.Epoch {
				if fo.Status.Evidence == v1alpha1.EvidenceQuorumCut {
					return true, "", nil
				}
				seen = append(seen, fmt.Sprintf("epoch %d on %s", fo.Status.Epoch, fo.Status.Evidence))
			}
		}
		return false, fmt.Sprintf("there are %v", seen), nil
	})
}

// scene looks at the service.
func (f fixture) scene(t *testing.T) scene {
	t.Helper()
	s := scene{f: f, pods: map[string]corev1.Pod{}}
	var err error
	s.primary, err = f.Service.Primary(t.Context())
	must(t, err)
	pods, err := f.Service.Pods(t.Context())
	must(t, err)
	for _, pod := range pods {
		s.pods[pod.Name] = pod
		if pod.Name != s.primary.Member {
			s.replicas = append(s.replicas, pod.Name)
		}
	}
	slices.Sort(s.replicas)
	return s
}
