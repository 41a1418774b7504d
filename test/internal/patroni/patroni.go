package patroni

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/peer"
	"understudy.dev/understudy/test/internal/pgbench"
)

// Peer is the comparison's set of pods.
type Peer struct {
	Cluster   *kube.Cluster
	Namespace string
	Image     string
	Settings  Settings
	// Spacing is how long all must have been well before the next fault.
	Spacing time.Duration
}

// Ensure makes it all anew and waits until it is well.
func (p Peer) Ensure(ctx context.Context) error {
	if err := p.Remove(ctx); err != nil {
		return err
	}
	addresses := map[string][]string{}
	for _, set := range []string{name, etcdName} {
		for i := range members {
			obj := service(p.Namespace, set, i)
			if err := p.create(ctx, obj); err != nil {
				return err
			}
			addresses[set] = append(addresses[set], obj.Spec.ClusterIP)
		}
	}
	config, err := configuration(p.Namespace, p.Settings, addresses[name], addresses[etcdName])
	if err != nil {
		return err
	}
	for _, obj := range []client.Object{config, etcdSet(p.Namespace, p.Image), memberSet(p.Namespace, p.Image)} {
		if err := p.create(ctx, obj); err != nil {
			return err
		}
	}
	return p.WaitHealthy(ctx)
}

func (p Peer) create(ctx context.Context, obj client.Object) error {
	if err := p.Cluster.Create(ctx, obj); err != nil {
		return fmt.Errorf("making %T %s to compare with: %w", obj, obj.GetName(), err)
	}
	return nil
}

// Remove deletes all, the data too, and waits until it is gone.
func (p Peer) Remove(ctx context.Context) error {
	meta := metav1.ObjectMeta{Namespace: p.Namespace, Name: name}
	objects := []client.Object{memberSet(p.Namespace, p.Image), etcdSet(p.Namespace, p.Image), &corev1.ConfigMap{ObjectMeta: meta}}
	for i := range members {
		objects = append(objects, service(p.Namespace, name, i), service(p.Namespace, etcdName, i))
	}
	if err := peer.Delete(ctx, p.Cluster, objects...); err != nil {
		return err
	}
	return peer.WaitGone(ctx, p.Cluster, p.Namespace, name, etcdName)
}

// WaitHealthy waits until one member leads, one is synchronous, both replicas stream, and all that has been so for Spacing.
func (p Peer) WaitHealthy(ctx context.Context) error {
	var since time.Time
	return kube.UntilEvery(ctx, 5*time.Minute, 500*time.Millisecond, "Patroni to be well", func(ctx context.Context) (bool, string, error) {
		problem, err := p.problem(ctx)
		if problem != "" || err != nil {
			since = time.Time{}
			return false, problem, err
		}
		if since.IsZero() {
			since = time.Now()
		}
		well := time.Since(since)
		return well >= p.Spacing, fmt.Sprintf("it has been well for %s", well.Round(time.Millisecond)), nil
	})
}

// WaitRedundant waits until one member leads, one is synchronous and both replicas stream, and changes nothing.
func (p Peer) WaitRedundant(ctx context.Context, within time.Duration) error {
	return kube.UntilEvery(ctx, within, 100*time.Millisecond, "Patroni to be redundant", func(ctx context.Context) (bool, string, error) {
		problem, _, _, err := p.missing(ctx)
		return problem == "" && err == nil, problem, err
	})
}

// problem is what is missing; a pod that is to be made anew counts.
func (p Peer) problem(ctx context.Context) (string, error) {
	problem, pods, leader, err := p.missing(ctx)
	if problem != "" || err != nil {
		return problem, err
	}
	return p.renew(ctx, pods, leader)
}

// missing is what keeps Patroni from being redundant, with its pods and its leader if nothing does.
func (p Peer) missing(ctx context.Context) (problem string, pods []corev1.Pod, leader string, err error) {
	for _, set := range []string{etcdName, name} {
		if pods, err = peer.Ready(ctx, p.Cluster, p.Namespace, set); err != nil {
			return "", nil, "", err
		}
		if len(pods) != members {
			return fmt.Sprintf("%d of %d pods of %s are ready", len(pods), members, set), nil, "", nil
		}
	}
	status, err := p.cluster(ctx, pods[0].Name)
	if err != nil {
		return "", nil, "", err
	}
	leader = status.leader()
	if problem := status.problem(members, p.Settings.SynchronousMode); problem != "" {
		return problem, nil, "", nil
	}
	server, err := p.server(ctx, leader)
	if err != nil {
		return "", nil, "", err
	}
	return server.problem(members - 1), pods, leader, nil
}

// Target is the leader's server.
func (p Peer) Target(ctx context.Context) (pgbench.Target, error) {
	pod, err := p.primary(ctx)
	return pgbench.Target{Host: pod.Status.PodIP, User: superuser, Database: database}, err
}

// renew deletes a pod whose container was killed before: the kubelet would hold up its next restart for ten seconds and
// more, and Patroni, whose lock nobody gives back meanwhile, would be measured with that. A primary that came back as what it
// was hands over first.
func (p Peer) renew(ctx context.Context, pods []corev1.Pod, leader string) (string, error) {
	for i := range pods {
		pod := pods[i].Name
		switch {
		case !restarted(&pods[i]):
		case pod == leader:
			return pod + " was killed before and is to hand over", p.switchover(ctx, leader)
		default:
			return pod + " was killed before and is made anew", faults.DeletePod(ctx, p.Cluster, p.Namespace, pod)
		}
	}
	return "", nil
}

func restarted(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.RestartCount > 0 })
}
