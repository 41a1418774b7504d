package patroni

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"understudy.dev/understudy/internal/names"
)

const (
	name     = "understudy-bench-patroni"
	etcdName = name + "-etcd"
	label    = "app.kubernetes.io/name"
	members  = 3
	// user of the server in the image.
	user = 999
	// where each member finds its file.
	configPath = "/etc/understudy-bench"
	// Python keeps what it compiled here, as long as the pod lives: a package that is installed as usual has it from the start.
	compiledPath = "/var/cache/python"
)

func podName(set string, ordinal int) string { return fmt.Sprintf("%s-%d", set, ordinal) }

// service gives one pod an address that it keeps, from before it is ready. Nobody has to resolve a name that way.
func service(namespace, set string, ordinal int) *corev1.Service {
	port := func(name string, number int32) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Port: number, TargetPort: intstr.FromInt32(number)}
	}
	ports := []corev1.ServicePort{port("postgresql", postgresPort), port("rest", restPort)}
	if set == etcdName {
		ports = []corev1.ServicePort{port("client", etcdPort), port("peer", etcdPeerPort)}
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: podName(set, ordinal), Labels: map[string]string{label: set}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{appsv1.StatefulSetPodNameLabel: podName(set, ordinal)},
			Ports:    ports, PublishNotReadyAddresses: true,
		},
	}
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
		out.Data[podName(name, i)+".yml"], out.Data[podName(etcdName, i)+".yml"] = string(member), string(store)
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
	set := statefulSet(namespace, name, c)
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
	return statefulSet(namespace, etcdName, c)
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

func statefulSet(namespace, set string, c corev1.Container) *appsv1.StatefulSet {
	labels := map[string]string{label: set}
	gone := appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: set, Labels: labels},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](members), ServiceName: set, PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
				WhenDeleted: gone, WhenScaled: gone,
			},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data", Labels: labels},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources: corev1.VolumeResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
					},
				},
			}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					AutomountServiceAccountToken: ptr.To(false), EnableServiceLinks: ptr.To(false),
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
						LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
					SecurityContext: &corev1.PodSecurityContext{
						RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](user), RunAsGroup: ptr.To[int64](user),
						FSGroup: ptr.To[int64](user), FSGroupChangePolicy: ptr.To(corev1.FSGroupChangeOnRootMismatch),
					},
					Containers: []corev1.Container{c},
					Volumes: []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
						LocalObjectReference: corev1.LocalObjectReference{Name: name},
					}}}},
				},
			},
		},
	}
}
