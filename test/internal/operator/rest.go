package operator

import (
	"context"
	"path/filepath"

	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/rest"
)

// RestRule is the rule by which requests for one service are counted on the test cluster.
func RestRule(ctx context.Context, service kube.Service, repository string) (rest.Rule, error) {
	deployment, err := Find(ctx, service.Cluster)
	if err != nil {
		return rest.Rule{}, err
	}
	account := func(namespace, name string) string { return "system:serviceaccount:" + namespace + ":" + name }
	return rest.Rule{
		Log: filepath.Join(repository, ".cluster/audit.log"),
		Users: []string{
			account(service.Namespace, names.AgentServiceAccount(service.Name)),
			account(Namespace, deployment.Spec.Template.Spec.ServiceAccountName),
		},
		Namespaces: []string{service.Namespace, Namespace},
		Namespace:  Namespace, Lease: LeaderElectionLease,
	}, nil
}
