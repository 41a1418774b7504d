// Package byhand runs three PostgreSQL servers that a person might have set up as a service of ours is: a primary whose commits wait
// for one of two standbys that stream over TLS, and no agent beside any of them. What an agent costs a commit is measured against it.
package byhand

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/patroni"
	"understudy.dev/understudy/test/internal/peer"
)

const (
	name = "understudy-bench-byhand"
	port = 5432
	// Superuser and Database are what a client connects as and to; nobody needs a password.
	Superuser = "postgres"
	Database  = "postgres"
)

// Peer is the comparison's set of pods.
type Peer struct {
	Cluster   *kube.Cluster
	Namespace string
	Image     string
	Service   string // whose certificates it borrows
}

// script makes a server's data, once, and becomes the server. $PRIMARY is the first pod's address.
const script = `set -eu
umask 077
PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)"
data=/var/lib/postgresql/data/pgdata
if [ ! -s $data/PG_VERSION ]; then
  if [ "$POD" = NAME-0 ]; then
    initdb -D $data.new -U postgres --auth=trust --data-checksums --wal-segsize=1 --locale=C.UTF-8 --encoding=UTF8
    printf 'host all all all trust\nhostssl replication all all trust\n' >> $data.new/pg_hba.conf
  else
    until rm -rf $data.new; pg_basebackup -D $data.new -R -X stream -c fast -C -S "$(echo "$POD" | tr - _)" \
      -d "host=$PRIMARY user=postgres application_name=$POD connect_timeout=5 sslmode=verify-ca sslrootcert=/certs/ca.crt"; do
      psql -h "$PRIMARY" -U postgres -c "SELECT pg_drop_replication_slot('$(echo "$POD" | tr - _)')" || true
      sleep 1
    done
  fi
  mv $data.new $data
fi
exec postgres -D $data -c listen_addresses='*' -c ssl=on \
  -c ssl_cert_file="/certs/$SERVICE-${POD##*-}.crt" -c ssl_key_file="/certs/$SERVICE-${POD##*-}.key" PARAMETERS
`

func parameters() string {
	all := patroni.Parameters()
	all["synchronous_standby_names"] = fmt.Sprintf(`ANY 1 ("%s","%s")`, peer.Pod(name, 1), peer.Pod(name, 2))
	var out []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		out = append(out, fmt.Sprintf("-c %s='%v'", key, all[key]))
	}
	return strings.Join(out, " ")
}

func container(image, service, primary string) corev1.Container {
	return corev1.Container{
		Name: "engine", Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{"sh", "-c", strings.NewReplacer("NAME", name, "PARAMETERS", parameters()).Replace(script)},
		Env: []corev1.EnvVar{
			{Name: "PRIMARY", Value: primary}, {Name: "SERVICE", Value: service},
			{Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "data", MountPath: "/var/lib/postgresql/data"}, {Name: "certs", MountPath: "/certs", ReadOnly: true},
		},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "psql -h 127.0.0.1 -U postgres -c ''"}}}, PeriodSeconds: 30, TimeoutSeconds: 5,
		},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
		},
	}
}

func (p Peer) set(primary string) *appsv1.StatefulSet {
	set := peer.StatefulSet(p.Namespace, name, name, container(p.Image, p.Service, primary))
	set.Spec.Template.Spec.Volumes = append(set.Spec.Template.Spec.Volumes, corev1.Volume{Name: "certs", VolumeSource: corev1.VolumeSource{
		Secret: &corev1.SecretVolumeSource{SecretName: names.CertsSecret(p.Service), DefaultMode: ptr.To[int32](0o440)},
	}})
	return set
}

// Ensure makes it all anew, waits until both standbys stream, and returns the primary's address and node.
func (p Peer) Ensure(ctx context.Context) (address, node string, err error) {
	if err := p.Remove(ctx); err != nil {
		return "", "", err
	}
	service := peer.Service(p.Namespace, name, 0, map[string]int32{"postgresql": port})
	if err := p.Cluster.Create(ctx, service); err != nil {
		return "", "", fmt.Errorf("making the address to compare with: %w", err)
	}
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: name}}
	for _, obj := range []client.Object{config, p.set(service.Spec.ClusterIP)} {
		if err := p.Cluster.Create(ctx, obj); err != nil {
			return "", "", fmt.Errorf("making %T %s to compare with: %w", obj, obj.GetName(), err)
		}
	}
	err = kube.UntilEvery(ctx, 5*time.Minute, time.Second, "the servers set up by hand to stream", func(ctx context.Context) (bool, string, error) {
		out, err := p.Cluster.Exec(ctx, p.Namespace, peer.Pod(name, 0), "engine", "psql", "-h", "127.0.0.1", "-U", Superuser, "-Atc",
			"SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'quorum'")
		return strings.TrimSpace(out) == "2", "standbys that stream: " + strings.TrimSpace(out), err
	})
	if err != nil {
		return "", "", err
	}
	var pod corev1.Pod
	if err := p.Cluster.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: peer.Pod(name, 0)}, &pod); err != nil {
		return "", "", fmt.Errorf("reading the pod compared with: %w", err)
	}
	return service.Spec.ClusterIP, pod.Spec.NodeName, nil
}

// Remove deletes all, the data too, and waits until it is gone.
func (p Peer) Remove(ctx context.Context) error {
	err := peer.Delete(ctx, p.Cluster, p.set(""), peer.Service(p.Namespace, name, 0, nil),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: name}})
	if err != nil {
		return err
	}
	return peer.WaitGone(ctx, p.Cluster, p.Namespace, name)
}
