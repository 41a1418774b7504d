//go:build e2e

package e2e

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	naming "understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
)

const (
	poolerImage = "docker.io/understudy/pgbouncer:1"
	poolerName  = "pooler"
	poolerPort  = 6432
)

// poolerScript writes a configuration as a user might, and becomes PgBouncer.
const poolerScript = `umask 077
cat > /tmp/users.txt <<END
"app" "$PASSWORD"
"admin" "$ADMIN"
END
cat > /tmp/pgbouncer.ini <<END
[databases]
app = host=db port=5432 dbname=app
[pgbouncer]
listen_addr = 0.0.0.0
listen_port = 6432
unix_socket_dir =
auth_type = plain
auth_file = /tmp/users.txt
admin_users = admin
pool_mode = transaction
server_login_retry = 1
END
exec pgbouncer /tmp/pgbouncer.ini`

// Clients of PgBouncer see a pause in a planned change of primary, and no error. It runs alone: what is promised holds while the
// poolers answer and the successor opens within the limits of internal/agent/pooler.go.
func TestPooler(t *testing.T) {
	namespace := space(t, "pooler")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pooler-admin"}, StringData: map[string]string{"password": "of the console"}}
	must(t, cluster.Create(t.Context(), secret))
	f := postgresql(t, namespace, func(obj *v1alpha1.ReplicatedService) {
		obj.Spec.Storage.StorageClassName = nil
		obj.Spec.Engine.PostgreSQL.PgBouncer = &v1alpha1.PgBouncerSpec{
			Hosts: []string{poolerName + "." + namespace}, User: "admin", PasswordSecretRef: v1alpha1.SecretKeyReference{Name: secret.Name},
		}
	}).ready(t)
	makePoolers(t, namespace)
	for _, kind := range []faults.Kind{faults.Switchover, faults.PodDelete} {
		t.Run(string(kind), func(t *testing.T) { f.unnoticed(t, kind) })
	}
}

// makePoolers runs two PgBouncers behind a headless Service.
func makePoolers(t *testing.T, namespace string) {
	t.Helper()
	labels := map[string]string{"app": poolerName}
	from := func(secret, key string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: key}}
	}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: poolerName},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](2), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				TerminationGracePeriodSeconds: ptr.To[int64](1), AutomountServiceAccountToken: ptr.To(false),
				Containers: []corev1.Container{{
					Name: poolerName, Image: poolerImage, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"sh", "-c", poolerScript},
					Env: []corev1.EnvVar{
						{Name: "PASSWORD", ValueFrom: from(naming.AuthSecret("db"), naming.PasswordKey)}, {Name: "ADMIN", ValueFrom: from("pooler-admin", "password")},
					},
					ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(poolerPort)}}, PeriodSeconds: 1},
					// Without a share of its own on a busy node it would not be rid of its transactions within the second that a handover waits.
					Resources:    corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("16Mi")}},
					VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
				}},
				Volumes: []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}},
			}},
		},
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: poolerName},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Selector: labels, Ports: []corev1.ServicePort{{Port: poolerPort}}},
	}
	for _, obj := range []client.Object{deployment, service} {
		must(t, cluster.Create(t.Context(), obj))
	}
	must(t, kube.UntilEvery(t.Context(), time.Minute, time.Second, "the poolers to be ready", func(ctx context.Context) (bool, string, error) {
		err := cluster.Get(ctx, client.ObjectKeyFromObject(deployment), deployment)
		return deployment.Status.ReadyReplicas == 2, strconv.Itoa(int(deployment.Status.ReadyReplicas)) + " are", err
	}))
}

// unnoticed makes a fault while pgbench's clients write through the poolers: the first error would end it.
func (f fixture) unnoticed(t *testing.T, kind faults.Kind) {
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	s := f.scene(t)
	ask := func(ctx context.Context, host, command string) (string, error) {
		return cluster.Exec(ctx, f.namespace, s.replicas[0], naming.EngineContainer, "sh", "-c", `PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)"
export PGPASSWORD=$(cat `+naming.SecretDir+"/"+naming.PasswordKey+`) PGSSLMODE=disable PGUSER=app PGDATABASE=app PGHOST=`+host+"\n"+command)
	}
	must(t, kube.UntilEvery(t.Context(), time.Minute, time.Second, "the service to be reached through the poolers", func(ctx context.Context) (bool, string, error) {
		out, err := ask(ctx, poolerName, `psql -p `+strconv.Itoa(poolerPort)+` -Atc "SELECT 'yes'" 2>&1 || true`)
		return strings.TrimSpace(out) == "yes", out, err
	}))
	_, err := ask(t.Context(), "db", `psql -qc "DROP TABLE IF EXISTS pooled; CREATE TABLE pooled (n int)"`)
	must(t, err)
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := ask(t.Context(), poolerName, "export PGPORT="+strconv.Itoa(poolerPort)+`
echo "INSERT INTO pooled VALUES (1);" | pgbench -n -f /dev/stdin -c 4 -T 12 2>&1; echo "it ended with $?"`)
		done <- result{out, err}
	}()
	must(t, kube.UntilEvery(t.Context(), 20*time.Second, 200*time.Millisecond, "the clients of the poolers to write", func(ctx context.Context) (bool, string, error) {
		out, err := ask(ctx, "db", `psql -Atc "SELECT count(*) FROM pooled"`)
		n, _ := strconv.Atoi(strings.TrimSpace(out))
		return n > 100, out, err
	}))
	f.committed(t, kind)
	r := <-done
	if must(t, r.err); !strings.Contains(r.out, "it ended with 0") || !strings.Contains(r.out, "number of failed transactions: 0") {
		t.Errorf("clients of the poolers noticed:\n%s", r.out)
	}
	t.Log(r.out)
}
