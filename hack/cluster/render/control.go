package render

import (
	"fmt"

	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/machine"
	"understudy.dev/understudy/hack/cluster/pki"
)

// etcd speaks plain HTTP on the loopback of the control plane's network namespace, where nobody else is.
const etcdAddress = "127.0.0.1:2379"

func (b *builder) control() {
	control := layout.Control()
	// Ready, not only listening: the controller manager ends when the rights of its user are not there yet.
	api := layout.APIURL() + "/readyz"
	b.audit()
	b.corefile()
	b.spec(machine.Spec{
		Name: control.Name,
		Programs: []machine.Program{
			b.program(control, "etcd", "", b.etcd()...),
			b.program(control, "kube-apiserver", "tcp:"+etcdAddress, b.apiserver()...),
			b.program(control, "kube-controller-manager", api, b.controllerManager()...),
			b.program(control, "kube-scheduler", api, b.scheduler()...),
			b.program(control, "coredns", api, "-conf", b.in.Folder.Config(control.Name, "Corefile")),
		},
	})
}

func (b *builder) etcd() []string {
	args := []string{
		"--name=understudy",
		"--data-dir=" + b.in.Folder.Data(layout.Control().Name, "etcd"),
		"--listen-client-urls=http://" + etcdAddress,
		"--advertise-client-urls=http://" + etcdAddress,
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=understudy=http://127.0.0.1:2380",
		"--log-level=warn",
	}
	if !b.in.Fsync {
		args = append(args, "--unsafe-no-fsync")
	}
	return args
}

func (b *builder) apiserver() []string {
	folder, control := b.in.Folder, layout.Control()
	return []string{
		"--advertise-address=" + control.Address,
		fmt.Sprintf("--secure-port=%d", layout.APIPort),
		"--etcd-servers=http://" + etcdAddress,
		"--service-cluster-ip-range=" + layout.ServiceCIDR,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--tls-cert-file=" + folder.PKI(pki.APIServer+".crt"),
		"--tls-private-key-file=" + folder.PKI(pki.APIServer+".key"),
		"--client-ca-file=" + folder.PKI(pki.ClusterCA+".crt"),
		"--kubelet-certificate-authority=" + folder.PKI(pki.ClusterCA+".crt"),
		"--kubelet-client-certificate=" + folder.PKI(pki.APIServerKubelet+".crt"),
		"--kubelet-client-key=" + folder.PKI(pki.APIServerKubelet+".key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + folder.PKI(pki.ProxyCA+".crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + folder.PKI(pki.FrontProxy+".crt"),
		"--proxy-client-key-file=" + folder.PKI(pki.FrontProxy+".key"),
		"--service-account-issuer=https://kubernetes.default.svc." + layout.ClusterDomain,
		"--service-account-key-file=" + folder.PKI(pki.ServiceAccountKey+".pub"),
		"--service-account-signing-key-file=" + folder.PKI(pki.ServiceAccountKey+".key"),
		// Webhooks and aggregated APIs are called at their pods' addresses: no kube-proxy runs beside the API server.
		"--enable-aggregator-routing=true",
		"--audit-policy-file=" + folder.Config(control.Name, "audit.yaml"),
		"--audit-log-path=" + folder.Audit(),
		"--audit-log-maxsize=512",
		"--audit-log-maxbackup=1",
	}
}

func (b *builder) controllerManager() []string {
	folder := b.in.Folder
	config := folder.Config(layout.Control().Name, "controller-manager.kubeconfig")
	b.kubeconfig(config, "controller-manager", pki.ControllerManager)
	return []string{
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		"--bind-address=127.0.0.1",
		"--leader-elect=false", // there is one
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + folder.PKI(pki.ServiceAccountKey+".key"),
		"--root-ca-file=" + folder.PKI(pki.ClusterCA+".crt"),
		"--cluster-signing-cert-file=" + folder.PKI(pki.ClusterCA+".crt"),
		"--cluster-signing-key-file=" + folder.PKI(pki.ClusterCA+".key"),
		"--service-cluster-ip-range=" + layout.ServiceCIDR,
	}
}

func (b *builder) scheduler() []string {
	config := b.in.Folder.Config(layout.Control().Name, "scheduler.kubeconfig")
	b.kubeconfig(config, "scheduler", pki.Scheduler)
	return []string{
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		"--bind-address=127.0.0.1",
		"--leader-elect=false", // there is one
	}
}

// audit records who asked for what, which is how a test proves that a healthy service writes nothing.
func (b *builder) audit() {
	b.yaml(b.in.Folder.Config(layout.Control().Name, "audit.yaml"), object{
		"apiVersion": "audit.k8s.io/v1",
		"kind":       "Policy",
		"omitStages": []string{"RequestReceived"},
		"rules":      []object{{"level": "Metadata"}},
	})
}

// corefile answers the cluster's own names and refuses all others at once: there is nobody to ask about them.
func (b *builder) corefile() {
	control := layout.Control()
	config := b.in.Folder.Config(control.Name, "coredns.kubeconfig")
	b.kubeconfig(config, "coredns", pki.DNS)
	b.text(b.in.Folder.Config(control.Name, "Corefile"), fmt.Sprintf(`.:53 {
    bind %s
    errors
    ready 127.0.0.1:8181
    kubernetes %s in-addr.arpa ip6.arpa {
        kubeconfig %s
        pods insecure
        ttl 5
    }
    cache 5
    loadbalance
}
`, control.Address, layout.ClusterDomain, config))
}
