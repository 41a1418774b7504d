// Command bench measures on a real cluster what a client sees of each fault: the outage of its writes, and which
// acknowledged writes were lost. test/client says what an outage is.
//
//	go run ./test/bench --rounds 50 --sentinel --json bench.json
//	go run ./test/bench --service db --rounds 50 --patroni
//	go run ./test/bench --fill 100 --rounds 5
//	go run ./test/bench --operator-off --faults engine-kill,container-kill
//	go run ./test/bench --service db --faults engine-kill --load-clients 8
//	go run ./test/bench --service db --commit-latency 20
//	go run ./test/bench --rest
//	go run ./test/bench --strain 1h
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/patroni"
)

type options struct {
	rounds, killRounds, nodeRounds, plannedRounds int
	kinds                                         []faults.Kind
	name, namespace, image                        string
	json, cluster, repository                     string
	operatorOff, rest                             bool
	restSeconds, loadClients                      int
	fillMiB                                       int
	latencyPairs                                  int
	spacing                                       time.Duration
	strain, strainDelay                           time.Duration
	sentinel                                      bool
	sentinelRounds, patroniRounds                 int
	sentinelImage, patroniImage                   string
	patroni, patroniStrict                        bool
	patroniKinds                                  []faults.Kind
}

func main() {
	o, err := parse()
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = o.run(ctx)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	var o options
	var list, patroniList string
	flag.IntVar(&o.rounds, "rounds", 50, "rounds of each fault")
	flag.IntVar(&o.killRounds, "kill-rounds", 0, "rounds of engine-kill; 0: as many as of each fault")
	flag.IntVar(&o.nodeRounds, "node-rounds", 5, "rounds of node-off, each of which boots a node again")
	flag.IntVar(&o.plannedRounds, "planned-rounds", 10, "rounds of drain and of roll, each of which takes half a minute or more")
	flag.StringVar(&list, "faults", "engine-kill,container-kill,pod-delete,switchover,drain,roll,node-off", "faults to measure, empty for none")
	flag.StringVar(&o.name, "service", "cache", "the ReplicatedService; config/samples/redis.yaml makes this one")
	flag.StringVar(&o.namespace, "namespace", "default", "its namespace")
	flag.StringVar(&o.image, "client-image", clients.DefaultImage, "image of the load client")
	flag.StringVar(&o.json, "json", "", "file to write everything measured to")
	flag.StringVar(&o.cluster, "cluster", "local", "local: the test cluster of make cluster-up; current: whatever KUBECONFIG names, without node-off")
	flag.StringVar(&o.repository, "repository", ".", "folder of the repository, with .cluster in it")
	flag.BoolVar(&o.operatorOff, "operator-off", false, "scale the operator to zero for the faults, and back afterwards")
	flag.BoolVar(&o.sentinel, "sentinel", false, "run engine-kill against Redis Sentinel too, to compare with")
	flag.IntVar(&o.sentinelRounds, "sentinel-rounds", 10, "rounds against Redis Sentinel")
	flag.StringVar(&o.sentinelImage, "sentinel-image", "docker.io/library/redis:7.0", "image with redis-server and redis-sentinel")
	flag.BoolVar(&o.patroni, "patroni", false, "run faults against Patroni too, to compare with; make images-load-peer loads its image")
	flag.IntVar(&o.patroniRounds, "patroni-rounds", 10, "rounds of each fault against Patroni; of node-off at most --node-rounds")
	flag.StringVar(&patroniList, "patroni-faults", joined(patroni.Faults), "faults to measure against Patroni")
	flag.StringVar(&o.patroniImage, "patroni-image", "docker.io/understudy/patroni:3", "image with patroni, postgres and etcd")
	flag.BoolVar(&o.patroniStrict, "patroni-strict", true, "synchronous_mode_strict: without it a new primary answers before any replica follows it")
	flag.IntVar(&o.loadClients, "load-clients", 0, "clients of pgbench that keep a service of PostgreSQL busy during the rounds")
	flag.IntVar(&o.fillMiB, "fill", 0, "MiB of data that the service is filled with before the rounds")
	flag.IntVar(&o.latencyPairs, "commit-latency", 0, "instead of faults, compare how long commits take with the same servers set up by hand, in so many pairs of runs")
	flag.BoolVar(&o.rest, "rest", false, "measure a service at rest instead: requests to the API server, memory, image layers")
	flag.IntVar(&o.restSeconds, "rest-seconds", 60, "how long to watch a service at rest")
	flag.DurationVar(&o.strain, "strain", 0, "instead of faults, keep every core busy and the nodes far apart for so long, and count the failovers that nothing but that caused")
	flag.DurationVar(&o.strainDelay, "strain-delay", 50*time.Millisecond, "added to what one node sends another, each way")
	flag.DurationVar(&o.spacing, "spacing", 4*time.Second, "how long a primary must have held its epoch before the next fault; longer than a lease, or faults pile up")
	flag.Parse()
	var err error
	if o.kinds, err = kindsOf("--faults", list, faults.Kinds); err != nil {
		return o, err
	}
	if o.patroniKinds, err = kindsOf("--patroni-faults", patroniList, patroni.Faults); err != nil {
		return o, err
	}
	if o.cluster == "current" {
		o.kinds = slices.DeleteFunc(o.kinds, func(k faults.Kind) bool { return k == faults.NodeOff })
	}
	return o, nil
}

// kindsOf reads a list of faults, each of which must be one of these.
func kindsOf(name, list string, these []faults.Kind) ([]faults.Kind, error) {
	var kinds []faults.Kind
	for kind := range strings.SplitSeq(list, ",") {
		switch {
		case kind == "":
		case !slices.Contains(these, faults.Kind(kind)):
			return nil, fmt.Errorf("%s: %q is none: use %v", name, kind, these)
		default:
			kinds = append(kinds, faults.Kind(kind))
		}
	}
	return kinds, nil
}

func joined(kinds []faults.Kind) string {
	var names []string
	for _, kind := range kinds {
		names = append(names, string(kind))
	}
	return strings.Join(names, ",")
}

func (o options) run(ctx context.Context) error {
	c, err := kube.Connect()
	if err != nil {
		return err
	}
	injector, err := faults.Choose(c, o.repository, o.cluster)
	if err != nil {
		return err
	}
	report := Report{Environment: environment(ctx, c, injector)}
	if o.rest {
		report.Rest, err = o.atRest(ctx, c)
		if err != nil {
			return err
		}
		return o.finish(report)
	}
	if o.latencyPairs > 0 {
		var problem error
		if report.Latency, problem = o.commitLatency(ctx, c); report.Latency == nil {
			return problem
		}
		return errors.Join(o.finish(report), problem)
	}
	set := clients.Set{Cluster: c, Namespace: o.namespace, Image: o.image}
	if err := set.Ensure(ctx); err != nil {
		return err
	}
	if o.strain > 0 {
		report.Strain, err = o.underStrain(ctx, c, set, injector)
		if report.Strain == nil {
			return err
		}
		if err == nil && len(report.Strain.Changes) > 0 {
			err = fmt.Errorf("%d failovers without a fault: see kubectl get fo", len(report.Strain.Changes))
		}
		return errors.Join(o.finish(report), err)
	}
	// What was measured is printed even when something stops the rest.
	problem := o.measure(ctx, c, set, injector, &report)
	if err := o.finish(report); err != nil {
		return err
	}
	if problem == nil && report.failed() > 0 {
		problem = fmt.Errorf("%d rounds failed: see their errors above, and describe rsvc/%s", report.failed(), o.name)
	}
	return problem
}

func (o options) measure(ctx context.Context, c *kube.Cluster, set clients.Set, injector faults.Injector, report *Report) error {
	run := &series{options: o, cluster: c, set: set, injector: injector, report: report, id: time.Now().UTC().Format("150405")}
	var problems []error
	if len(o.kinds) > 0 {
		problems = append(problems, run.service(ctx))
	}
	problems = append(problems, run.peers(ctx))
	return errors.Join(problems...)
}

func (o options) finish(report Report) error {
	report.print(os.Stdout)
	if o.json == "" {
		return nil
	}
	raw, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.json, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the measurements: %w", err)
	}
	return nil
}
