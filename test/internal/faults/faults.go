// Package faults breaks things, from the host of the test cluster or, on any other cluster, with the rights of a
// kubeconfig alone.
package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/kube"
)

// Kind is one kind of fault.
type Kind string

// The faults, and the planned changes that are measured like them.
const (
	EngineKill    Kind = "engine-kill"
	ContainerKill Kind = "container-kill"
	PodDelete     Kind = "pod-delete"
	Switchover    Kind = "switchover"
	// Drain empties the primary's node with kubectl drain, Roll changes the template of every member.
	Drain   Kind = "drain"
	Roll    Kind = "roll"
	NodeOff Kind = "node-off"
	// NodeIsolate takes a node's link down while all on it runs on.
	NodeIsolate Kind = "node-isolate"
	// EngineHang stops the engine's process, AgentHang the agent's, as a debugger or a stuck disk would.
	EngineHang Kind = "engine-hang"
	AgentHang  Kind = "agent-hang"
)

// Kinds in the order in which they are reported.
var Kinds = []Kind{EngineKill, ContainerKill, PodDelete, Switchover, Drain, Roll, NodeOff, NodeIsolate, EngineHang, AgentHang}

// Injector makes the faults that need more than the API.
type Injector interface {
	// KillEngine kills the engine's process in a member, and nothing else.
	KillEngine(ctx context.Context, namespace, pod string) error
	// KillContainer kills PID 1 of the engine's container, the agent.
	KillContainer(ctx context.Context, namespace, pod string) error
	// NodeOff cuts a node's power, NodeOn boots it and waits until it is ready.
	NodeOff(ctx context.Context, node string) error
	NodeOn(ctx context.Context, node string) error
	// Isolate takes a node's link down, Rejoin puts it up again.
	Isolate(ctx context.Context, node string) error
	Rejoin(ctx context.Context, node string) error
	// HangEngine and HangAgent stop the processes of one or the other; ResumeAgent lets it go on.
	HangEngine(ctx context.Context, namespace, pod string) error
	HangAgent(ctx context.Context, namespace, pod string) error
	ResumeAgent(ctx context.Context, namespace, pod string) error
	// Firewall replaces what a node refuses for itself and its pods: api, to=PLACE, from=PLACE, reset=PORT. Without rules
	// nothing is refused.
	Firewall(ctx context.Context, node string, rules ...string) error
	// Disk makes a volume hang or go on, fills it or gives the space back, makes it read-only: stall, resume, fill, free, readonly.
	Disk(ctx context.Context, node, volume, change string) error
	// Describe says how, for the report.
	Describe() string
}

// DeletePod deletes a pod with its own grace period, as kubectl delete pod does.
func DeletePod(ctx context.Context, c client.Client, namespace, pod string) error {
	obj := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod}}
	if err := c.Delete(ctx, obj); err != nil {
		return fmt.Errorf("deleting pod %s/%s: %w", namespace, pod, err)
	}
	return nil
}

// Choose takes the test cluster's tool when the kubeconfig is the test cluster's, and exec on any other.
func Choose(c *kube.Cluster, repository, cluster string) (Injector, error) {
	switch cluster {
	case "current":
		return Exec{c}, nil
	case "", "local":
		tool := filepath.Join(repository, ".cluster/bin/cluster")
		if _, err := os.Stat(tool); err != nil {
			return nil, fmt.Errorf("looking for the test cluster's tool: %w: run make cluster-up, "+
				"or use --cluster=current for the cluster of your kubeconfig", err)
		}
		return Host{Tool: tool}, nil
	}
	return nil, fmt.Errorf("--cluster %q is none: use local or current", cluster)
}

// Host makes faults from the host with the test cluster's tool, so that nothing in the pod takes part.
type Host struct {
	Tool string
	// Engine is the name of the engine's first process; empty: redis-server.
	Engine string
}

// Postgres is the name of PostgreSQL's first process.
const Postgres = "postgres"

func (h Host) engine() string {
	if h.Engine != "" {
		return h.Engine
	}
	return "redis-server"
}

// Describe implements Injector.
func (Host) Describe() string { return "SIGKILL from the host" }

// KillEngine implements Injector.
func (h Host) KillEngine(ctx context.Context, namespace, pod string) error {
	return h.signal(ctx, namespace, pod, h.engine(), "KILL")
}

// KillContainer implements Injector.
func (h Host) KillContainer(ctx context.Context, namespace, pod string) error {
	return h.signal(ctx, namespace, pod, firstProcess, "KILL")
}

// firstProcess is what the tool calls PID 1 of a container.
const firstProcess = "pid1"

// HangEngine implements Injector. All processes are stopped: a PostgreSQL whose first one alone hangs goes on serving who
// is connected.
func (h Host) HangEngine(ctx context.Context, namespace, pod string) error {
	return h.signal(ctx, namespace, pod, h.engine(), "STOP", "--all")
}

// HangAgent implements Injector.
func (h Host) HangAgent(ctx context.Context, namespace, pod string) error {
	return h.signal(ctx, namespace, pod, firstProcess, "STOP")
}

// ResumeAgent implements Injector.
func (h Host) ResumeAgent(ctx context.Context, namespace, pod string) error {
	return h.signal(ctx, namespace, pod, firstProcess, "CONT")
}

// Isolate implements Injector.
func (h Host) Isolate(ctx context.Context, node string) error { return h.node(ctx, node, "isolate") }

// Rejoin implements Injector.
func (h Host) Rejoin(ctx context.Context, node string) error { return h.node(ctx, node, "rejoin") }

// Firewall implements Injector.
func (h Host) Firewall(ctx context.Context, node string, rules ...string) error {
	_, err := h.run(ctx, append([]string{"firewall", node}, rules...)...)
	return err
}

// Disk implements Injector.
func (h Host) Disk(ctx context.Context, node, volume, change string) error {
	_, err := h.run(ctx, "disk", node, volume, change)
	return err
}

func (h Host) node(ctx context.Context, node, what string) error {
	_, err := h.run(ctx, "node", node, what)
	return err
}

// NodeOff implements Injector.
func (h Host) NodeOff(ctx context.Context, node string) error {
	return h.node(ctx, node, "off")
}

// NodeOn implements Injector.
func (h Host) NodeOn(ctx context.Context, node string) error {
	return h.node(ctx, node, "on")
}

// Kill kills one process of a container.
func (h Host) Kill(ctx context.Context, namespace, pod, container, process string) error {
	return h.send(ctx, namespace, pod, container, process, "KILL")
}

func (h Host) signal(ctx context.Context, namespace, pod, process, signal string, more ...string) error {
	return h.send(ctx, namespace, pod, names.EngineContainer, process, signal, more...)
}

func (h Host) send(ctx context.Context, namespace, pod, container, process, signal string, more ...string) error {
	args := []string{"kill", "--namespace", namespace, "--pod", pod, "--container", container, "--process", process, "--signal", signal}
	out, err := h.run(ctx, append(args, more...)...)
	if err != nil {
		return err
	}
	var report struct {
		UnixNano int64 `json:"unixNano"`
	}
	if err := json.Unmarshal(out, &report); err != nil || report.UnixNano == 0 {
		return fmt.Errorf("reading what %s kill printed: %q", h.Tool, out)
	}
	return nil
}

func (h Host) run(ctx context.Context, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, h.Tool, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("cluster %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// Exec makes faults with pods/exec: the agent's binary in the container kills what it is told to.
type Exec struct{ Cluster *kube.Cluster }

// Describe implements Injector.
func (Exec) Describe() string { return "SIGKILL by exec in the pod" }

// KillEngine implements Injector.
func (e Exec) KillEngine(ctx context.Context, namespace, pod string) error {
	return e.crash(ctx, namespace, pod, "engine")
}

// KillContainer implements Injector.
func (e Exec) KillContainer(ctx context.Context, namespace, pod string) error {
	return e.crash(ctx, namespace, pod, "agent")
}

func (e Exec) crash(ctx context.Context, namespace, pod, what string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := e.Cluster.Exec(ctx, namespace, pod, names.EngineContainer, names.AgentPath, "crash", what)
	if err != nil && what == "agent" {
		// The command dies with the container it kills, so that its end cannot be told from a failure: whoever
		// waits for the failover sees whether it worked.
		return nil //nolint:nilerr // see above
	}
	return err
}

var errHostOnly = errors.New("this fault can be made on the test cluster only: leave it out, or run make cluster-up")

// NodeOff implements Injector, as what follows does: none of it can be done with a kubeconfig alone.
func (Exec) NodeOff(context.Context, string) error              { return errHostOnly }
func (Exec) NodeOn(context.Context, string) error               { return errHostOnly }
func (Exec) Isolate(context.Context, string) error              { return errHostOnly }
func (Exec) Rejoin(context.Context, string) error               { return errHostOnly }
func (Exec) HangEngine(context.Context, string, string) error   { return errHostOnly }
func (Exec) HangAgent(context.Context, string, string) error    { return errHostOnly }
func (Exec) ResumeAgent(context.Context, string, string) error  { return errHostOnly }
func (Exec) Firewall(context.Context, string, ...string) error  { return errHostOnly }
func (Exec) Disk(context.Context, string, string, string) error { return errHostOnly }
