//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	naming "understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
)

// donor is a server as an image's own entry point sets it up for POSTGRES_USER=boss, killed while it runs.
const donor = `set -eu
umask 077
cd /volume
PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)"
initdb -D pgdata -U boss --auth=trust
postgres -D pgdata -k /volume -c listen_addresses= &
until pg_isready -q -h /volume; do sleep 0.1; done
psql -h /volume -U boss -d postgres -c "CREATE TABLE precious AS SELECT generate_series(1, 1000) AS n"
kill -9 $!
`

// testImport: a new service begins with the data of an earlier server, which every member then has.
func testImport(t *testing.T) {
	t.Parallel()
	namespace := space(t, "import")
	bring(t, namespace)
	f := postgresql(t, namespace, func(obj *v1alpha1.ReplicatedService) {
		obj.Spec.Storage.StorageClassName = nil
		obj.Spec.Engine.PostgreSQL.Import = &v1alpha1.ImportSpec{Path: "elsewhere"}
	})
	names(t, f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonBootstrapFailed), "db-0", "elsewhere", "spec.engine.postgresql.import.path")
	f.patch(t, func(s *v1alpha1.ReplicatedServiceSpec) { s.Engine.PostgreSQL.Import.Path = "pgdata" })
	must(t, kube.UntilEvery(t.Context(), 3*time.Minute, 2*time.Second, "the import", func(ctx context.Context) (bool, string, error) {
		obj, err := f.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		return meta.IsStatusConditionTrue(obj.Status.Conditions, v1alpha1.ConditionAvailable), fmt.Sprint(obj.Status.Conditions), f.nudge(ctx)
	}))
	f.ready(t)
	for i := range 3 {
		out, err := cluster.Exec(t.Context(), namespace, naming.Member("db", i), naming.EngineContainer, "sh", "-c",
			"psql -h "+naming.RunDir+"/socket -U postgres -Atc 'SELECT count(*) FROM precious' postgres")
		if must(t, err); strings.TrimSpace(out) != "1000" {
			t.Errorf("member %d has %q rows of what was imported, want 1000", i, out)
		}
	}
	f.committed(t, faults.Switchover)
}

// bring makes the first member's claim, and puts a server's data on it.
func bring(t *testing.T, namespace string) {
	t.Helper()
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "data-" + naming.Member("db", 0)},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "donor"},
		Spec: corev1.PodSpec{
			RestartPolicy:   corev1.RestartPolicyNever,
			SecurityContext: &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](999), RunAsGroup: ptr.To[int64](999), FSGroup: ptr.To[int64](999)},
			Containers: []corev1.Container{{
				Name: "donor", Image: postgresImage, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"sh", "-c", donor},
				VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/volume"}},
			}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name},
			}}},
		},
	}
	for _, obj := range []client.Object{claim, pod} {
		must(t, cluster.Create(t.Context(), obj))
	}
	must(t, kube.UntilEvery(t.Context(), 2*time.Minute, time.Second, "the earlier server to end", func(ctx context.Context) (bool, string, error) {
		err := cluster.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed, string(pod.Status.Phase), err
	}))
	if pod.Status.Phase != corev1.PodSucceeded {
		t.Fatalf("the earlier server's pod ended as %s: %v", pod.Status.Phase, pod.Status.ContainerStatuses)
	}
	must(t, cluster.Delete(t.Context(), pod))
}
