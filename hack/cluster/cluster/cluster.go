// Package cluster brings the cluster up and down.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"understudy.dev/understudy/hack/cluster/build"
	"understudy.dev/understudy/hack/cluster/debian"
	"understudy.dev/understudy/hack/cluster/identity"
	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/limits"
	"understudy.dev/understudy/hack/cluster/pki"
	"understudy.dev/understudy/hack/cluster/record"
	"understudy.dev/understudy/hack/cluster/render"
)

// Options of Up.
type Options struct {
	Folder   layout.Folder
	Source   string // hack/cluster of a clone
	Progress io.Writer
	// Replace takes down another clone's cluster first.
	Replace bool
	// Fsync is off only for experiments: without it a cluster that lost power may have lost what it promised.
	Fsync bool
}

// Up makes the cluster run as it should, whatever state it is in.
func Up(ctx context.Context, o Options) error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster needs network namespaces, mounts and cgroups of its own: run as root")
	}
	programs, err := debian.Ensure(o.Progress)
	if err != nil {
		return err
	}
	if err := Programs(o); err != nil {
		return err
	}
	unlock, err := record.Machine.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	found, err := limits.Detect()
	if err != nil {
		return err
	}
	files, err := render.All(render.Input{
		Folder: o.Folder, Limits: found, Fsync: o.Fsync, Runc: programs.Runc, Plugins: programs.Plugins,
	})
	if err != nil {
		return err
	}
	linked, err := linkedPrograms(o.Folder)
	if err != nil {
		return err
	}
	files[o.Folder.Config("control", "programs")] = linked

	current, err := o.current(files.Fingerprint())
	if err != nil {
		return err
	}
	up := &upper{Options: o, limits: found, files: files, record: current}
	if current == nil {
		return up.fresh(ctx)
	}
	repairErr := up.run(ctx)
	if repairErr == nil || ctx.Err() != nil {
		return repairErr
	}
	fmt.Fprintf(o.Progress, "the cluster that was there cannot be repaired (%v): building it anew\n", repairErr)
	if err := remove(up.record, found, o.Progress); err != nil {
		return err
	}
	return up.fresh(ctx)
}

// Programs builds or links what a cluster runs.
func Programs(o Options) error {
	builder, err := o.builder()
	if err != nil {
		return err
	}
	if err := builder.Ensure(o.Folder.Bin("")); err != nil {
		return err
	}
	if err := builder.Pause(o.Folder.Images()); err != nil {
		return err
	}
	return installSelf(o.Folder.Bin("cluster"))
}

func (o Options) builder() (*build.Builder, error) {
	cache, err := build.CacheFolder()
	if err != nil {
		return nil, fmt.Errorf("finding the folder for the cache: %w: set XDG_CACHE_HOME", err)
	}
	return &build.Builder{Source: o.Source, Cache: cache, Progress: o.Progress}, nil
}

// current finds the cluster that this machine has. It returns nil when a fresh one is to be made.
func (o Options) current(fingerprint string) (*record.Record, error) {
	found, err := record.Machine.Load()
	if errors.Is(err, fs.ErrNotExist) {
		found, err = record.LoadFolder(o.Folder)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	lims, err := limits.Detect()
	if err != nil {
		return nil, err
	}
	if found.Folder != o.Folder {
		if alive(found) && !o.Replace {
			return nil, fmt.Errorf("this machine already runs a cluster, whose state is in %s: "+
				"take it down with `cluster down --state %s`, or let `cluster up --replace` do it",
				found.Folder, found.Folder)
		}
		fmt.Fprintf(o.Progress, "taking down the cluster of %s\n", found.Folder)
		return nil, remove(found, lims, o.Progress)
	}
	if found.Fingerprint != fingerprint {
		fmt.Fprintln(o.Progress, "the running cluster was made from other programs or settings: building it anew")
		return nil, remove(found, lims, o.Progress)
	}
	return found, nil
}

func alive(r *record.Record) bool {
	for _, process := range r.Machines {
		if identity.Proc.Alive(process) {
			return true
		}
	}
	return false
}

// upper holds what the steps of Up share.
type upper struct {
	Options
	limits limits.Limits
	files  render.Files
	record *record.Record
}

func (u *upper) fresh(ctx context.Context) error {
	// What a state folder without a record may still hold would mix with the new cluster.
	if err := removeMade(u.Folder); err != nil {
		return err
	}
	u.record = &record.Record{
		Folder:      u.Folder,
		Fingerprint: u.files.Fingerprint(),
		Machines:    map[string]identity.Process{},
		Off:         map[string]bool{},
		Isolated:    map[string]bool{},
		Settings:    map[string]string{},
	}
	return u.run(ctx)
}

func (u *upper) save() error { return record.Machine.Save(u.record) }

func (u *upper) certificates() error { return pki.Ensure(u.Folder.PKI(""), pki.Wanted()) }
