package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy.dev/understudy/hack/cluster/faults"
	"understudy.dev/understudy/hack/cluster/identity"
	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/limits"
	"understudy.dev/understudy/hack/cluster/record"
)

// Load finds the running cluster of a state folder.
func Load(folder layout.Folder) (*record.Record, error) {
	found, err := record.LoadFolder(folder)
	if err != nil {
		return nil, fmt.Errorf("%w: run `cluster up` first, or name another folder with --state", err)
	}
	return found, nil
}

// Running are the nodes' first processes.
func Running(r *record.Record) map[string]identity.Process {
	nodes := map[string]identity.Process{}
	for _, node := range layout.Nodes() {
		if identity.Proc.Alive(r.Machines[node.Name]) {
			nodes[node.Name] = r.Machines[node.Name]
		}
	}
	return nodes
}

// NodeOff cuts a node's power.
func NodeOff(folder layout.Folder, node layout.Machine) (faults.Report, error) {
	r, err := Load(folder)
	if err != nil {
		return faults.Report{}, err
	}
	process := r.Machines[node.Name]
	tree, err := faults.Tree(process)
	if err != nil {
		return faults.Report{}, err
	}
	if len(tree) == 0 {
		return faults.Report{}, fmt.Errorf("%s is off already: switch it on with `cluster node %s on`", node.Name, node.Name)
	}
	report, err := faults.PowerOff(node, process)
	if err != nil {
		return report, err
	}
	r.Off[node.Name] = true
	if err := record.Machine.Save(r); err != nil {
		return report, err
	}
	return report, faults.Gone(tree, killLimit)
}

// NodeOn starts a node as after a power cut: its disk as it was, all else new.
func NodeOn(ctx context.Context, folder layout.Folder, node layout.Machine) error {
	r, err := Load(folder)
	if err != nil {
		return err
	}
	if identity.Proc.Alive(r.Machines[node.Name]) {
		return fmt.Errorf("%s is on already: to plug its cable in, use `cluster node %s rejoin`", node.Name, node.Name)
	}
	found, err := limits.Detect()
	if err != nil {
		return err
	}
	if err := start(r, node, found); err != nil {
		return err
	}
	delete(r.Off, node.Name)
	delete(r.Isolated, node.Name)
	return record.Machine.Save(r)
}

// Cable plugs a node's cable in or out.
func Cable(folder layout.Folder, node layout.Machine, in bool) (faults.Report, error) {
	r, err := Load(folder)
	if err != nil {
		return faults.Report{}, err
	}
	change := faults.Isolate
	if in {
		change = faults.Rejoin
	}
	report, err := change(node)
	if err != nil {
		return report, err
	}
	if in {
		delete(r.Isolated, node.Name)
	} else {
		r.Isolated[node.Name] = true
	}
	return report, record.Machine.Save(r)
}

// LoadImages imports image archives into every node that is on.
func LoadImages(ctx context.Context, folder layout.Folder, progress io.Writer, files ...string) error {
	r, err := Load(folder)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	results := make(chan error, len(layout.Nodes()))
	for name, process := range Running(r) {
		group.Go(func() {
			for _, file := range files {
				if err := importImage(ctx, folder, name, process, file); err != nil {
					results <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(results)
	var all error
	for err := range results {
		all = errors.Join(all, err)
	}
	for name := range r.Off {
		fmt.Fprintf(progress, "%s is off and has not got the images: load them again when it is on\n", name)
	}
	return all
}

func socket(process identity.Process) string {
	return filepath.Join("/proc", strconv.Itoa(process.PID), "root/run/containerd/containerd.sock")
}

func importImage(ctx context.Context, folder layout.Folder, name string, process identity.Process, file string) error {
	output, err := exec.CommandContext(ctx, folder.Bin("ctr"), "-a", socket(process), "-n", "k8s.io",
		"images", "import", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("importing %s into %s: %w: %s", file, name, err, strings.TrimSpace(string(output)))
	}
	return nil
}

// loadPause gives the nodes the one image that no pod starts without.
func (u *upper) loadPause(ctx context.Context) error {
	for _, node := range layout.Nodes() {
		process := u.record.Machines[node.Name]
		for {
			if _, err := os.Stat(socket(process)); err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return u.explain(fmt.Errorf("waiting for containerd of %s: %w", node.Name, ctx.Err()), node.Name)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return LoadImages(ctx, u.Folder, u.Progress, filepath.Join(u.Folder.Images(), "pause.tar"))
}
