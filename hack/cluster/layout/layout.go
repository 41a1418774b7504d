// Package layout fixes the cluster's names, addresses and paths, so that no other package invents one.
package layout

import (
	"fmt"
	"path/filepath"
)

// Addresses. The ranges exist only inside the cluster's own network namespaces and on one veth of the host.
const (
	NetworkCIDR  = "10.213.0.0/24"
	HostAddress  = "10.213.0.1"
	PodCIDR      = "10.214.0.0/16"
	ServiceCIDR  = "10.215.0.0/16"
	ServiceOfAPI = "10.215.0.1"
	ServiceOfDNS = "10.215.0.10"

	APIPort       = 6443
	ClusterDomain = "cluster.local"
	ContextName   = "understudy"
)

// Kernel objects. All begin with the project's name, so that what is left behind can be recognised.
const (
	SwitchNamespace = "understudy-switch"
	SwitchBridge    = "switch0"
	HostLink        = "understudy0"
	CgroupParent    = "understudy"
	PauseImage      = "docker.io/understudy/pause:1"
	StorageClass    = "local" // a folder of the node
	DiskClass       = "disk"  // a file system of its own, of the size that was asked for
	Provisioner     = "understudy.dev/local"
)

// Machine is one computer of the cluster: the control plane, or a node.
type Machine struct {
	Name    string
	Address string
	MAC     string
	Zone    string // nodes only
	PodCIDR string // nodes only
	Gateway string // nodes only: the address of pods' default route
}

// Control is the machine that runs etcd, the API server and what belongs to them.
func Control() Machine {
	return Machine{Name: "control", Address: "10.213.0.2", MAC: "02:0d:d5:00:00:02"}
}

// Nodes are the machines that run pods.
func Nodes() []Machine {
	var nodes []Machine
	for i := 1; i <= 3; i++ {
		nodes = append(nodes, Machine{
			Name:    fmt.Sprintf("node-%d", i),
			Address: fmt.Sprintf("10.213.0.%d", 10+i),
			MAC:     fmt.Sprintf("02:0d:d5:00:00:%02x", 10+i),
			Zone:    "zone-" + string(rune('a'+i-1)),
			PodCIDR: fmt.Sprintf("10.214.%d.0/24", i),
			Gateway: fmt.Sprintf("10.214.%d.1", i),
		})
	}
	return nodes
}

// Machines is the control plane followed by the nodes.
func Machines() []Machine {
	return append([]Machine{Control()}, Nodes()...)
}

// Node finds a node by its name.
func Node(name string) (Machine, error) {
	for _, node := range Nodes() {
		if node.Name == name {
			return node, nil
		}
	}
	return Machine{}, fmt.Errorf("node %q does not exist: the nodes are node-1, node-2 and node-3", name)
}

// IsNode tells nodes from the control plane.
func (m Machine) IsNode() bool { return m.PodCIDR != "" }

// Namespace is the name of the machine's network namespace.
func (m Machine) Namespace() string { return "understudy-" + m.Name }

// Link is the name of the machine's end of the cable inside the switch.
func (m Machine) Link() string { return "to-" + m.Name }

// Cgroup is the parent of every container's cgroup on the machine.
func (m Machine) Cgroup() string { return "/" + CgroupParent + "/" + m.Name }

// APIURL is where the API server answers, on the host as on every machine.
func APIURL() string { return fmt.Sprintf("https://%s:%d", Control().Address, APIPort) }

// Folder is the state folder of one cluster. It is absolute.
type Folder string

// Bin has the programs, as links into the cache.
func (f Folder) Bin(name string) string { return filepath.Join(string(f), "bin", name) }

// Images has the images that up loads by itself.
func (f Folder) Images() string { return filepath.Join(string(f), "images") }

// Kubeconfig is the administrator's.
func (f Folder) Kubeconfig() string { return filepath.Join(string(f), "kubeconfig") }

// Audit is the API server's audit log.
func (f Folder) Audit() string { return filepath.Join(string(f), "audit.log") }

// Record is the state file.
func (f Folder) Record() string { return filepath.Join(string(f), "state.json") }

// PKI is a certificate or key.
func (f Folder) PKI(name string) string { return filepath.Join(string(f), "pki", name) }

// Config is a file that a machine's programs read, written before they start.
func (f Folder) Config(machine, name string) string {
	return filepath.Join(string(f), "config", machine, name)
}

// Data is what a machine keeps on its disk: it outlives a power cut.
func (f Folder) Data(machine string, parts ...string) string {
	return filepath.Join(append([]string{string(f), "nodes", machine}, parts...)...)
}

// Disk is where a volume of class disk is mounted on its node, and on no other.
func (f Folder) Disk(machine, volume string) string { return f.Data(machine, "disks", volume) }

// Log is the output of one program.
func (f Folder) Log(machine, program string) string {
	return filepath.Join(string(f), "logs", machine, program+".log")
}

// Made lists what up makes in the folder and down removes: everything but programs and images, which are caches.
func (f Folder) Made() []string {
	var all []string
	for _, name := range []string{"config", "nodes", "logs", "pki", "kubeconfig", "audit.log", "state.json"} {
		all = append(all, filepath.Join(string(f), name))
	}
	return all
}
