package kube

import (
	"context"
	"net/http"

	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/pki"
)

type object = map[string]any

type addon struct {
	path string // of the collection
	name string
	body object
}

// Addons puts into a fresh API server what every cluster has: names, a place for volumes, and the rights of the
// programs that the tool itself starts.
func Addons(ctx context.Context, client *Client) error {
	for _, addon := range addons() {
		addon.body["metadata"] = metadata(addon)
		path := addon.path + "/" + addon.name + "?fieldManager=understudy-cluster&force=true"
		if err := client.Do(ctx, http.MethodPatch, path, Apply, addon.body, nil); err != nil {
			return err
		}
	}
	return nil
}

func metadata(a addon) object {
	meta, _ := a.body["metadata"].(object)
	if meta == nil {
		meta = object{}
	}
	meta["name"] = a.name
	return meta
}

func addons() []addon {
	all := []addon{storageClass(layout.StorageClass, "true"), storageClass(layout.DiskClass, "false")}
	all = append(all, dns()...)
	all = append(all, role(pki.UserDNS,
		rule([]string{""}, []string{"services", "pods", "namespaces"}, "list", "watch"),
		rule([]string{"discovery.k8s.io"}, []string{"endpointslices"}, "list", "watch"))...)
	all = append(all, role(pki.UserVolumes,
		rule([]string{""}, []string{"persistentvolumes"}, "get", "list", "watch", "create", "delete"),
		rule([]string{""}, []string{"persistentvolumeclaims"}, "get", "list", "watch"))...)
	return append(all, binding(pki.UserAPIServerKubelet, "system:kubelet-api-admin"))
}

func storageClass(name, isDefault string) addon {
	return addon{"/apis/storage.k8s.io/v1/storageclasses", name, object{
		"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
		"metadata":    object{"annotations": object{"storageclass.kubernetes.io/is-default-class": isDefault}},
		"provisioner": layout.Provisioner, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
	}}
}

// dns gives CoreDNS, which runs beside the API server and not in a pod, the address that pods expect: names must
// resolve while a node is off, or every measurement of a failover would be one of DNS.
func dns() []addon {
	const service, slices = "/api/v1/namespaces/kube-system/services", "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"
	port := func(name, protocol string) object { return object{"name": name, "port": 53, "protocol": protocol} }
	return []addon{
		{service, "kube-dns", object{
			"apiVersion": "v1", "kind": "Service",
			"metadata": object{"labels": object{"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}},
			"spec": object{
				"clusterIP": layout.ServiceOfDNS,
				"ports":     []object{port("dns", "UDP"), port("dns-tcp", "TCP")},
			},
		}},
		{slices, "kube-dns", object{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
			"metadata":    object{"labels": object{"kubernetes.io/service-name": "kube-dns"}},
			"addressType": "IPv4",
			"endpoints":   []object{{"addresses": []string{layout.Control().Address}, "conditions": object{"ready": true}}},
			"ports":       []object{port("dns", "UDP"), port("dns-tcp", "TCP")},
		}},
	}
}

func rule(groups, resources []string, verbs ...string) object {
	return object{"apiGroups": groups, "resources": resources, "verbs": verbs}
}

func role(user string, rules ...object) []addon {
	return []addon{
		{"/apis/rbac.authorization.k8s.io/v1/clusterroles", user, object{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": rules,
		}},
		binding(user, user),
	}
}

func binding(user, role string) addon {
	return addon{"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", user, object{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
		"subjects": []object{{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}},
	}}
}
