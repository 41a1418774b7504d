// Package faults breaks the cluster from outside, as hardware and the kernel do: nothing inside is asked for help. It
// needs no API server and imports nothing heavy, so that a test can take the time of a fault exactly.
package faults

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"understudy.dev/understudy/hack/cluster/identity"
)

// Process is one process as the host sees it.
type Process struct {
	identity.Process
	Parent  int
	Command string // the base name of the program
}

// Tree lists a process and all its descendants. Every process of a machine is one of its first process's, because
// orphans are handed to that one.
func Tree(root identity.Process) ([]Process, error) {
	if !identity.Proc.Alive(root) {
		return nil, nil
	}
	pids, err := identity.Proc.PIDs()
	if err != nil {
		return nil, err
	}
	children := map[int][]Process{}
	for _, pid := range pids {
		stat, err := identity.Proc.Stat(pid)
		if err != nil {
			continue // it ended meanwhile
		}
		child := Process{identity.Process{PID: pid, Start: stat.Start, Boot: root.Boot}, stat.Parent, stat.Command}
		children[stat.Parent] = append(children[stat.Parent], child)
	}
	tree := []Process{{Process: root, Command: "machine"}}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i].PID]...)
	}
	return tree, nil
}

// Programs finds the processes that the first process itself started, by the base name of their first argument, which
// the kernel does not cut off as it does their short name.
func Programs(root identity.Process) (map[string]identity.Process, error) {
	tree, err := Tree(root)
	if err != nil {
		return nil, err
	}
	found := map[string]identity.Process{}
	for _, process := range tree {
		if process.Parent == root.PID {
			found[argument(process.PID)] = process.Process
		}
	}
	return found, nil
}

func argument(pid int) string {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return ""
	}
	args := strings.Split(string(data), "\x00")
	// The volume provider is a command of this tool.
	if len(args) > 1 && filepath.Base(args[0]) == "cluster" {
		return args[1]
	}
	return filepath.Base(args[0])
}

// innermost is the process's pid in its own process namespace.
func innermost(pid int) int {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	return parseInnermost(string(data))
}

func parseInnermost(status string) int {
	for _, line := range strings.Split(status, "\n") {
		if text, found := strings.CutPrefix(line, "NSpid:"); found {
			fields := strings.Fields(text)
			if len(fields) == 0 {
				return 0
			}
			pid, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil {
				return 0
			}
			return pid
		}
	}
	return 0
}

// inCgroupOf says whether a process belongs to a container: containerd names the container's cgroup after it, in every
// version of cgroups.
func inCgroupOf(pid int, container string) bool {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	return err == nil && matchCgroup(string(data), container)
}

func matchCgroup(cgroups, container string) bool {
	for _, line := range strings.Split(cgroups, "\n") {
		_, path, _ := strings.Cut(strings.TrimSpace(line), ":/")
		for _, part := range strings.Split(path, "/") {
			if part == container || strings.HasSuffix(part, "-"+container+".scope") {
				return true
			}
		}
	}
	return false
}
