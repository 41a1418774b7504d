// Package build compiles the programs that the cluster runs and keeps them in a cache that all clones share.
package build

import (
	"os"
	"path/filepath"
)

// Versions of what is built from published modules; the nested modules' go.mod files name the others.
const (
	kubernetes = "v1.37.2"
	etcd       = "v3.6.16"
	coredns    = "v1.15.0"
	containerd = "v2.4.2"
	helm       = "v4.3.1"
)

// component is what one compile makes.
type component struct {
	name    string
	version string
	// module is a folder beside this one with a go.mod of its own; packages are published ones. A component has
	// either.
	module   string
	packages []string
	tags     string
	flags    string // for the linker
	// results are the files it makes, links their other names.
	results []string
	links   map[string]string
	// about tells a waiting person how long the first time takes.
	about string
}

// Envtest names the components that controller-runtime's test environment runs.
var Envtest = []string{"etcd", "kubernetes"}

func components() []component {
	const version, client = "k8s.io/component-base/version", "k8s.io/client-go/pkg/version"
	links := map[string]string{}
	for _, name := range []string{
		"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
	} {
		links[name] = "kubernetes"
	}
	return []component{
		{
			name: "kubernetes", version: kubernetes, module: "kubernetes", results: []string{"kubernetes"}, links: links,
			// Clients read the server's version, and the audit log the clients'; without these all are v0.0.0.
			flags: "-X " + version + ".gitVersion=" + kubernetes + " -X " + version + ".gitMajor=1 -X " + version +
				".gitMinor=37 -X " + version + ".gitTreeState=archive -X " + client + ".gitVersion=" + kubernetes + " -X " + client + ".gitCommit=archive",
			about: "5 to 9 minutes on two cores",
		},
		{name: "etcd", version: etcd, module: "etcd", results: []string{"etcd"}, about: "half a minute"},
		{name: "coredns", version: coredns, module: "coredns", results: []string{"coredns"}, about: "half a minute"},
		{
			name: "containerd", version: containerd, tags: "no_btrfs,no_zfs,no_devmapper",
			packages: []string{
				"github.com/containerd/containerd/v2/cmd/containerd",
				"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
				"github.com/containerd/containerd/v2/cmd/ctr",
			},
			results: []string{"containerd", "containerd-shim-runc-v2", "ctr"},
			about:   "a minute",
		},
		{
			name: "helm", version: helm, packages: []string{"helm.sh/helm/v4/cmd/helm"}, results: []string{"helm"},
			about: "a minute",
		},
	}
}

// Names lists the components.
func Names() []string {
	var names []string
	for _, c := range components() {
		names = append(names, c.name)
	}
	return names
}

// CacheFolder is where programs are kept.
func CacheFolder() (string, error) {
	if base := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "understudy"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".cache", "understudy"), nil
}
