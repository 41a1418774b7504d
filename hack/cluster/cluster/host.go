package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/limits"
)

// installSelf copies the running tool, because the machines' first processes outlive the folder of `go run`.
func installSelf(path string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if self == path {
		return nil
	}
	data, err := os.ReadFile(self)
	if err != nil {
		return fmt.Errorf("reading this program: %w", err)
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.WriteFile(path+".new", data, 0o755); err != nil {
		return fmt.Errorf("installing this program: %w", err)
	}
	return os.Rename(path+".new", path)
}

// linkedPrograms lists what the programs of a folder are links to: other versions make another cluster.
func linkedPrograms(folder layout.Folder) ([]byte, error) {
	entries, err := os.ReadDir(folder.Bin(""))
	if err != nil {
		return nil, fmt.Errorf("listing the programs: %w", err)
	}
	var lines []string
	for _, entry := range entries {
		if target, err := os.Readlink(folder.Bin(entry.Name())); err == nil && entry.Name() != "helm" {
			lines = append(lines, entry.Name()+" "+target)
		}
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, "\n") + "\n"), nil
}

// kept are settings of the kernel that the kubelets change for the whole host; up remembers and down restores them.
var kept = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// raised are those that three nodes on one kernel need higher than one machine does.
var raised = map[string]int{
	"fs/inotify/max_user_instances": 4096,
	"fs/inotify/max_user_watches":   524288,
}

const sysctl = "/proc/sys"

func (u *upper) settings() error {
	for _, name := range kept {
		u.remember(name)
	}
	for name, wanted := range raised {
		current := u.remember(name)
		if value, err := strconv.Atoi(current); err != nil || value >= wanted {
			continue
		}
		if err := os.WriteFile(filepath.Join(sysctl, name), []byte(strconv.Itoa(wanted)), 0o644); err != nil {
			fmt.Fprintf(u.Progress, "%s stays at %s (%v): containers may fail to start for want of it\n", name, current, err)
		}
	}
	return u.save()
}

// remember reads a setting and keeps its value from before the first up.
func (u *upper) remember(name string) string {
	data, err := os.ReadFile(filepath.Join(sysctl, name))
	if err != nil {
		return ""
	}
	value := strings.TrimSpace(string(data))
	if _, known := u.record.Settings[name]; !known {
		u.record.Settings[name] = value
	}
	return value
}

func restore(settings map[string]string, progress io.Writer) {
	for name, value := range settings {
		path := filepath.Join(sysctl, name)
		if data, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(data)) == value {
			continue
		}
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			fmt.Fprintf(progress, "the kernel setting %s could not be set back to %s: %v\n", name, value, err)
		}
	}
}

// resetCgroups makes the parents of the containers' cgroups, without those of an earlier life.
func resetCgroups(m layout.Machine, found limits.Limits) error {
	if err := removeCgroups(m.Cgroup(), found); err != nil {
		return err
	}
	for _, hierarchy := range found.Hierarchies {
		path := filepath.Join(hierarchy, m.Cgroup())
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("making a cgroup for %s: %w", m.Name, err)
		}
		if found.CgroupV2 {
			if err := delegate(hierarchy, m.Cgroup()); err != nil {
				return err
			}
		} else if err := inheritCPUs(hierarchy, m.Cgroup()); err != nil {
			return err
		}
		if err := weigh(hierarchy); err != nil {
			return err
		}
	}
	return nil
}

// weigh gives the containers of all nodes together the share of busy processors that they have on machines of their own, where a kubelet
// gives all pods 1024 for each processor against the 1024 of all system services together. Here the nodes' own processes are in no cgroup, so each
// of them counts as much as all pods would with the default.
func weigh(hierarchy string) error {
	parent := filepath.Join(hierarchy, layout.CgroupParent)
	nodes, err := filepath.Glob(filepath.Join(parent, "*", "cgroup.procs"))
	if err != nil {
		return err
	}
	factor := runtime.NumCPU() * len(nodes)
	for file, value := range map[string]int{"cpu.shares": min(1024*factor, 1<<18), "cpu.weight": min(100*factor, 10000)} {
		path := filepath.Join(parent, file)
		if _, err := os.Stat(path); err != nil {
			continue // another hierarchy, or the other version
		}
		if err := os.WriteFile(path, []byte(strconv.Itoa(value)), 0o644); err != nil {
			return fmt.Errorf("giving the nodes' containers their share of the processors: %w", err)
		}
	}
	return nil
}

// delegate hands the controllers of a version 2 hierarchy down to a cgroup, which has none by itself.
func delegate(hierarchy, cgroup string) error {
	path := hierarchy
	for _, part := range strings.Split(strings.Trim(cgroup, "/"), "/") {
		data, err := os.ReadFile(filepath.Join(path, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("finding the controllers of cgroup %s: %w", path, err)
		}
		for _, controller := range strings.Fields(string(data)) {
			control := filepath.Join(path, "cgroup.subtree_control")
			if err := os.WriteFile(control, []byte("+"+controller), 0o644); err != nil {
				return fmt.Errorf("handing controller %s down from cgroup %s: %w: processes in that group itself "+
					"forbid it", controller, path, err)
			}
		}
		path = filepath.Join(path, part)
	}
	return nil
}

// inheritCPUs fills in what a version 1 cpuset does not take from its parent by itself and refuses processes without.
func inheritCPUs(hierarchy, cgroup string) error {
	path := hierarchy
	for _, part := range strings.Split(strings.Trim(cgroup, "/"), "/") {
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(path, name))
			if err != nil {
				continue // another hierarchy, or version 2
			}
			if err := os.WriteFile(filepath.Join(path, part, name), value, 0o644); err != nil {
				return fmt.Errorf("giving cgroup %s its processors: %w", cgroup, err)
			}
		}
		path = filepath.Join(path, part)
	}
	return nil
}

// removeCgroups removes a cgroup and those in it from every hierarchy. A cgroup stays busy for a moment after its last
// process died.
func removeCgroups(cgroup string, found limits.Limits) error {
	for _, hierarchy := range found.Hierarchies {
		top := filepath.Join(hierarchy, cgroup)
		var folders []string
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("listing cgroup %s: %w", top, err)
		}
		slices.Reverse(folders)
		for _, folder := range folders {
			if err := removeCgroup(folder); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeCgroup(folder string) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Rmdir(folder)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("removing cgroup %s: %w: see its cgroup.procs for what is still in it", folder, err)
		}
	}
}

// removeMade removes what up made in a state folder.
func removeMade(folder layout.Folder) error {
	if err := unmountAll(string(folder)); err != nil {
		return err
	}
	rotated, err := filepath.Glob(strings.TrimSuffix(folder.Audit(), ".log") + "-*.log")
	if err != nil {
		return fmt.Errorf("listing old audit logs: %w", err)
	}
	for _, path := range append(rotated, folder.Made()...) {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing %s: %w", path, err)
		}
	}
	return nil
}

// unmountAll makes sure that removing a folder does not reach into something mounted there. The nodes' own mounts
// ended with them; this is for what a person mounted.
func unmountAll(folder string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("listing mounts: %w", err)
	}
	var points []string
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], folder+"/") {
			points = append(points, fields[4])
		}
	}
	slices.Reverse(points)
	for _, point := range points {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting %s: %w", point, err)
		}
	}
	return nil
}
