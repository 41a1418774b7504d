package faults

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"understudy.dev/understudy/hack/cluster/identity"
)

// Container is one running container, found on the host without asking anybody.
type Container struct {
	Node, ID, Name, Namespace, Pod, UID string
}

// bundles is where containerd keeps what it told runc, seen through the node's own /run.
func bundles(machine identity.Process) string {
	return filepath.Join("/proc", strconv.Itoa(machine.PID), "root/run/containerd/io.containerd.runtime.v2.task/k8s.io")
}

// FindContainer looks on every node for a container of a pod. Without a container name the pod must have exactly one.
func FindContainer(nodes map[string]identity.Process, namespace, pod, name string) (Container, error) {
	var found []Container
	for node, machine := range nodes {
		if !identity.Proc.Alive(machine) {
			continue
		}
		folder := bundles(machine)
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue // no container ran here yet
		}
		for _, entry := range entries {
			container, ok := readBundle(filepath.Join(folder, entry.Name(), "config.json"))
			if !ok || container.Namespace != namespace || container.Pod != pod || (name != "" && container.Name != name) {
				continue
			}
			container.Node, container.ID = node, entry.Name()
			found = append(found, container)
		}
	}
	switch len(found) {
	case 0:
		return Container{}, fmt.Errorf("no container %q of pod %s/%s runs on a node that is on: "+
			"see `kubectl get pod -n %s %s`", name, namespace, pod, namespace, pod)
	case 1:
		return found[0], nil
	}
	var names []string
	for _, container := range found {
		names = append(names, container.Name+" on "+container.Node)
	}
	return Container{}, fmt.Errorf("pod %s/%s has %d containers that fit (%s): name one with --container",
		namespace, pod, len(found), strings.Join(names, ", "))
}

func readBundle(path string) (Container, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Container{}, false
	}
	return parseBundle(data)
}

func parseBundle(data []byte) (Container, bool) {
	var config struct {
		Annotations map[string]string `json:"annotations"`
	}
	if json.Unmarshal(data, &config) != nil || config.Annotations["io.kubernetes.cri.container-type"] != "container" {
		return Container{}, false // a sandbox
	}
	return Container{
		Name:      config.Annotations["io.kubernetes.cri.container-name"],
		Namespace: config.Annotations["io.kubernetes.cri.sandbox-namespace"],
		Pod:       config.Annotations["io.kubernetes.cri.sandbox-name"],
		UID:       config.Annotations["io.kubernetes.cri.sandbox-uid"],
	}, true
}

// FirstProcess is the name that selects the container's PID 1.
const FirstProcess = "pid1"

// FindProcesses finds the processes of a container by the base name of their program, or its PID 1. Several of one name (a
// PostgreSQL server and its backends) are in the order of their age: the first is the one that started the others.
func FindProcesses(container Container, name string) ([]identity.Process, error) {
	pids, err := identity.Proc.PIDs()
	if err != nil {
		return nil, err
	}
	var all []identity.Process
	var seen []string
	for _, pid := range pids {
		if !inCgroupOf(pid, container.ID) {
			continue
		}
		process, err := identity.Proc.Of(pid)
		if err != nil {
			continue // it ended meanwhile
		}
		program, command := programNames(pid)
		seen = append(seen, program)
		switch {
		case name == FirstProcess && innermost(pid) == 1:
			return []identity.Process{process}, nil
		case name != FirstProcess && (program == name || command == name):
			all = append(all, process)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("container %s of pod %s/%s has no process %q: it has %s",
			container.Name, container.Namespace, container.Pod, name, strings.Join(seen, ", "))
	}
	slices.SortFunc(all, byAge)
	return all, nil
}

// byAge puts the oldest first.
func byAge(a, b identity.Process) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
}

// programNames are the executable's name and the one that the process gives itself: scripts and links differ.
func programNames(pid int) (executable, command string) {
	if path, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe")); err == nil {
		executable = strings.TrimSuffix(filepath.Base(path), " (deleted)")
	}
	if stat, err := identity.Proc.Stat(pid); err == nil {
		command = stat.Command
	}
	return executable, command
}
