package faults

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Kubectl is the program as a person runs it: the test cluster's own one, or whatever is in PATH.
type Kubectl struct{ Path string }

// KubectlIn is the test cluster's where the repository has one.
func KubectlIn(repository string) Kubectl {
	own, err := filepath.Abs(filepath.Join(repository, ".cluster/bin/kubectl"))
	if err == nil {
		if _, err = os.Stat(own); err == nil {
			return Kubectl{own}
		}
	}
	return Kubectl{"kubectl"}
}

// drainWithin is how long a drain may take: it waits for the members it meets to have ended.
const drainWithin = 2 * time.Minute

// Drain empties a node as the documentation of drains says, and returns what kubectl said.
func (k Kubectl) Drain(ctx context.Context, node string) (string, error) {
	begun := time.Now()
	out, err := k.run(ctx, drainWithin+10*time.Second, "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout="+drainWithin.String())
	if err != nil {
		return out, fmt.Errorf("kubectl drain %s after %s: %w: %s", node, time.Since(begun).Round(time.Millisecond), err, out)
	}
	return out, nil
}

// Uncordon opens a node again.
func (k Kubectl) Uncordon(ctx context.Context, node string) error {
	if out, err := k.run(ctx, 30*time.Second, "uncordon", node); err != nil {
		return fmt.Errorf("kubectl uncordon %s: %w: %s", node, err, out)
	}
	return nil
}

func (k Kubectl) run(ctx context.Context, within time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	out, err := exec.CommandContext(ctx, k.Path, args...).CombinedOutput()
	return string(out), err
}
