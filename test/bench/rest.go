package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/operator"
	"understudy.dev/understudy/test/internal/rest"
)

// Rest is what a service costs while nothing happens.
type Rest struct {
	Requests  rest.Count     `json:"requests"`
	Processes []rest.Process `json:"processes"`
	Layers    []rest.Layer   `json:"layers,omitempty"`
}

func (o options) atRest(ctx context.Context, c *kube.Cluster) (*Rest, error) {
	if o.cluster != "local" {
		return nil, errors.New("--rest reads the API server's audit log and /proc, and needs --cluster=local")
	}
	service := kube.Service{Cluster: c, Namespace: o.namespace, Name: o.name}
	if err := service.WaitHealthy(ctx, 5*time.Minute, false); err != nil {
		return nil, err
	}
	if err := service.WaitEvictable(ctx, time.Minute); err != nil { // the last write after all is well
		return nil, err
	}
	rule, err := operator.RestRule(ctx, service, o.repository)
	if err != nil {
		return nil, err
	}
	var out Rest
	if out.Requests, err = rule.Watch(ctx, time.Duration(o.restSeconds)*time.Second); err != nil {
		return nil, err
	}
	if out.Processes, err = rest.Processes("manager", "understudy-agent"); err != nil {
		return nil, err
	}
	archive := filepath.Join(o.repository, ".cluster/images/understudy.tar")
	if out.Layers, err = rest.Layers(archive); err != nil {
		return nil, err
	}
	return &out, nil
}

func (r *Rest) print(w io.Writer) {
	fmt.Fprintf(w, "\nAt rest for %.0f s: %d requests to the API server by agents and operator (besides %d watches and %d of the "+
		"operator's leader election)\n", r.Requests.Seconds, len(r.Requests.Requests), r.Requests.Watches, r.Requests.LeaderElection)
	for _, request := range r.Requests.Requests {
		fmt.Fprintln(w, "  "+request.String())
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nRESIDENT MiB\tANONYMOUS MiB\tPROCESS")
	for _, p := range r.Processes {
		fmt.Fprintf(t, "%.1f\t%.1f\t%s\n", float64(p.ResidentKiB)/1024, float64(p.AnonymousKiB)/1024, p.Command)
	}
	_ = t.Flush()
	for i, layer := range r.Layers {
		fmt.Fprintf(w, "layer %d of the image: %.1f MiB\n", i+1, float64(layer.Bytes)/(1<<20))
	}
}
