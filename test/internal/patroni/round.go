package patroni

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/load"
	"understudy.dev/understudy/test/internal/peer"
	"understudy.dev/understudy/test/internal/rounds"
)

// Faults are those that a round can make.
var Faults = []faults.Kind{faults.EngineKill, faults.ContainerKill, faults.PodDelete, faults.Switchover, faults.NodeOff}

const (
	// within is how long a fault may take: the lock of a dead node is held for ttl and a while.
	within = 2 * time.Minute
)

// Round makes one fault. The client knows the three servers and takes the first that may be written to, the old primary
// last, so that it does not wait for a dead one while another could answer.
func (p Peer) Round(ctx context.Context, set clients.Set, injector faults.Injector, fault faults.Kind, id string) (rounds.Record, error) {
	record := rounds.Record{Fault: fault}
	err := p.round(ctx, set, injector, id, &record)
	if err != nil {
		record.Error = err.Error()
	}
	return record, err
}

func (p Peer) round(ctx context.Context, set clients.Set, injector faults.Injector, id string, record *rounds.Record) error {
	if err := p.WaitHealthy(ctx); err != nil {
		return err
	}
	old, err := p.primary(ctx)
	if err != nil {
		return err
	}
	addresses, err := p.addresses(ctx, old.Name)
	if err != nil {
		return err
	}
	c, apart, err := set.NotOn(ctx, old.Spec.NodeName)
	if err != nil {
		return err
	}
	defer c.Close()
	record.From, record.FromNode, record.ClientNode, record.ClientApart = old.Name, old.Spec.NodeName, c.Node, apart
	record.Measurement, err = rounds.Measure(ctx, c, id, rounds.Target{
		Config: load.Config{
			Addresses: addresses, Engine: load.PostgreSQL, User: superuser, Database: database,
		},
		Within: within,
		Inject: func(ctx context.Context) error { return p.inject(ctx, injector, record.Fault, old) },
		// The load itself says when it is over: asking Patroni too would take part in what is measured.
		Over: func(ctx context.Context) error {
			return kube.Until(ctx, within, "commits to be acknowledged again", func(ctx context.Context) (bool, string, error) {
				p, err := c.Progress(ctx, id)
				return p.Gaps > 0 && p.SinceLastMicroseconds < 100_000, p.LastFailure, err
			})
		},
	})
	if now, askErr := p.primary(ctx); askErr == nil {
		record.To, record.ToNode = now.Name, now.Spec.NodeName
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w", record.Fault, old.Name, err)
	}
	return nil
}

func (p Peer) inject(ctx context.Context, injector faults.Injector, fault faults.Kind, old corev1.Pod) error {
	switch fault {
	case faults.EngineKill:
		return injector.KillEngine(ctx, p.Namespace, old.Name)
	case faults.ContainerKill:
		return injector.KillContainer(ctx, p.Namespace, old.Name)
	case faults.PodDelete:
		return faults.DeletePod(ctx, p.Cluster, p.Namespace, old.Name)
	case faults.Switchover:
		return p.switchover(ctx, old.Name)
	case faults.NodeOff:
		return injector.NodeOff(ctx, old.Spec.NodeName)
	}
	return fmt.Errorf("fault %q is not made against Patroni: use %v", fault, Faults)
}

// primary is the pod of whoever holds the lock.
func (p Peer) primary(ctx context.Context) (corev1.Pod, error) {
	pods, err := peer.Ready(ctx, p.Cluster, p.Namespace, name)
	if err != nil {
		return corev1.Pod{}, err
	}
	// A pod may be ready by the word of a kubelet that is no more.
	for i := range pods {
		status, askErr := p.cluster(ctx, pods[i].Name)
		if askErr != nil {
			err = askErr
			continue
		}
		var pod corev1.Pod
		key := client.ObjectKey{Namespace: p.Namespace, Name: status.leader()}
		if key.Name == "" {
			return pod, fmt.Errorf("looking for the primary: %s says that nobody holds the lock", pods[i].Name)
		}
		if err := p.Cluster.Get(ctx, key, &pod); err != nil {
			return pod, fmt.Errorf("reading pod %s: %w", key, err)
		}
		return pod, nil
	}
	return corev1.Pod{}, fmt.Errorf("looking for the primary: none of %d ready pods says who holds the lock: %w", len(pods), err)
}

// addresses of the servers, that of one pod last.
func (p Peer) addresses(ctx context.Context, last string) ([]string, error) {
	byPod := map[string]string{}
	for i := range members {
		var svc corev1.Service
		key := client.ObjectKey{Namespace: p.Namespace, Name: peer.Pod(name, i)}
		if err := p.Cluster.Get(ctx, key, &svc); err != nil {
			return nil, fmt.Errorf("reading Service %s: %w", key, err)
		}
		byPod[key.Name] = net.JoinHostPort(svc.Spec.ClusterIP, strconv.Itoa(postgresPort))
	}
	return lastOf(byPod, last), nil
}

func lastOf(byPod map[string]string, last string) []string {
	var all []string
	for _, pod := range slices.Sorted(maps.Keys(byPod)) {
		if pod != last {
			all = append(all, byPod[pod])
		}
	}
	return append(all, byPod[last])
}
