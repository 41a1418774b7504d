package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/hack/cluster/faults"
	"understudy.dev/understudy/hack/cluster/identity"
	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/limits"
	"understudy.dev/understudy/hack/cluster/network"
	"understudy.dev/understudy/hack/cluster/record"
)

// Down removes a cluster and all it made.
func Down(folder layout.Folder, progress io.Writer) error {
	unlock, err := record.Machine.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	found, err := record.Machine.Load()
	if errors.Is(err, fs.ErrNotExist) {
		found, err = record.LoadFolder(folder)
	}
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(progress, "no cluster runs on this machine\n")
		found, err = &record.Record{Folder: folder}, nil // sweep anyway: a crash may have left something
	}
	if err != nil {
		return err
	}
	if found.Folder != folder {
		return fmt.Errorf("the cluster of this machine has its state in %s: take it down with "+
			"`cluster down --state %s`", found.Folder, found.Folder)
	}
	lims, err := limits.Detect()
	if err != nil {
		return err
	}
	return remove(found, lims, progress)
}

// remove takes a cluster apart in the reverse order of its making. The record goes last, so that a failure on the way
// can be repeated.
func remove(r *record.Record, lims limits.Limits, progress io.Writer) error {
	for _, m := range layout.Machines() {
		if err := kill(r.Machines[m.Name]); err != nil {
			return fmt.Errorf("stopping %s: %w", m.Name, err)
		}
	}
	if err := killStrays(&record.Record{Folder: r.Folder}); err != nil {
		return err
	}
	for _, m := range layout.Machines() {
		if err := network.RemoveMachine(m); err != nil {
			return err
		}
	}
	if err := network.RemoveSwitch(); err != nil {
		return err
	}
	if err := removeCgroups("/"+layout.CgroupParent, lims); err != nil {
		return err
	}
	restore(r.Settings, progress)
	for _, path := range r.Folders {
		// Only empty ones: something else may use the folder by now.
		_ = os.Remove(path)
	}
	if err := removeMade(r.Folder); err != nil {
		return err
	}
	return record.Machine.Remove()
}

const killLimit = 20 * time.Second

// kill kills a machine by its first process and waits until the last one is gone.
func kill(process identity.Process) error {
	tree, err := faults.Tree(process)
	if err != nil {
		return err
	}
	if err := identity.Proc.Signal(process, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) &&
		!errors.Is(err, unix.EINVAL) { // EINVAL: pid 0, never started
		return err
	}
	return faults.Gone(tree, killLimit)
}

// killStrays kills machines that were started but not recorded, because the command was killed in between. They are
// known by their command line and by a network namespace of ours, which nobody else is in by chance.
func killStrays(r *record.Record) error {
	recorded := map[int]bool{}
	for _, process := range r.Machines {
		recorded[process.PID] = true
	}
	ours := map[uint64]bool{}
	for _, m := range layout.Machines() {
		if inode, err := namespaceInode(filepath.Join("/run/netns", m.Namespace())); err == nil {
			ours[inode] = true
		}
	}
	pids, err := identity.Proc.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		folder := filepath.Join("/proc", strconv.Itoa(pid))
		inode, err := namespaceInode(filepath.Join(folder, "ns/net"))
		if err != nil || !ours[inode] || recorded[pid] || !isMachine(folder) {
			continue
		}
		process, err := identity.Proc.Of(pid)
		if err != nil {
			continue // it ended meanwhile
		}
		if err := kill(process); err != nil {
			return fmt.Errorf("stopping process %d of an earlier run: %w", pid, err)
		}
	}
	return nil
}

func namespaceInode(path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, err
	}
	return stat.Ino, nil
}

func isMachine(folder string) bool {
	data, err := os.ReadFile(filepath.Join(folder, "cmdline"))
	args := strings.Split(string(data), "\x00")
	return err == nil && len(args) > 2 && filepath.Base(args[0]) == "cluster" && args[1] == "machine"
}
