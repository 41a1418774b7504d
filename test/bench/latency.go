package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"text/tabwriter"
	"time"

	"understudy.dev/understudy/test/internal/byhand"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/pgbench"
	"understudy.dev/understudy/test/internal/stats"
)

// latencyRun is how long each of a pair of runs takes.
const latencyRun = 10 * time.Second

// Latency is how long commits take under the agent, and with the same servers set up by hand, in pairs of runs one after the
// other.
type Latency struct {
	Pairs []LatencyPair `json:"pairs"`
}

// LatencyPair has the mean latency of each run, in milliseconds.
type LatencyPair struct {
	Clients int     `json:"clients"`
	Ours    float64 `json:"oursMilliseconds"`
	ByHand  float64 `json:"byHandMilliseconds"`
}

// commitLatency alternates which of a pair comes first, so that a machine that changes slowly favours neither.
func (o options) commitLatency(ctx context.Context, c *kube.Cluster) (*Latency, error) {
	service := kube.Service{Cluster: c, Namespace: o.namespace, Name: o.name}
	obj, err := service.Object(ctx)
	if err != nil {
		return nil, err
	}
	if obj.Spec.Engine.PostgreSQL == nil {
		return nil, fmt.Errorf("--commit-latency needs a service of PostgreSQL, and %s/%s is none: use --service db", o.namespace, o.name)
	}
	if err := service.WaitHealthy(ctx, 5*time.Minute, false); err != nil {
		return nil, err
	}
	address, primary, err := o.ourTarget(ctx, service)
	if err != nil {
		return nil, err
	}
	other := byhand.Peer{Cluster: c, Namespace: o.namespace, Image: obj.Spec.Template.Image, Service: o.name}
	host, node, err := other.Ensure(ctx)
	if err != nil {
		return nil, err
	}
	set := pgbench.Set{Cluster: c, Namespace: o.namespace, Image: obj.Spec.Template.Image, Service: o.name}
	if err := set.Ensure(ctx); err != nil {
		return nil, err
	}
	pod, err := set.NotOn(ctx, primary, node)
	if err != nil {
		return nil, err
	}
	ours := pgbench.Target{Host: address, User: obj.Spec.Engine.PostgreSQL.Owner, Database: obj.Spec.Engine.PostgreSQL.Database}
	theirs := pgbench.Target{Host: host, User: byhand.Superuser, Database: byhand.Database}
	out, err := o.pairs(ctx, set, pod, ours, theirs)
	return out, errors.Join(err, set.Remove(ctx), other.Remove(ctx))
}

func (o options) ourTarget(ctx context.Context, service kube.Service) (address, node string, err error) {
	primary, err := service.Primary(ctx)
	if err != nil {
		return "", "", err
	}
	hostPort, err := service.Address(ctx)
	if err != nil {
		return "", "", err
	}
	host, _, err := net.SplitHostPort(hostPort)
	return host, primary.Node, err
}

func (o options) pairs(ctx context.Context, set pgbench.Set, pod string, ours, theirs pgbench.Target) (*Latency, error) {
	for _, t := range []pgbench.Target{ours, theirs} {
		if err := set.Prepare(ctx, pod, t, 1); err != nil {
			return nil, err
		}
	}
	out := &Latency{}
	for i := range 2 * o.latencyPairs {
		pair := LatencyPair{Clients: []int{1, 8}[i%2]}
		runs := []struct {
			target pgbench.Target
			into   *float64
		}{{ours, &pair.Ours}, {theirs, &pair.ByHand}}
		if i/2%2 == 1 {
			runs[0], runs[1] = runs[1], runs[0]
		}
		for _, run := range runs {
			var err error
			if *run.into, err = set.Latency(ctx, pod, run.target, pair.Clients, latencyRun); err != nil {
				return out, err
			}
		}
		out.Pairs = append(out.Pairs, pair)
		fmt.Fprintf(os.Stderr, "pair %d/%d, %d clients: %.3f ms under the agent, %.3f ms by hand\n", i/2+1, o.latencyPairs, pair.Clients, pair.Ours, pair.ByHand)
	}
	return out, nil
}

func (l *Latency) print(w io.Writer) {
	fmt.Fprintf(w, "\nA commit that waits for one of two standbys (pgbench -N for %s a run, paired): mean under the agent, and by hand, ms; ratios with their 95 %% interval\n", latencyRun)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLIENTS\tPAIRS\tAGENT P50\tBY HAND P50\tRATIO\tFROM\tTO")
	for _, clients := range []int{1, 8} {
		var ours, theirs, logs []float64
		for _, p := range l.Pairs {
			if p.Clients == clients {
				ours, theirs, logs = append(ours, p.Ours), append(theirs, p.ByHand), append(logs, math.Log(p.Ours/p.ByHand))
			}
		}
		if len(logs) == 0 {
			continue
		}
		mean, half := interval(logs)
		fmt.Fprintf(t, "%d\t%d\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\n", clients, len(logs), stats.Median(ours), stats.Median(theirs),
			math.Exp(mean), math.Exp(mean-half), math.Exp(mean+half))
	}
	_ = t.Flush()
}

// interval is the mean of numbers and half of its 95 % interval, by the normal distribution.
func interval(values []float64) (mean, half float64) {
	n := float64(len(values))
	for _, v := range values {
		mean += v / n
	}
	if n < 2 {
		return mean, math.Inf(1)
	}
	sum := 0.0
	for _, v := range values {
		sum += (v - mean) * (v - mean)
	}
	return mean, 1.96 * math.Sqrt(sum/(n-1)/n)
}
