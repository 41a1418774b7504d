package render

import (
	"encoding/json"
	"fmt"

	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/machine"
	"understudy.dev/understudy/hack/cluster/pki"
)

// ContainerdSocket is the path inside a node; every node has a /run of its own.
const ContainerdSocket = "/run/containerd/containerd.sock"

// folders keep their usual paths inside a node, where programs expect them, and live in the state folder.
var folders = map[string]string{
	"kubelet":    "/var/lib/kubelet",
	"containerd": "/var/lib/containerd",
	"pod-logs":   "/var/log/pods",
	"links":      "/var/log/containers",
}

func (b *builder) node(node layout.Machine) {
	spec := machine.Spec{Name: node.Name}
	for _, name := range []string{"kubelet", "containerd", "pod-logs", "links"} {
		spec.Binds = append(spec.Binds, machine.Bind{
			From: b.in.Folder.Data(node.Name, name), To: folders[name],
		})
	}
	spec.Programs = []machine.Program{
		b.program(node, "containerd", "", "--config", b.containerd(node)),
		b.program(node, "kubelet", "unix:"+ContainerdSocket, b.kubelet(node)...),
		b.program(node, "kube-proxy", fmt.Sprintf("tcp:%s:%d", layout.Control().Address, layout.APIPort),
			"--config="+b.proxy(node)),
		b.volumes(node),
	}
	b.cni(node)
	b.spec(spec)
}

func (b *builder) containerd(node layout.Machine) string {
	path := b.in.Folder.Config(node.Name, "containerd.toml")
	b.text(path, fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = %q

[plugins.'io.containerd.internal.v1.opt']
path = "/run/containerd/opt"

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = %q

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = %t

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [%q]
conf_dir = %q

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = %q
SystemdCgroup = false
`, ContainerdSocket, layout.PauseImage, !b.in.Limits.LowerOOMScore, b.in.Plugins,
		b.in.Folder.Config(node.Name, "cni"), b.in.Runc))
	return path
}

// cni gives each pod a cable of its own instead of a place on a bridge. On a bridge the answer of a pod on the same
// node would go back past the node's address translation, and the client would not recognise it.
func (b *builder) cni(node layout.Machine) {
	data, err := json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       "pods",
		"plugins": []object{{
			"type": "ptp",
			"ipam": object{
				"type": "host-local",
				// In /run: a node that lost power comes back with no pod and all addresses free.
				"dataDir": "/run/cni-addresses",
				"ranges":  [][]object{{{"subnet": node.PodCIDR, "gateway": node.Gateway}}},
				"routes":  []object{{"dst": "0.0.0.0/0"}},
			},
		}},
	}, "", "  ")
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("rendering the network of %s: %w", node.Name, err)
	}
	b.files[b.in.Folder.Config(node.Name, "cni/pods.conflist")] = data
}

func (b *builder) kubelet(node layout.Machine) []string {
	folder := b.in.Folder
	config := folder.Config(node.Name, "kubelet.kubeconfig")
	b.kubeconfig(config, node.Name, pki.Kubelet(node.Name))
	b.text(folder.Config(node.Name, "resolv.conf"), "nameserver "+layout.Control().Address+"\n")
	settings := object{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"address":                  node.Address,
		"authentication":           object{"x509": object{"clientCAFile": folder.PKI(pki.ClusterCA + ".crt")}},
		"tlsCertFile":              folder.PKI(pki.Kubelet(node.Name) + ".crt"),
		"tlsPrivateKeyFile":        folder.PKI(pki.Kubelet(node.Name) + ".key"),
		"clusterDNS":               []string{layout.ServiceOfDNS},
		"clusterDomain":            layout.ClusterDomain,
		"resolvConf":               folder.Config(node.Name, "resolv.conf"),
		"containerRuntimeEndpoint": "unix://" + ContainerdSocket,
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               node.Cgroup(),
		// Groups per pod below one per node: without them every node's containers would share the same parent.
		"cgroupsPerQOS": true,
		// The machine's memory is not divided among the nodes; limits are the pods' own.
		"enforceNodeAllocatable": []string{},
		"failSwapOn":             false,
		// No registry can bring back an image that was cleaned away to make room.
		"imageGCHighThresholdPercent": 100,
		// Each node sees the memory and the disk of the whole machine: pods would be evicted for what is not theirs.
		"evictionHard":                  object{"memory.available": "0%"},
		"localStorageCapacityIsolation": false,
		"makeIPTablesUtilChains":        false,
	}
	if !b.in.Limits.CgroupV2 {
		settings["failCgroupV1"] = false
	}
	if !b.in.Limits.LowerOOMScore {
		settings["oomScoreAdj"] = 0
	}
	b.yaml(folder.Config(node.Name, "kubelet.yaml"), settings)
	return []string{
		"--config=" + folder.Config(node.Name, "kubelet.yaml"),
		"--kubeconfig=" + config,
		"--hostname-override=" + node.Name,
		"--node-ip=" + node.Address,
		"--node-labels=topology.kubernetes.io/zone=" + node.Zone + ",topology.kubernetes.io/region=local",
	}
}

// volumes starts without waiting for the API server: what is on disks must be mounted before pods start again.
func (b *builder) volumes(node layout.Machine) machine.Program {
	program := b.program(node, "volumes", "")
	program.Args = []string{b.in.Folder.Bin("cluster"), "volumes", node.Name, "--state", string(b.in.Folder)}
	return program
}

func (b *builder) proxy(node layout.Machine) string {
	folder := b.in.Folder
	config := folder.Config(node.Name, "proxy.kubeconfig")
	b.kubeconfig(config, "proxy", pki.Proxy)
	path := folder.Config(node.Name, "proxy.yaml")
	b.yaml(path, object{
		"apiVersion":       "kubeproxy.config.k8s.io/v1alpha1",
		"kind":             "KubeProxyConfiguration",
		"mode":             "nftables",
		"clusterCIDR":      layout.PodCIDR,
		"hostnameOverride": node.Name,
		"clientConnection": object{"kubeconfig": config},
		// The table of connections belongs to the whole kernel: a node's network namespace may not size it.
		"conntrack": object{
			"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
			"udpTimeout": "0s", "udpStreamTimeout": "0s",
		},
	})
	return path
}
