package workload

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/names"
)

func installContainer(in Input) corev1.Container {
	return corev1.Container{
		Name:            names.InstallContainer,
		Image:           in.AgentImage,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"/understudy-agent", "install", names.BinDir},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("10m"),
			corev1.ResourceMemory: resource.MustParse("16Mi"),
		}},
		SecurityContext: containerSecurity(),
		VolumeMounts:    []corev1.VolumeMount{{Name: "bin", MountPath: names.BinDir}},
	}
}

// engineContainer has no liveness probe on purpose: the agent as PID 1 ends when it cannot go on, and a kubelet that
// kills members in the middle of a failover makes an outage out of a hiccup.
func engineContainer(in Input) corev1.Container {
	t, engine := in.Service.Spec.Template, EngineOf(in.Service)
	c := corev1.Container{
		Name:            names.EngineContainer,
		Image:           t.Image,
		ImagePullPolicy: t.ImagePullPolicy,
		Command:         []string{names.AgentPath, "run"},
		Env: []corev1.EnvVar{
			fieldEnv("POD_NAME", "metadata.name"),
			fieldEnv("POD_UID", "metadata.uid"),
			fieldEnv("POD_NAMESPACE", "metadata.namespace"),
			fieldEnv("POD_IP", "status.podIP"),
			fieldEnv("POD_IPS", "status.podIPs"),
			fieldEnv("NODE_NAME", "spec.nodeName"),
			fieldEnv("HOST_IP", "status.hostIP"),
		},
		Ports: []corev1.ContainerPort{
			{Name: engine.Name, ContainerPort: engine.Port, Protocol: corev1.ProtocolTCP},
			{Name: "agent", ContainerPort: names.AgentPort, Protocol: corev1.ProtocolTCP},
			{Name: "metrics", ContainerPort: names.MetricsPort, Protocol: corev1.ProtocolTCP},
		},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: "/readyz", Port: intstr.FromInt32(names.MetricsPort), Scheme: corev1.URISchemeHTTP,
			}},
			PeriodSeconds: 2, TimeoutSeconds: 1, FailureThreshold: 2, SuccessThreshold: 1,
		},
		SecurityContext: containerSecurity(),
		VolumeMounts: []corev1.VolumeMount{
			{Name: "bin", MountPath: names.BinDir, ReadOnly: true},
			{Name: "state", MountPath: names.StateDir},
			{Name: "config", MountPath: names.ConfigDir, ReadOnly: true},
			{Name: "certs", MountPath: names.CertsDir, ReadOnly: true},
			{Name: "secret", MountPath: names.SecretDir, ReadOnly: true},
			{Name: names.DataVolume, MountPath: names.DataDir},
			{Name: "tmp", MountPath: "/tmp"},
			{Name: "run", MountPath: names.RunDir},
		},
	}
	if s := in.Service.Spec.Storage; s != nil && s.WAL != nil {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: names.WALVolume, MountPath: names.WALDir})
	}
	if t.Resources != nil {
		c.Resources = *t.Resources
	}
	return c
}

func volumes(in Input) []corev1.Volume {
	name := in.Service.Name
	empty := func(volume string) corev1.Volume {
		return corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	}
	secret := func(volume, secret string, items ...corev1.KeyToPath) corev1.Volume {
		return corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: secret, Items: items, DefaultMode: ptr.To[int32](0o440),
		}}}
	}
	memory := corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr.To(resource.MustParse("16Mi"))}
	out := []corev1.Volume{
		{Name: "run", VolumeSource: corev1.VolumeSource{EmptyDir: &memory}},
		empty("bin"), empty("state"), empty("tmp"),
		config(in),
		secret("certs", names.CertsSecret(name)),
		passwords(in),
	}
	if in.Service.Spec.Storage == nil {
		out = append(out, empty(names.DataVolume))
	}
	return out
}

// config is the volume of the agent's configuration. What the pod was made with comes from its own annotation: a container that is started again is not to
// begin with what another member just failed with.
func config(in Input) corev1.Volume {
	sources := []corev1.VolumeProjection{{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
		Path: names.ConfigFile, FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.annotations['" + annotationConfig + "']"},
	}}}}}
	if live := ConfigMap(in); live != nil {
		sources = append(sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: live.Name}, Items: []corev1.KeyToPath{{Key: names.ConfigKey, Path: names.LiveConfigFile}},
		}})
	}
	return corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources, DefaultMode: ptr.To[int32](0o444)}}}
}

// passwords is the volume of the engine's passwords, out of one Secret or two.
func passwords(in Input) corev1.Volume {
	from := func(secret, key, path string) corev1.VolumeProjection {
		return corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Items: []corev1.KeyToPath{{Key: key, Path: path}},
		}}
	}
	sources := []corev1.VolumeProjection{from(in.PasswordSecret, in.PasswordKey, names.PasswordKey)}
	if ref := EngineOf(in.Service).Superuser; ref != nil {
		sources = append(sources, from(ref.Name, KeyOf(*ref), names.SuperuserKey))
	}
	if ref := EngineOf(in.Service).Pooler; ref != nil {
		sources = append(sources, from(ref.Name, KeyOf(*ref), names.PoolerKey))
	}
	return corev1.Volume{Name: "secret", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: sources, DefaultMode: ptr.To[int32](0o440),
	}}}
}

// KeyOf is the key that a reference names.
func KeyOf(ref v1alpha1.SecretKeyReference) string {
	if ref.Key == "" {
		return names.PasswordKey
	}
	return ref.Key
}
