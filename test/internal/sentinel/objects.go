// Package sentinel runs Redis Sentinel as its documentation says, to compare with: three Redis servers with a sentinel
// beside each.
package sentinel

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	name          = "understudy-bench-sentinel"
	sentinelsName = name + "-sentinels"
	label         = "app.kubernetes.io/name"
	master        = "primary"
	redisPort     = "6379"
	sentinelPort  = "26379"
	members       = 3
	redisName     = "redis"
	sentinelName  = "sentinel"
	masterCommand = `timeout 1 redis-cli -h "$host" -p ` + sentinelPort + ` sentinel get-master-addr-by-name ` + master
)

// Settings are Sentinel's, in the words of its configuration.
type Settings struct {
	DownAfterMilliseconds       int `json:"downAfterMilliseconds"`
	FailoverTimeoutMilliseconds int `json:"failoverTimeoutMilliseconds"`
	Quorum                      int `json:"quorum"`
}

// redisScript starts a server, first as a replica of pod 0 and later of whatever the sentinels name. The loop restarts a
// killed server only after another one became primary: a server that is back at once, empty, within down-after would be
// taken for the old primary by the sentinels, and its replicas would erase themselves. Sentinel leaves that to whoever
// sets it up; without it the comparison would be between an outage and the loss of everything.
const redisScript = `
known() {
  for i in 0 1 2; do
    host="$BASE-sentinels-$i.$BASE-sentinels"
    set -- $(` + masterCommand + ` 2>/dev/null)
    if [ -n "$1" ] && [ "$1" != "(nil)" ]; then echo "$1"; return; fi
  done
}
first=yes
while true; do
  of=$(known)
  if [ -z "$of" ] && [ "$first" = yes ]; then of="$BASE-0.$BASE"; [ "$POD" = "$BASE-0" ] && of="$IP"; fi
  if [ "$of" = "$IP" ] && [ "$first" = no ] || [ -z "$of" ]; then sleep 0.2; continue; fi
  set -- --port ` + redisPort + ` --bind 0.0.0.0 --protected-mode no --save "" --appendonly no --dir /tmp \
    --repl-diskless-sync yes --repl-diskless-sync-delay 0 --replica-announce-ip "$IP"
  if [ "$of" != "$IP" ]; then set -- "$@" --replicaof "$of" ` + redisPort + `; fi
  first=no
  redis-server "$@" || true
done
`

const sentinelScript = `
until timeout 1 redis-cli -h "$BASE-0.$BASE" -p ` + redisPort + ` ping 2>/dev/null | grep -q PONG; do sleep 0.2; done
cat > /tmp/sentinel.conf <<EOF
port ` + sentinelPort + `
bind 0.0.0.0
protected-mode no
dir /tmp
sentinel announce-ip $IP
sentinel monitor ` + master + ` $FIRST ` + redisPort + ` $QUORUM
sentinel down-after-milliseconds ` + master + ` $DOWN
sentinel failover-timeout ` + master + ` $TIMEOUT
sentinel parallel-syncs ` + master + ` 2
EOF
exec redis-sentinel /tmp/sentinel.conf
`

// service gives each pod of a set a name, from before it is ready.
func service(namespace, name string) *corev1.Service {
	labels := map[string]string{label: name}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, Selector: labels, PublishNotReadyAddresses: true,
			Ports: []corev1.ServicePort{{Name: redisName, Port: 6379}, {Name: sentinelName, Port: 26379}},
		},
	}
}

func redisSet(namespace, image string) *appsv1.StatefulSet {
	labels := map[string]string{label: name}
	env := []corev1.EnvVar{
		{Name: "BASE", Value: name},
		{Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
	}
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](members), ServiceName: name, PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					AutomountServiceAccountToken:  ptr.To(false),
					TerminationGracePeriodSeconds: ptr.To[int64](1),
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
						LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
					SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](999)},
					Containers:      []corev1.Container{container(redisName, image, redisScript, env)},
				},
			},
		},
	}
}

// sentinels are pods of their own, so that each has the address of pod 0 when it starts.
func sentinelSet(namespace, image, first string, s Settings) *appsv1.StatefulSet {
	set := redisSet(namespace, image)
	set.Name, set.Spec.ServiceName = sentinelsName, sentinelsName
	labels := map[string]string{label: set.Name}
	set.Labels, set.Spec.Selector.MatchLabels, set.Spec.Template.Labels = labels, labels, labels
	set.Spec.Template.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels = labels
	env := set.Spec.Template.Spec.Containers[0].Env
	env = append(env,
		corev1.EnvVar{Name: "FIRST", Value: first},
		corev1.EnvVar{Name: "QUORUM", Value: itoa(s.Quorum)},
		corev1.EnvVar{Name: "DOWN", Value: itoa(s.DownAfterMilliseconds)},
		corev1.EnvVar{Name: "TIMEOUT", Value: itoa(s.FailoverTimeoutMilliseconds)})
	set.Spec.Template.Spec.Containers = []corev1.Container{container(sentinelName, image, sentinelScript, env)}
	return set
}

func container(name, image, script string, env []corev1.EnvVar) corev1.Container {
	return corev1.Container{
		Name: name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{"sh", "-c", script}, Env: env,
	}
}
