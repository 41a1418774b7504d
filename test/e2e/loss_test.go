//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/load"
	"understudy.dev/understudy/test/internal/rounds"
)

// lossReported: an asynchronous primary that lost its replicas acknowledges writes until its lease ends, and those are lost. The
// Failover says how much that was, once the old primary is back.
func lossReported(t *testing.T, f fixture) {
	needHost(t)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	s := f.scene(t)
	c, _, err := f.Clients.NotOn(t.Context(), s.primary.Node)
	must(t, err)
	defer c.Close()
	config, err := f.LoadConfig(t.Context())
	must(t, err)
	routes, err := f.Service.WatchRoute(t.Context())
	must(t, err)
	defer routes.Stop()
	mend := cleanup(t, "mending the network", func(ctx context.Context) error { return mendAll(ctx, s) })
	id := fmt.Sprintf("e2e-loss-%d", time.Now().UnixNano())
	result, err := rounds.Measure(t.Context(), c, id, rounds.Target{
		Config: config, Within: time.Minute,
		Inject: func(ctx context.Context) error {
			// The pods alone: the client is on a replica's node and still reaches the primary.
			rules := append(pod(s.ip(s.replicas[0])), pod(s.ip(s.replicas[1]))...)
			return injector.Firewall(ctx, s.primary.Node, rules...)
		},
		Over: func(ctx context.Context) error {
			return f.Service.WaitRouted(ctx, routes, s.primary.Epoch, time.Minute)
		},
	})
	mend()
	must(t, err)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	// What the replication stream carries for one write of the load: SET, key and value.
	number := fmt.Sprint(result.Attempted)
	write := int64(len(fmt.Sprintf("*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(load.Key(id, 0)), load.Key(id, result.Attempted), len(number), number)))
	lost := int64(result.Verification.Lost)
	if lost < 50 {
		t.Fatalf("%d writes were lost: a primary cut off from its replicas is to acknowledge many before its lease ends", lost)
	}
	// The agent looked at its engine two heartbeat intervals, 40 writes of this load, before the end at most; a busy machine adds to that.
	const unseen = 100
	most, least := (lost+int64(result.Unknown)+2)*write, (lost-unseen)*write
	what := fmt.Sprintf("a Failover of epoch %d that tells of %d to %d bytes lost", s.primary.Epoch+1, least, most)
	must(t, kube.Until(t.Context(), time.Minute, what, func(ctx context.Context) (bool, string, error) {
		var fo v1alpha1.Failover
		key := client.ObjectKey{Namespace: f.namespace, Name: fmt.Sprintf("%s-%d", f.Service.Name, s.primary.Epoch+1)}
		if err := cluster.Get(ctx, key, &fo); err != nil {
			return false, err.Error(), client.IgnoreNotFound(err)
		}
		told := ptr.Deref(fo.Status.BytesLost, -1)
		seen := fmt.Sprintf("%s %d bytes of %d writes lost", fo.Status.BytesLostPrecision, told, lost)
		return told >= least && told <= most && fo.Status.BytesLostPrecision == v1alpha1.LossAtLeast, seen, nil
	}))
	f.marked(t)
}
