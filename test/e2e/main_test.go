//go:build e2e

// Package e2e tests Understudy on a real cluster with several nodes: go test -tags e2e ./test/e2e/... with KUBECONFIG set
// and the operator installed (make test-e2e does both). It is one package, since what the tests break is shared: a node
// that is off, an operator that is scaled to zero and a service at rest each need that nothing else goes on. The tests of
// TestServices have namespaces of their own and run side by side.
//
// E2E_CLUSTER=current makes faults with the rights of the kubeconfig alone and skips what needs the test cluster's host.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/operator"
)

const (
	repository = "../.."
	image      = "docker.io/library/redis:7.0"
)

var (
	cluster  *kube.Cluster
	injector faults.Injector
	local    bool
)

func TestMain(m *testing.M) {
	if err := setup(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func setup(ctx context.Context) (err error) {
	if cluster, err = kube.Connect(); err != nil {
		return err
	}
	local = os.Getenv("E2E_CLUSTER") != "current"
	if injector, err = faults.Choose(cluster, repository, os.Getenv("E2E_CLUSTER")); err != nil {
		return err
	}
	return operator.Ready(ctx, cluster)
}

func needHost(t *testing.T) {
	t.Helper()
	if !local {
		t.Skip("needs the host of the test cluster")
	}
}

// kubectl runs the program that users run, and returns all it printed.
func kubectl(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	// Not the test's own context: what a failed test leaves is looked at when that has ended.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, faults.KubectlIn(repository).Path, args...)
	command.Stdin = strings.NewReader(stdin)
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running kubectl %v: %v", args, err)
	}
	return string(out), err
}

func loadClients(namespace string) clients.Set {
	return clients.Set{Cluster: cluster, Namespace: namespace, Image: clients.DefaultImage}
}
