package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"understudy.dev/understudy/hack/cluster/faults"
	"understudy.dev/understudy/hack/cluster/identity"
	"understudy.dev/understudy/hack/cluster/kube"
	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/limits"
	"understudy.dev/understudy/hack/cluster/machine"
	"understudy.dev/understudy/hack/cluster/network"
	"understudy.dev/understudy/hack/cluster/pki"
	"understudy.dev/understudy/hack/cluster/record"
	"understudy.dev/understudy/hack/cluster/render"
)

const startLimit = 3 * time.Minute

// run brings every part into its place. Each step leaves alone what is already there.
func (u *upper) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := u.save(); err != nil {
		return err
	}
	u.record.Off, u.record.Isolated = map[string]bool{}, map[string]bool{}
	for _, step := range []func() error{
		u.certificates, u.write, u.folders, u.settings, network.EnsureSwitch, u.machines, u.save,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	client, err := kube.New(u.Folder, pki.ClusterCA, pki.Admin)
	if err != nil {
		return err
	}
	var imported error
	var importing sync.WaitGroup
	importing.Go(func() { imported = u.loadPause(ctx) })
	if err := waitForAPI(ctx, client); err != nil {
		return u.explain(err, layout.Control().Name)
	}
	fmt.Fprintln(u.Progress, "the API server answers")
	if err := kube.Addons(ctx, client); err != nil {
		return fmt.Errorf("setting up the cluster's own objects: %w", err)
	}
	importing.Wait()
	if imported != nil {
		return imported
	}
	for _, node := range layout.Nodes() {
		if err := waitForNode(ctx, client, node.Name, time.Time{}); err != nil {
			return u.explain(err, node.Name)
		}
		fmt.Fprintf(u.Progress, "%s is ready\n", node.Name)
	}
	return u.waitForAll(ctx)
}

// waitForAll waits for what Kubernetes does not know of, such as kube-proxy.
func (u *upper) waitForAll(ctx context.Context) error {
	for {
		rows, err := Status(ctx, u.Folder)
		if err != nil {
			return err
		}
		broken := slices.IndexFunc(rows, func(row Row) bool { return !row.Healthy })
		if broken < 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			row := rows[broken]
			return u.explain(fmt.Errorf("waiting for %s of %s, which is %s: %w", row.Component, row.Node, row.State,
				ctx.Err()), row.Node)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// explain points at the logs of a machine that did not come up.
func (u *upper) explain(err error, name string) error {
	return fmt.Errorf("%w: see the logs in %s", err, filepath.Dir(u.Folder.Log(name, "x")))
}

// write leaves alone what is right already: kube-proxy ends when its file is written, whatever is in it.
func (u *upper) write() error {
	for path, data := range u.files {
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("making the folder of %s: %w", path, err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return nil
}

// folders makes what is bound into the nodes, and where: a mount point must exist on the host too.
func (u *upper) folders() error {
	for _, m := range layout.Machines() {
		if err := os.MkdirAll(u.Folder.Data(m.Name), 0o755); err != nil {
			return fmt.Errorf("making the disk of %s: %w", m.Name, err)
		}
		spec, err := machine.ReadSpec(u.Folder.Config(m.Name, render.SpecName))
		if err != nil {
			return err
		}
		for _, bind := range spec.Binds {
			if err := os.MkdirAll(bind.From, 0o755); err != nil {
				return fmt.Errorf("making the disk of %s: %w", m.Name, err)
			}
			if _, err := os.Stat(bind.To); err == nil {
				continue
			}
			if err := os.MkdirAll(bind.To, 0o755); err != nil {
				return fmt.Errorf("making a mount point for %s: %w", m.Name, err)
			}
			u.record.Folders = append(u.record.Folders, bind.To)
		}
	}
	return u.save()
}

// machines starts those that do not run.
func (u *upper) machines() error {
	if err := killStrays(u.record); err != nil {
		return err
	}
	for _, m := range layout.Machines() {
		if process := u.record.Machines[m.Name]; identity.Proc.Alive(process) {
			if network.Intact(m, process.PID) {
				if err := network.PlugIn(m); err != nil {
					return err
				}
				if _, err := faults.Firewall(m); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(u.Progress, "%s lost its network: starting it anew\n", m.Name)
			if err := kill(process); err != nil {
				return fmt.Errorf("stopping %s: %w", m.Name, err)
			}
		}
		fmt.Fprintf(u.Progress, "starting %s\n", m.Name)
		if err := start(u.record, m, u.limits); err != nil {
			return err
		}
		if err := u.save(); err != nil {
			return err
		}
	}
	return nil
}

// waitForAPI waits until the API server has done what it does at its start.
func waitForAPI(ctx context.Context, client *kube.Client) error {
	var last error
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, last = client.Get(attempt, "/readyz")
		cancel()
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the API server: %w: the last answer was: %w", ctx.Err(), last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// start powers a machine up with a network as a fresh boot has it.
func start(r *record.Record, m layout.Machine, lims limits.Limits) error {
	if err := network.ResetMachine(m); err != nil {
		return err
	}
	if m.IsNode() {
		if err := resetCgroups(m, lims); err != nil {
			return err
		}
	}
	process, err := machine.Start(r.Folder.Bin("cluster"), r.Folder.Config(m.Name, render.SpecName), m.Namespace(),
		r.Folder.Log(m.Name, "machine"))
	if err != nil {
		return err
	}
	r.Machines[m.Name] = process
	return nil
}
