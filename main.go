// Command understudy is the operator: it builds what a ReplicatedService declares, keeps it so, and tells what it sees.
package main

import (
	"flag"
	"fmt"
	"os"

	"k8s.io/klog/v2/textlogger"
	ctrl "sigs.k8s.io/controller-runtime"

	"understudy.dev/understudy/controllers"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "understudy:", err)
		os.Exit(1)
	}
}

func run() error {
	var c controllers.Config
	flag.StringVar(&c.AgentImage, "agent-image", os.Getenv("AGENT_IMAGE"), "image the members' agent is copied from; also AGENT_IMAGE")
	flag.StringVar(&c.MetricsAddress, "metrics-bind-address", ":8080", "address of the metrics; 0 for none")
	flag.StringVar(&c.HealthAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	flag.BoolVar(&c.LeaderElection, "leader-elect", true, "let only one of several operators act")
	flag.StringVar(&c.ElectionNamespace, "leader-election-namespace", os.Getenv("POD_NAMESPACE"), "namespace of the leader election's Lease; also POD_NAMESPACE")
	flag.IntVar(&c.MaxConcurrentFailovers, "max-concurrent-failovers", 0, "how many services of the whole cluster may fail over at once, besides what each FailoverPolicy says; "+
		"0 for no such limit. They count themselves in a Lease in the namespace of the leader election")
	logging := textlogger.NewConfig()
	logging.AddFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(textlogger.NewLogger(logging))
	if c.AgentImage == "" {
		return fmt.Errorf("--agent-image must name the image with /understudy-agent: members cannot start without it")
	}
	if c.MaxConcurrentFailovers < 0 || (c.MaxConcurrentFailovers > 0 && c.ElectionNamespace == "") {
		return fmt.Errorf("--max-concurrent-failovers is %d: it must be 0 or more, and needs --leader-election-namespace", c.MaxConcurrentFailovers)
	}
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	return controllers.Run(ctrl.SetupSignalHandler(), cfg, c)
}
