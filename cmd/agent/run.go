package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/uuid"

	"understudy.dev/understudy/internal/agent"
	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/guard"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

// memoryLimit makes the collector work harder rather than let the agent grow beyond its share of the engine's container.
const memoryLimit = 24 << 20

// run is PID 1.
func run() error {
	debug.SetMemoryLimit(memoryLimit)
	runtime.GOMAXPROCS(1) // its work is short; more would wake each other at every event and take the processor from the engine
	log := logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, nil))
	if err := checkPlace(); err != nil {
		return err
	}
	host, err := assemble(log)
	if err != nil {
		return err
	}
	term, leave := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		<-term
		close(leave)
	}()
	host.Leave = leave
	nameEnd(log, host.Options.Self)
	log.Info("Agent starts", "run", host.Options.Self.String(), "addresses", host.Options.IPs)
	return host.Run(context.Background())
}

// nameEnd writes this run into the container's termination message, so that whoever reads of the container's end from the
// API server knows whose it is (evidence ContainerTerminated).
func nameEnd(log logr.Logger, run failover.Run) {
	if err := os.WriteFile("/dev/termination-log", []byte(run.String()), 0o644); err != nil {
		log.Info("The end of this container will prove nothing to the operator", "why", err.Error())
	}
}

// checkPlace refuses to run where fencing would not be complete: kill(-1) reaches every process of a PID namespace only
// from its PID 1, and on the host's network the engine's port would not be this pod's alone.
func checkPlace() error {
	if pid := os.Getpid(); pid != 1 {
		return fmt.Errorf("the agent must be PID 1 of the engine's container, it is %d: remove shareProcessNamespace or hostPID from the pod", pid)
	}
	pod, host := os.Getenv("POD_IP"), os.Getenv("HOST_IP")
	if pod != "" && pod == host {
		return fmt.Errorf("the pod's address is its node's (%s): remove hostNetwork from the pod", pod)
	}
	return nil
}

func assemble(log logr.Logger) (agent.Host, error) {
	var o agent.Host
	load := func() (agentconfig.Config, error) { return agentconfig.Load(names.ConfigDir) }
	config, err := load()
	if err != nil {
		return o, err
	}
	member, uid, ips := os.Getenv("POD_NAME"), os.Getenv("POD_UID"), podIPs()
	if member == "" || uid == "" || len(ips) == 0 {
		return o, errors.New("POD_NAME, POD_UID and POD_IP must be set by the downward API")
	}
	ordinal, err := names.Ordinal(member)
	if err != nil {
		return o, err
	}
	identity, err := wire.NewIdentity(names.CertsDir, member)
	if err != nil {
		return o, err
	}
	adapter, err := engineOf(config, member, uid)
	if err != nil {
		return o, err
	}
	kube, err := agent.NewKube(config.Namespace, names.Lease(config.Service))
	if err != nil {
		return o, err
	}
	boot, err := agent.NextBoot(names.StateDir, time.Now())
	if err != nil {
		return o, err
	}
	return agent.Host{
		Options: agent.Options{
			Config: config, LoadConfig: load, Self: failover.Run{Member: member, PodUID: uid, BootID: failover.BootID(boot, uuid.NewString())}, Ordinal: ordinal,
			IPs: ips, Node: os.Getenv("NODE_NAME"), Binary: "/proc/self/exe", Log: log, NewID: uuid.NewString,
			Engine: adapter, Pooler: poolerOf(config), Rooms: roomsOf(config),
		},
		Kube: kube, Identity: identity, StateDir: names.StateDir, DataDir: names.DataDir,
	}, nil
}

func podIPs() []string {
	for _, v := range []string{os.Getenv("POD_IPS"), os.Getenv("POD_IP")} {
		if v != "" {
			return strings.Split(v, ",")
		}
	}
	return nil
}

func runGuard() error { return guard.Main() }
