//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"understudy.dev/understudy/api/v1alpha1"
	naming "understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/rounds"
)

const postgresImage = "docker.io/library/postgres:15"

// postgresql is a service of three members in which a commit waits for one replica.
func postgresql(t *testing.T, namespace string, change func(*v1alpha1.ReplicatedService)) fixture {
	t.Helper()
	policy := shortLease(t, namespace)
	storage := &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi"), Retention: v1alpha1.DeleteVolumes}
	if local {
		storage.StorageClassName = ptr.To("disk") // for faults of one disk alone
	}
	obj := &v1alpha1.ReplicatedService{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "db"},
		Spec: v1alpha1.ReplicatedServiceSpec{
			Replicas:          ptr.To[int32](3),
			Engine:            v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{}},
			Replication:       &v1alpha1.ReplicationSpec{Mode: v1alpha1.Synchronous, Synchronous: &v1alpha1.SynchronousSpec{Quorum: 1}},
			Storage:           storage,
			FailoverPolicyRef: &v1alpha1.LocalReference{Name: policy.Name},
			Template: v1alpha1.MemberTemplate{Image: postgresImage, Resources: &corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse("96Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
			}},
		},
	}
	if change != nil {
		change(obj)
	}
	if err := cluster.Create(t.Context(), obj); err != nil {
		t.Fatalf("making service %s/%s: %v", namespace, obj.Name, err)
	}
	f := fixture{namespace: namespace, Runner: rounds.Runner{
		Kubectl: faults.KubectlIn(repository),
		Service: kube.Service{Cluster: cluster, Namespace: namespace, Name: obj.Name}, Clients: loadClients(namespace), Injector: injector,
	}}
	if host, ok := injector.(faults.Host); ok {
		host.Engine = faults.Postgres
		f.Injector = host
	}
	return f
}

// TestPostgreSQL: a commit that was answered without a warning is on every later primary. On the test cluster it runs the list
// of faults once, and what several clients read and wrote meanwhile is strictly serializable.
func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	f := inCalm(t, func() fixture {
		f := postgresql(t, space(t, "postgresql"), nil).ready(t)
		f.psql(t)
		return f
	})
	stop := guardRoute(t, f.Service)
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			calm.RLock()
			defer calm.RUnlock()
			must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
			test(t)
		})
	}
	run("BadInput", f.badDatabaseInput)
	run("Rolling", func(t *testing.T) {
		f.rolls(t, f.tuned, func(s *v1alpha1.ReplicatedServiceSpec) {
			s.Engine.PostgreSQL.Parameters = map[string]v1alpha1.ParameterValue{"max_connections": "110"}
		})
	})
	kinds := []faults.Kind{faults.EngineKill, faults.ContainerKill, faults.PodDelete, faults.Switchover}
	if local {
		kinds = []faults.Kind{faults.Switchover} // the others are in the list
	}
	for _, kind := range kinds {
		run(string(kind), func(t *testing.T) { f.committed(t, kind) })
	}
	if local {
		for _, d := range disturbances {
			t.Run(d.name, func(t *testing.T) { f.disturb(t, d) })
		}
		must(t, f.WaitHealthy(t.Context(), 3*time.Minute)) // after the last of them too
	}
	stop()
}

// psql asks whoever is primary from a replica's pod, as a person might.
func (f fixture) psql(t *testing.T) {
	t.Helper()
	s := f.scene(t)
	out, err := cluster.Exec(t.Context(), f.namespace, s.replicas[0], naming.EngineContainer, "sh", "-c",
		`PGPASSWORD=$(cat `+naming.SecretDir+"/"+naming.PasswordKey+`) psql -h db -U app -Atc "SELECT pg_is_in_recovery()" app`)
	must(t, err)
	if strings.TrimSpace(out) != "f" {
		t.Errorf("psql in the pod of %s was answered %q by the Service, want f of a primary", s.replicas[0], out)
	}
}

// committed makes one fault under load, and checks that nothing acknowledged was lost.
func (f fixture) committed(t *testing.T, kind faults.Kind) {
	record, err := f.Run(t.Context(), kind, fmt.Sprintf("pg-%s-%d", kind, time.Now().UnixNano()))
	must(t, err)
	outage := time.Duration(record.Longest().Microseconds) * time.Microsecond
	t.Logf("%s: %s → %s in epoch %d, %s, outage %s, %d commits acknowledged, %d lost, %d unknown", kind, record.From, record.To,
		record.Epoch, record.Evidence, outage.Round(100*time.Microsecond), record.Acknowledged, record.Verification.Lost, record.Unknown)
	if record.Verification.Lost > 0 {
		t.Errorf("%s: %d acknowledged commits were lost: %v", kind, record.Verification.Lost, record.Verification.LostSequence)
	}
	if outage > longest {
		t.Errorf("%s: no commit was acknowledged for %s", kind, outage)
	}
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
}
