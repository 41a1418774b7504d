package workload

import (
	"encoding/json"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/names"
)

func agentConfig(svc *v1alpha1.ReplicatedService) agentconfig.Config {
	config := agentconfig.Config{Service: svc.Name, Namespace: svc.Namespace, ServiceUID: string(svc.UID)}
	if EngineOf(svc).Name == postgresqlEngine {
		config.PostgreSQL = postgresqlConfig(svc)
	} else {
		config.Redis = redisConfig(svc)
	}
	return config
}

func configText(config agentconfig.Config) string {
	raw, _ := json.MarshalIndent(config, "", "  ") // strings and numbers only: it cannot fail
	return string(raw)
}

// Reloadable is what the members take in without being started again; false: the engine has nothing of the kind.
func Reloadable(svc *v1alpha1.ReplicatedService) (r agentconfig.Reloadable, ok bool) {
	if EngineOf(svc).Name != postgresqlEngine {
		return r, false
	}
	return postgresqlConfig(svc).Reloadable(), true
}

// ConfigMap tells the agents what they take in while they run; nil: nothing.
func ConfigMap(in Input) *corev1.ConfigMap {
	if _, ok := Reloadable(in.Service); !ok {
		return nil
	}
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: in.meta(names.ConfigMap(in.Service.Name), ComponentMember),
		Data:       map[string]string{names.ConfigKey: configText(agentConfig(in.Service))},
	}
}

// ServiceAccount of the agents.
func ServiceAccount(in Input) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: in.meta(names.AgentServiceAccount(in.Service.Name), ComponentMember),
	}
}

// PolicyOf is the name of a service's FailoverPolicy; empty: it names none.
func PolicyOf(svc *v1alpha1.ReplicatedService) string {
	if ref := svc.Spec.FailoverPolicyRef; ref != nil {
		return ref.Name
	}
	return ""
}

// Role lets agents work on the Lease and the slices of their own service, on the turns to fail over that services under one policy take, and on nothing
// else.
func Role(in Input) *rbacv1.Role {
	name := in.Service.Name
	verbs := []string{"get", "list", "watch", "update", "patch"}
	return &rbacv1.Role{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role"},
		ObjectMeta: in.meta(names.AgentServiceAccount(name), ComponentMember),
		Rules: []rbacv1.PolicyRule{
			{
				APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: verbs,
				ResourceNames: []string{names.Lease(name)},
			},
			{
				APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "update"},
				ResourceNames: []string{names.Turns(PolicyOf(in.Service))},
			},
			{
				APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: verbs,
				ResourceNames: []string{names.PrimarySlice(name, "ipv4"), names.PrimarySlice(name, "ipv6")},
			},
			{
				// OpenShift asks for this before pod addresses may be put into a slice.
				APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices/restricted"},
				Verbs: []string{"create"},
			},
		},
	}
}

// RoleBinding gives the Role to the agents.
func RoleBinding(in Input) *rbacv1.RoleBinding {
	name := names.AgentServiceAccount(in.Service.Name)
	return &rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "RoleBinding"},
		ObjectMeta: in.meta(name, ComponentMember),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: in.Service.Namespace}},
	}
}

// ClusterTurnsRole lets agents of any namespace that it is bound to work on the turns to fail over that all services take.
func ClusterTurnsRole(namespace string) *rbacv1.Role {
	return &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: names.ClusterTurns, Labels: sharedLabels()},
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "update"}, ResourceNames: []string{names.ClusterTurns},
		}},
	}
}

// ClusterTurnsBinding gives that Role to one service's agents.
func ClusterTurnsBinding(svc *v1alpha1.ReplicatedService, namespace string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: names.ClusterTurnsBinding(svc.Namespace, svc.Name), Labels: sharedLabels()},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: names.ClusterTurns},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: names.AgentServiceAccount(svc.Name), Namespace: svc.Namespace}},
	}
}

// ClusterTurns is that Lease before anybody takes a turn.
func ClusterTurns(namespace string) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: names.ClusterTurns, Labels: sharedLabels()}}
}

// sharedLabels are those of what belongs to no service.
func sharedLabels() map[string]string {
	return map[string]string{"app.kubernetes.io/managed-by": "understudy", "app.kubernetes.io/part-of": "understudy", "app.kubernetes.io/component": "failover"}
}

// Lease is the register before anything is written into it.
func Lease(svc *v1alpha1.ReplicatedService) *coordinationv1.Lease {
	lease := &coordinationv1.Lease{ObjectMeta: Meta(svc, names.Lease(svc.Name), ComponentPrimary)}
	lease.Finalizers = []string{keys.Finalizer}
	return lease
}

// Secret of a service.
func Secret(svc *v1alpha1.ReplicatedService, name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: Meta(svc, name, ComponentMember),
		Type:       corev1.SecretTypeOpaque,
		Data:       data,
	}
}
