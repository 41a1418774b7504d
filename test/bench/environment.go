package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/patroni"
	"understudy.dev/understudy/test/internal/sentinel"
)

// Environment is what a figure means nothing without.
type Environment struct {
	Date       time.Time          `json:"date"`
	Command    string             `json:"command"`
	Kernel     string             `json:"kernel"`
	Cores      int                `json:"cores"`
	Kubernetes string             `json:"kubernetes"`
	Nodes      int                `json:"nodes"`
	Faults     string             `json:"faults"`
	Sentinel   *sentinel.Settings `json:"sentinel,omitempty"`
	Patroni    *patroni.Settings  `json:"patroni,omitempty"`
}

func environment(ctx context.Context, c *kube.Cluster, injector faults.Injector) Environment {
	e := Environment{
		Date: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Faults: injector.Describe(),
		// The program's path and the files it writes are this machine's affair.
		Command: "bench " + strings.Join(os.Args[1:], " "),
	}
	if raw, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		e.Kernel = strings.TrimSpace(string(raw))
	}
	if version, err := c.Core.Discovery().ServerVersion(); err == nil {
		e.Kubernetes = version.GitVersion
	}
	var nodes corev1.NodeList
	if err := c.List(ctx, &nodes); err == nil {
		e.Nodes = len(nodes.Items)
	}
	return e
}

func (e Environment) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d nodes on %d cores, Linux %s, Kubernetes %s, faults: %s\n%s\n",
		e.Date.Format(time.RFC3339), e.Nodes, e.Cores, e.Kernel, e.Kubernetes, e.Faults, e.Command)
	if s := e.Sentinel; s != nil {
		fmt.Fprintf(w, "redis sentinel: down-after-milliseconds %d, failover-timeout %d, quorum %d, 3 sentinels; its client asks "+
			"a sentinel before each connection\n", s.DownAfterMilliseconds, s.FailoverTimeoutMilliseconds, s.Quorum)
	}
	if s := e.Patroni; s != nil {
		fmt.Fprintf(w, "patroni: %s, 3 etcd that do not wait for their disks; its client tries the three servers' own addresses in turn\n", s)
	}
}
