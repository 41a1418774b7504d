package sentinel

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/load"
	"understudy.dev/understudy/test/internal/resp"
	"understudy.dev/understudy/test/internal/rounds"
)

// Peer is the comparison's set of pods.
type Peer struct {
	Cluster   *kube.Cluster
	Namespace string
	Image     string
	Settings  Settings
}

func itoa(n int) string { return strconv.Itoa(n) }

// Ensure makes the servers and then the sentinels.
func (p Peer) Ensure(ctx context.Context) error {
	if err := p.Remove(ctx); err != nil {
		return err
	}
	for _, obj := range []client.Object{service(p.Namespace, name), service(p.Namespace, sentinelsName), redisSet(p.Namespace, p.Image)} {
		if err := p.Cluster.Create(ctx, obj); err != nil {
			return fmt.Errorf("making the servers to compare with: %w", err)
		}
	}
	var first string
	err := kube.Until(ctx, 2*time.Minute, "the servers to compare with to run", func(ctx context.Context) (bool, string, error) {
		pods, err := p.pods(ctx, name)
		for _, pod := range pods {
			if pod.Name == name+"-0" {
				first = pod.Status.PodIP
			}
		}
		return len(pods) == members, fmt.Sprintf("%d of %d run", len(pods), members), err
	})
	if err != nil {
		return err
	}
	if err := p.Cluster.Create(ctx, sentinelSet(p.Namespace, p.Image, first, p.Settings)); err != nil {
		return fmt.Errorf("making the sentinels: %w", err)
	}
	return p.WaitHealthy(ctx)
}

// Remove deletes all and waits until it is gone.
func (p Peer) Remove(ctx context.Context) error {
	objects := []client.Object{
		sentinelSet(p.Namespace, p.Image, "", p.Settings), redisSet(p.Namespace, p.Image),
		service(p.Namespace, name), service(p.Namespace, sentinelsName),
	}
	for _, obj := range objects {
		err := p.Cluster.Delete(ctx, obj, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("removing what was compared with: %w", err)
		}
	}
	return kube.Until(ctx, time.Minute, "the pods compared with to go", func(ctx context.Context) (bool, string, error) {
		n := 0
		for _, label := range []string{name, name + "-sentinels"} {
			var pods corev1.PodList
			if err := p.list(ctx, &pods, label); err != nil {
				return false, "", err
			}
			n += len(pods.Items)
		}
		return n == 0, fmt.Sprintf("%d are left", n), nil
	})
}

func (p Peer) list(ctx context.Context, pods *corev1.PodList, of string) error {
	return p.Cluster.List(ctx, pods, client.InNamespace(p.Namespace), client.MatchingLabels{label: of})
}

func (p Peer) pods(ctx context.Context, of string) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := p.list(ctx, &pods, of); err != nil {
		return nil, fmt.Errorf("listing the pods compared with: %w", err)
	}
	var running []corev1.Pod
	for i := range pods.Items {
		if kube.PodReady(&pods.Items[i]) {
			running = append(running, pods.Items[i])
		}
	}
	return running, nil
}

// WaitHealthy waits until every sentinel sees one primary with two replicas and two other sentinels.
func (p Peer) WaitHealthy(ctx context.Context) error {
	return kube.UntilEvery(ctx, 3*time.Minute, 100*time.Millisecond, "the sentinels to be content", func(ctx context.Context) (bool, string, error) {
		pods, err := p.pods(ctx, sentinelsName)
		if err != nil || len(pods) != members {
			return false, fmt.Sprintf("%d of %d sentinels run", len(pods), members), err
		}
		var primary string
		for i := range pods {
			state, err := p.ask(ctx, pods[i].Name)
			if err != nil {
				return false, "", err
			}
			if state["flags"] != "master" || state["num-slaves"] != "2" || state["num-other-sentinels"] != "2" ||
				(primary != "" && state["ip"] != primary) {
				return false, fmt.Sprintf("%s sees %v", pods[i].Name, state), nil
			}
			primary = state["ip"]
		}
		return p.replicated(ctx, primary)
	})
}

// ask reads what one sentinel knows of the primary.
func (p Peer) ask(ctx context.Context, pod string) (map[string]string, error) {
	reply, err := p.do(ctx, pod, 26379, "SENTINEL", "MASTER", master)
	if err != nil {
		return nil, err
	}
	fields, _ := reply.([]any)
	state := map[string]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		key, _ := fields[i].(string)
		value, _ := fields[i+1].(string)
		state[key] = value
	}
	return map[string]string{
		"ip": state["ip"], "flags": state["flags"],
		"num-slaves": state["num-slaves"], "num-other-sentinels": state["num-other-sentinels"],
	}, nil
}

// Set sets a key at whoever the first sentinel takes for the primary.
func (p Peer) Set(ctx context.Context, key, value string) error {
	state, err := p.ask(ctx, sentinelsName+"-0")
	if err != nil {
		return err
	}
	pod, err := p.server(ctx, state["ip"])
	if err != nil {
		return err
	}
	_, err = p.do(ctx, pod.Name, 6379, "SET", key, value)
	return err
}

func (p Peer) replicated(ctx context.Context, address string) (bool, string, error) {
	pod, err := p.server(ctx, address)
	if err != nil {
		return false, "", err
	}
	reply, err := p.do(ctx, pod.Name, 6379, "INFO", "replication")
	text, _ := reply.(string)
	online := strings.Count(text, "state=online")
	return online == members-1 && strings.Contains(text, "role:master"), fmt.Sprintf("%d replicas follow %s", online, pod.Name), err
}

func (p Peer) do(ctx context.Context, pod string, port int, command ...string) (any, error) {
	address, stop, err := p.Cluster.Forward(ctx, p.Namespace, pod, port)
	if err != nil {
		return nil, err
	}
	defer stop()
	conn, err := resp.Dial(ctx, address, 2*time.Second, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", pod, err)
	}
	defer conn.Close()
	return conn.Do(command...)
}

func (p Peer) server(ctx context.Context, address string) (corev1.Pod, error) {
	pods, err := p.pods(ctx, name)
	if err != nil {
		return corev1.Pod{}, err
	}
	for _, pod := range pods {
		if pod.Status.PodIP == address {
			return pod, nil
		}
	}
	return corev1.Pod{}, fmt.Errorf("no server has the address %s that the sentinels name", address)
}

// Round kills the primary's process once. The client asks the sentinels before each connection and tries as often as
// it does with Understudy, which is more often than a client library would.
func (p Peer) Round(ctx context.Context, set clients.Set, host faults.Host, id string) (rounds.Record, error) {
	record := rounds.Record{Fault: faults.EngineKill}
	err := p.round(ctx, set, host, id, &record)
	if err != nil {
		record.Error = err.Error()
	}
	return record, err
}

func (p Peer) round(ctx context.Context, set clients.Set, host faults.Host, id string, record *rounds.Record) error {
	if err := p.WaitHealthy(ctx); err != nil {
		return err
	}
	config := load.Config{Master: master}
	sentinels, err := p.pods(ctx, sentinelsName)
	if err != nil {
		return err
	}
	for _, pod := range sentinels {
		config.Sentinels = append(config.Sentinels, net.JoinHostPort(pod.Status.PodIP, sentinelPort))
	}
	asked := sentinels[0].Name
	state, err := p.ask(ctx, asked)
	if err != nil {
		return err
	}
	old, err := p.server(ctx, state["ip"])
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
		Config: config, Within: time.Minute,
		Inject: func(ctx context.Context) error {
			return host.Kill(ctx, p.Namespace, old.Name, redisName, "redis-server")
		},
		// The load itself says when it is over: asking the sentinels too would take part in what is measured.
		Over: func(ctx context.Context) error {
			return kube.Until(ctx, time.Minute, "writes to be acknowledged again", func(ctx context.Context) (bool, string, error) {
				p, err := c.Progress(ctx, id)
				return p.Gaps > 0 && p.SinceLastMicroseconds < 100_000, p.LastFailure, err
			})
		},
	})
	if now, askErr := p.ask(ctx, asked); askErr == nil {
		if pod, err := p.server(ctx, now["ip"]); err == nil {
			record.To, record.ToNode = pod.Name, pod.Spec.NodeName
		}
	}
	return err
}
