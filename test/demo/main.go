// Command demo shows on a real cluster what Understudy does: it makes the sample service of an engine, writes to it, breaks it in
// three ways, asks for a switchover, and tells what a client saw. The operator is installed by then: see make demo.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/operator"
	"understudy.dev/understudy/test/internal/rounds"
)

type demo struct {
	*kube.Cluster
	subject

	repository, cluster, namespace string
	runner                         rounds.Runner
}

func main() {
	repository := flag.String("repository", ".", "folder of the repository")
	cluster := flag.String("cluster", "local", "local: the test cluster of make cluster-up; current: whatever KUBECONFIG names")
	image := flag.String("client-image", clients.DefaultImage, "image of the load client; a cluster of your own must be able to pull it")
	engine := flag.String("engine", "redis", "engine to show: redis or postgresql")
	namespace := flag.String("namespace", "default", "namespace to make the service in")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	shown, err := subjectOf(*engine)
	if err == nil {
		err = run(ctx, demo{subject: shown, repository: *repository, cluster: *cluster, namespace: *namespace}, *image)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, d demo, image string) error {
	begun := time.Now()
	c, err := kube.Connect()
	if err != nil {
		return err
	}
	injector, err := faults.Choose(c, d.repository, d.cluster)
	if err != nil {
		return err
	}
	if host, ok := injector.(faults.Host); ok {
		host.Engine = d.process
		injector = host
	}
	d.Cluster = c
	d.runner = rounds.Runner{
		Service: kube.Service{Cluster: c, Namespace: d.namespace, Name: d.service},
		Clients: clients.Set{Cluster: c, Namespace: d.namespace, Image: image}, Injector: injector,
		// Longer than a lease: each act is a fault of its own, not a second one on top of the last.
		Spacing: 3500 * time.Millisecond,
	}
	if err := d.prepare(ctx); err != nil {
		return err
	}
	for i, act := range acts(d.process) {
		if err := d.play(ctx, i+1, act); err != nil {
			return err
		}
	}
	if d.query != "" {
		if err := d.ask(ctx); err != nil {
			return err
		}
	}
	d.say("\nAll together %.0f s. What the cluster tells of it:", time.Since(begun).Seconds())
	if err := d.kubectl(ctx, "get", "replicatedservices,failovers", "-n", d.namespace); err != nil {
		return err
	}
	d.farewell()
	return nil
}

func (demo) say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (d demo) prepare(ctx context.Context) error {
	if err := operator.Ready(ctx, d.Cluster); err != nil {
		return err
	}
	d.say("$ kubectl apply -f %s", d.sample)
	if err := d.apply(ctx); err != nil {
		return err
	}
	made := time.Now()
	// The clients start while the service does.
	ready := make(chan error, 1)
	go func() { ready <- d.runner.Clients.Ensure(ctx) }()
	if err := d.kubectl(ctx, "wait", "rsvc/"+d.service, "-n", d.namespace, "--for=condition=Available", "--timeout=180s"); err != nil {
		return d.explain(ctx, err)
	}
	if err := d.runner.WaitHealthy(ctx, 2*time.Minute); err != nil {
		return d.explain(ctx, err)
	}
	d.say("%.1f s later it is available and redundant:\n", time.Since(made).Seconds())
	if err := d.kubectl(ctx, "get", "rsvc", "-n", d.namespace); err != nil {
		return err
	}
	if err := <-ready; err != nil {
		return err
	}
	address, err := d.runner.Service.Address(ctx)
	if err != nil {
		return err
	}
	d.say("\nA client on another node than the primary now writes one %s each 5 ms to the Service (%s)\nand tries again every %s when a write fails.", d.unit, address, d.retry)
	return nil
}

// apply does what kubectl apply --server-side does.
func (d demo) apply(ctx context.Context) error {
	raw, err := os.ReadFile(filepath.Join(d.repository, d.sample))
	if err != nil {
		return fmt.Errorf("reading the sample: %w", err)
	}
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(raw, &obj.Object); err != nil {
		return fmt.Errorf("reading %s: %w", d.sample, err)
	}
	obj.SetNamespace(d.namespace)
	err = d.Apply(ctx, client.ApplyConfigurationFromUnstructured(obj), client.FieldOwner("understudy-demo"), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("applying %s: %w", d.sample, err)
	}
	return nil
}

// explain adds what the cluster says of the service to an error.
func (d demo) explain(ctx context.Context, err error) error {
	obj, readErr := d.runner.Service.Object(ctx)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	return fmt.Errorf("%w: %s", err, kube.Failing(obj))
}

func (d demo) kubectl(ctx context.Context, args ...string) error {
	program := "kubectl"
	if own := filepath.Join(d.repository, ".cluster/bin/kubectl"); d.cluster != "current" {
		if _, err := os.Stat(own); err == nil {
			program = own
		}
	}
	command := exec.CommandContext(ctx, program, args...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("kubectl %v: %w", args, err)
	}
	return nil
}

func (d demo) farewell() {
	d.say("\nLook at it:")
	if d.cluster != "current" {
		d.say("  export KUBECONFIG=$PWD/.cluster/kubeconfig PATH=$PWD/.cluster/bin:$PATH")
	}
	d.say("  kubectl describe rsvc %s\n  kubectl get fo -o wide\n  kubectl get pods,lease,endpointslices -l ha.understudy.dev/service=%s", d.service, d.service)
	if d.cluster == "current" {
		d.say("Remove it:\n  kubectl delete rsvc/%s deployment/understudy-client\n  helm uninstall understudy -n %s", d.service, operator.Namespace)
		return
	}
	d.say("Break it yourself:\n  cluster kill --namespace %s --pod %s-0 --container engine --process %s", d.namespace, d.service, d.process)
	d.say("Remove it all:\n  make cluster-down")
}
