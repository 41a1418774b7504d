// Package network lays the cables: one network namespace per machine and one for the switch between them. The switch
// is apart from the host, so that no firewall rule of the host sees the cluster's traffic.
package network

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/machine"
)

// EnsureSwitch makes the switch and the host's cable to it.
func EnsureSwitch() error {
	if exists(layout.SwitchNamespace) && linkExists(layout.HostLink) {
		return nil
	}
	if err := refuseOverlap(); err != nil {
		return err
	}
	if err := RemoveSwitch(); err != nil {
		return err
	}
	if err := run("", "netns", "add", layout.SwitchNamespace); err != nil {
		return err
	}
	if err := batch(layout.SwitchNamespace,
		"link set lo up",
		"link add "+layout.SwitchBridge+" type bridge stp_state 0 forward_delay 0",
		"link set "+layout.SwitchBridge+" up",
	); err != nil {
		return err
	}
	commands := []string{
		"link add " + layout.HostLink + " type veth peer name to-host netns " + layout.SwitchNamespace,
		"addr add " + layout.HostAddress + "/24 dev " + layout.HostLink,
		"link set " + layout.HostLink + " up",
	}
	for _, node := range layout.Nodes() {
		commands = append(commands, "route add "+node.PodCIDR+" via "+node.Address+" dev "+layout.HostLink)
	}
	if err := batch("", commands...); err != nil {
		return err
	}
	return batch(layout.SwitchNamespace, "link set to-host master "+layout.SwitchBridge+" up")
}

// Intact says whether a running machine still has its network. One that has not must start anew: its programs sit in
// the old namespace.
func Intact(m layout.Machine, pid int) bool {
	return exists(m.Namespace()) && linkExistsIn(layout.SwitchNamespace, m.Link()) && inside(m.Namespace(), pid)
}

func inside(namespace string, pid int) bool {
	var named, own unix.Stat_t
	if unix.Stat(filepath.Join(machine.NamespaceFolder, namespace), &named) != nil ||
		unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &own) != nil {
		return false
	}
	return named.Ino == own.Ino && named.Dev == own.Dev
}

// PlugIn plugs a machine's cable in.
func PlugIn(m layout.Machine) error {
	return batch(layout.SwitchNamespace, "link set "+m.Link()+" up")
}

// ResetMachine makes the machine's network anew, as a computer that was switched on has it.
func ResetMachine(m layout.Machine) error {
	if err := RemoveMachine(m); err != nil {
		return err
	}
	if err := run("", "netns", "add", m.Namespace()); err != nil {
		return err
	}
	// The hardware address is fixed: after a power cycle the neighbours' tables still fit.
	if err := batch(layout.SwitchNamespace,
		"link add "+m.Link()+" type veth peer name eth0 netns "+m.Namespace(),
		"link set "+m.Link()+" master "+layout.SwitchBridge+" up",
	); err != nil {
		return err
	}
	commands := []string{
		"link set lo up",
		"link set eth0 address " + m.MAC,
		"addr add " + m.Address + "/24 dev eth0",
		"link set eth0 up",
	}
	for _, node := range layout.Nodes() {
		if node.Name != m.Name {
			commands = append(commands, "route add "+node.PodCIDR+" via "+node.Address+" dev eth0")
		}
	}
	if m.IsNode() {
		// kube-proxy rewrites a service's address after the kernel looked for a way to it. There is no default
		// route: nothing else may leave.
		commands = append(commands, "route add "+layout.ServiceCIDR+" dev eth0")
	}
	if err := batch(m.Namespace(), commands...); err != nil {
		return err
	}
	return machine.InNetwork(m.Namespace(), func() error {
		// Read through the calling thread: /proc/sys/net shows the network namespace of whoever opens it.
		for _, path := range []string{"ipv4/ip_forward", "ipv4/conf/all/forwarding"} {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", path), []byte("1"), 0o644); err != nil {
				return fmt.Errorf("letting %s forward packets: %w", m.Name, err)
			}
		}
		return nil
	})
}

// RemoveMachine removes a machine's network.
func RemoveMachine(m layout.Machine) error {
	if linkExistsIn(layout.SwitchNamespace, m.Link()) {
		if err := run(layout.SwitchNamespace, "link", "del", m.Link()); err != nil {
			return err
		}
	}
	return removeNamespace(m.Namespace())
}

// RemoveSwitch removes the switch and the host's cable.
func RemoveSwitch() error {
	if linkExists(layout.HostLink) {
		if err := run("", "link", "del", layout.HostLink); err != nil {
			return err
		}
	}
	if err := removeNamespace(layout.SwitchNamespace); err != nil {
		return err
	}
	return forgetFolder()
}

// forgetFolder undoes what ip did to its folder for the first namespace: it mounts the folder on itself.
func forgetFolder() error {
	entries, err := os.ReadDir(machine.NamespaceFolder)
	if err != nil || len(entries) > 0 {
		return nil // somebody else's namespaces
	}
	for unix.Unmount(machine.NamespaceFolder, 0) == nil {
	}
	if err := os.Remove(machine.NamespaceFolder); err != nil {
		return fmt.Errorf("removing the empty %s: %w", machine.NamespaceFolder, err)
	}
	return nil
}

func removeNamespace(name string) error {
	if !exists(name) {
		return nil
	}
	return run("", "netns", "del", name)
}

// exists says whether the namespace can be entered: after a crash or reboot its file may be left without one.
func exists(namespace string) bool {
	path := filepath.Join(machine.NamespaceFolder, namespace)
	if _, err := os.Stat(path); err != nil {
		return false
	}
	if err := machine.InNetwork(namespace, func() error { return nil }); err != nil {
		_ = os.Remove(path)
		return false
	}
	return true
}

func linkExists(name string) bool { return exec.Command("ip", "link", "show", name).Run() == nil }

func linkExistsIn(namespace, name string) bool {
	return exec.Command("ip", "-n", namespace, "link", "show", name).Run() == nil
}

func run(namespace string, args ...string) error {
	if namespace != "" {
		args = append([]string{"-n", namespace}, args...)
	}
	if output, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("running ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(output))
	}
	return nil
}

func batch(namespace string, lines ...string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-n", namespace}, args...)
	}
	command := exec.Command("ip", args...)
	command.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("running ip in %q with %q: %w: %s", namespace, lines, err, bytes.TrimSpace(output))
	}
	return nil
}
