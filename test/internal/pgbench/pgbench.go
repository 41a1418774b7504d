// Package pgbench runs PostgreSQL's own benchmark from pods of its own, as a load or to measure how long commits take.
package pgbench

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/peer"
)

const (
	name      = "understudy-pgbench"
	container = "pgbench"
)

// Set is one pod a node with pgbench in it. They know the password of one service.
type Set struct {
	Cluster   *kube.Cluster
	Namespace string
	Image     string
	Service   string
}

// Target is a server.
type Target struct{ Host, User, Database string }

// Ensure makes the pods and waits until they run.
func (s Set) Ensure(ctx context.Context) error {
	if err := s.Remove(ctx); err != nil {
		return err
	}
	if err := s.Cluster.Create(ctx, s.deployment()); err != nil {
		return fmt.Errorf("making the pods of pgbench: %w", err)
	}
	return kube.Until(ctx, 2*time.Minute, "the pods of pgbench to run", func(ctx context.Context) (bool, string, error) {
		pods, err := peer.Ready(ctx, s.Cluster, s.Namespace, name)
		return len(pods) == peer.Members, fmt.Sprintf("%d run", len(pods)), err
	})
}

// Remove deletes them.
func (s Set) Remove(ctx context.Context) error {
	if err := peer.Delete(ctx, s.Cluster, s.deployment()); err != nil {
		return err
	}
	return peer.WaitGone(ctx, s.Cluster, s.Namespace, name)
}

func (s Set) deployment() *appsv1.Deployment {
	labels := map[string]string{peer.Label: name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](peer.Members), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				AutomountServiceAccountToken: ptr.To(false), TerminationGracePeriodSeconds: ptr.To[int64](1),
				TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
					MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
					LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
				}},
				SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](999)},
				Containers: []corev1.Container{{
					Name: container, Image: s.Image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"sleep", "infinity"},
					// Without TLS, which what is compared with does not offer.
					Env: []corev1.EnvVar{{Name: "PGSSLMODE", Value: "disable"}, {Name: "PGPASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
						LocalObjectReference: corev1.LocalObjectReference{Name: names.AuthSecret(s.Service)}, Key: names.PasswordKey,
					}}}},
				}},
			}},
		},
	}
}

// NotOn is a pod on none of these nodes, or any if there is none.
func (s Set) NotOn(ctx context.Context, nodes ...string) (string, error) {
	pods, err := peer.Ready(ctx, s.Cluster, s.Namespace, name)
	if err != nil || len(pods) == 0 {
		return "", fmt.Errorf("looking for a pod of pgbench: %d run: %w", len(pods), err)
	}
	avoid := map[string]bool{}
	for _, node := range nodes {
		avoid[node] = true
	}
	for _, pod := range pods {
		if !avoid[pod.Spec.NodeName] {
			return pod.Name, nil
		}
	}
	return pods[0].Name, nil
}

// shell runs a command in a pod; pgbench lies beside the server's other programs.
func (s Set) shell(ctx context.Context, pod, command string) (string, error) {
	return s.Cluster.Exec(ctx, s.Namespace, pod, container, "sh", "-c", `PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)"; `+command)
}

func (t Target) options() string {
	return fmt.Sprintf("-h %s -U %s %s", t.Host, t.User, t.Database)
}

// Prepare makes pgbench's tables anew: scale times 100,000 rows, some 15 MB each.
func (s Set) Prepare(ctx context.Context, pod string, t Target, scale int) error {
	_, err := s.shell(ctx, pod, fmt.Sprintf("pgbench -i -q -s %d %s", scale, t.options()))
	return err
}

var average = regexp.MustCompile(`latency average = ([0-9.]+) ms`)

// Latency is the mean time of pgbench's simple update, which is one commit, in milliseconds.
func (s Set) Latency(ctx context.Context, pod string, t Target, clients int, d time.Duration) (float64, error) {
	out, err := s.shell(ctx, pod, fmt.Sprintf("pgbench -n -N -c %d -j 1 -T %d %s", clients, int(d.Seconds()), t.options()))
	if err != nil {
		return 0, err
	}
	found := average.FindStringSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("reading what pgbench said: no latency in %q", out)
	}
	return strconv.ParseFloat(found[1], 64)
}

// Load keeps clients busy until stop is called. pgbench ends with the connections of its clients, and then begins anew.
func (s Set) Load(ctx context.Context, t Target, clients int) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			pod, err := s.NotOn(ctx)
			if err == nil {
				_, _ = s.shell(ctx, pod, fmt.Sprintf("pgbench -n -N -c %d -j 2 -T 600 %s", clients, t.options()))
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() {
		cancel()
		<-done
		_ = client.IgnoreNotFound(s.Remove(context.WithoutCancel(ctx))) // what still runs ends with its pod
	}
}
