package pki

import "understudy.dev/understudy/hack/cluster/layout"

// Names of certificates that configurations refer to.
const (
	APIServer         = "kube-apiserver"
	APIServerKubelet  = "kube-apiserver-kubelet-client"
	FrontProxy        = "front-proxy-client"
	Admin             = "admin"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Proxy             = "kube-proxy"
	DNS               = "coredns"
	Volumes           = "volumes"
)

// Kubelet is the name of a node's certificate: its identity as a client, and what it serves logs and exec with.
func Kubelet(node string) string { return "kubelet-" + node }

// Users that are not built into Kubernetes; manifests bind roles to them.
const (
	UserAPIServerKubelet = "kube-apiserver-kubelet-client"
	UserDNS              = "understudy:coredns"
	UserVolumes          = "understudy:volumes"
)

// Wanted lists every certificate of the cluster.
func Wanted() []Certificate {
	all := []Certificate{
		{
			Name: APIServer, Authority: ClusterCA, User: "kube-apiserver", Server: true,
			Addresses: []string{layout.Control().Address, layout.ServiceOfAPI, "127.0.0.1"},
			Names: []string{
				"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + layout.ClusterDomain,
			},
		},
		{Name: APIServerKubelet, Authority: ClusterCA, User: UserAPIServerKubelet},
		{Name: FrontProxy, Authority: ProxyCA, User: "front-proxy-client"},
		{Name: Admin, Authority: ClusterCA, User: "kubernetes-admin", Groups: []string{"system:masters"}},
		{Name: ControllerManager, Authority: ClusterCA, User: "system:kube-controller-manager"},
		{Name: Scheduler, Authority: ClusterCA, User: "system:kube-scheduler"},
		{Name: Proxy, Authority: ClusterCA, User: "system:kube-proxy"},
		{Name: DNS, Authority: ClusterCA, User: UserDNS},
		{Name: Volumes, Authority: ClusterCA, User: UserVolumes},
	}
	for _, node := range layout.Nodes() {
		all = append(all, Certificate{
			Name: Kubelet(node.Name), Authority: ClusterCA, User: "system:node:" + node.Name,
			Groups: []string{"system:nodes"}, Server: true,
			Addresses: []string{node.Address, "127.0.0.1"}, Names: []string{node.Name, "localhost"},
		})
	}
	return all
}
