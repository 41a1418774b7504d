package patroni

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/peer"
)

const (
	name     = "understudy-bench-patroni"
	etcdName = name + "-etcd"
	label    = peer.Label
	members  = peer.Members
	// where each member finds its file.
	configPath = "/etc/understudy-bench"
	// Python keeps what it compiled here, as long as the pod lives: a package that is installed as usual has it from the start.
	compiledPath = "/var/cache/python"
)

// service gives one pod an address that it keeps.
func service(namespace, set string, ordinal int) *corev1.Service {
	if set == etcdName {
		return peer.Service(namespace, set, ordinal, map[string]int32{"client": etcdPort, "peer": etcdPeerPort})
	}
	return peer.Service(namespace, set, ordinal, map[string]int32{"postgresql": postgresPort, "rest": restPort})
}

// configuration holds the file of every member and of every member of etcd.
func configuration(namespace string, s Settings, members, etcd []string) (*corev1.ConfigMap, error) {
	out := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{label: name}},
		Data:       map[string]string{},
	}
	for i := range members {
		member, err := memberConfig(s, i, members, etcd)
		if err != nil {
			return nil, fmt.Errorf("writing the configuration of member %d: %w", i, err)
		}
		store, err := etcdConfig(i, etcd)
		if err != nil {
			return nil, fmt.Errorf("writing the configuration of etcd member %d: %w", i, err)
		}
		out.Data[peer.Pod(name, i)+".yml"], out.Data[peer.Pod(etcdName, i)+".yml"] = string(member), string(store)
	}
	return out, nil
}

// memberSet has what a member of our own sample service has: its resources, a volume of its class and size, a node of its
// own. The container's name is that of ours too, so that the same faults find it.
func memberSet(namespace, image string) *appsv1.StatefulSet {
	c := container(names.EngineContainer, image, dataPath, "patroni", configPath+"/$(POD).yml")
	c.Env = append(c.Env, corev1.EnvVar{Name: "PYTHONPYCACHEPREFIX", Value: compiledPath})
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "compiled", MountPath: compiledPath})
	c.ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readiness", Port: intstr.FromInt32(restPort)}},
		PeriodSeconds: 2, TimeoutSeconds: 2,
	}
	c.Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
	}
	set := peer.StatefulSet(namespace, name, name, c)
	set.Spec.Template.Spec.Volumes = append(set.Spec.Template.Spec.Volumes,
		corev1.Volume{Name: "compiled", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	return set
}

func etcdSet(namespace, image string) *appsv1.StatefulSet {
	c := container("etcd", image, etcdPath, "etcd", "--config-file", configPath+"/$(POD).yml")
	c.ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/health", Port: intstr.FromInt32(etcdPort)}},
		PeriodSeconds: 2, TimeoutSeconds: 2,
	}
	return peer.StatefulSet(namespace, etcdName, name, c)
}

func container(name, image, data string, command ...string) corev1.Container {
	return corev1.Container{
		Name: name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Command: command,
		Env: []corev1.EnvVar{{
			Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}},
		}},
		VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: data}, {Name: "config", MountPath: configPath, ReadOnly: true}},
	}
}
