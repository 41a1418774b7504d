// Package cli is the command line.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"understudy.dev/understudy/hack/cluster/layout"
)

// Main runs the command line and returns the exit code.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errSomethingDown) {
			fmt.Fprintln(os.Stderr, "error:", err)
		}
		return 1
	}
	return 0
}

// places are where the tool reads and writes.
type places struct{ state, repository string }

func root() *cobra.Command {
	p := &places{}
	command := &cobra.Command{
		Use:           "cluster",
		Short:         "A real three-node Kubernetes on one Linux machine, and faults for it",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	command.PersistentFlags().StringVar(&p.state, "state", "",
		"folder of the cluster's state (default .cluster in the repository)")
	command.PersistentFlags().StringVar(&p.repository, "repository", "",
		"clone to build programs from (default: the one around the current folder, or around this program)")
	command.AddCommand(
		upCommand(p), downCommand(p), statusCommand(p), buildCommand(p), loadCommand(p), nodeCommand(p), firewallCommand(), strainCommand(), diskCommand(p),
		killCommand(p),
		machineCommand(), volumesCommand(p),
	)
	return command
}

// folder is the state folder, absolute: kubelets and containerd accept nothing else.
func (p *places) folder() (layout.Folder, error) {
	path := p.state
	if path == "" {
		repository, err := p.clone()
		if err != nil {
			return "", fmt.Errorf("%w; or name the state folder with --state", err)
		}
		path = filepath.Join(repository, ".cluster")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("finding the state folder: %w", err)
	}
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	return layout.Folder(path), nil
}

func (p *places) source() (string, error) {
	repository, err := p.clone()
	return filepath.Join(repository, "hack", "cluster"), err
}

// clone finds the repository: the folder above that has this module in it.
func (p *places) clone() (string, error) {
	var starts []string
	if p.repository != "" {
		starts = []string{p.repository}
	} else {
		if folder, err := os.Getwd(); err == nil {
			starts = append(starts, folder)
		}
		if self, err := os.Executable(); err == nil {
			starts = append(starts, filepath.Dir(self))
		}
	}
	for _, start := range starts {
		folder, err := filepath.Abs(start)
		if err != nil {
			continue
		}
		for ; ; folder = filepath.Dir(folder) {
			if _, err := os.Stat(filepath.Join(folder, "hack", "cluster", "go.mod")); err == nil {
				return folder, nil
			}
			if folder == filepath.Dir(folder) {
				break
			}
		}
	}
	return "", fmt.Errorf("no clone of the repository is in or above %q: run inside one or name it with --repository", starts)
}
