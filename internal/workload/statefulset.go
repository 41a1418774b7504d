package workload

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/names"
)

// StatefulSet runs the members. Pods are replaced only when somebody deletes them, in an order that suits the service.
func StatefulSet(in Input) *appsv1.StatefulSet {
	svc := in.Service
	set := &appsv1.StatefulSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"},
		ObjectMeta: in.meta(svc.Name, ComponentMember),
		Spec: appsv1.StatefulSetSpec{
			Replicas:            ptr.To(int32(members(svc))),
			ServiceName:         names.MembersService(svc.Name),
			Selector:            &metav1.LabelSelector{MatchLabels: Selector(svc.Name)},
			PodManagementPolicy: appsv1.ParallelPodManagement,
			UpdateStrategy:      appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType},
			Template:            podTemplate(in),
		},
	}
	if s := svc.Spec.Storage; s != nil {
		set.Spec.VolumeClaimTemplates = claims(svc)
		keep := appsv1.RetainPersistentVolumeClaimRetentionPolicyType
		if s.Retention == v1alpha1.DeleteVolumes {
			keep = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
		}
		set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
			WhenDeleted: keep, WhenScaled: keep,
		}
	}
	return set
}

// claims has few labels on purpose: a StatefulSet's claim templates cannot be changed.
func claims(svc *v1alpha1.ReplicatedService) []corev1.PersistentVolumeClaim {
	s := svc.Spec.Storage
	out := []corev1.PersistentVolumeClaim{claim(svc, names.DataVolume, s.Size, s.StorageClassName)}
	if s.WAL != nil {
		out = append(out, claim(svc, names.WALVolume, s.WAL.Size, s.WAL.StorageClassName))
	}
	return out
}

func claim(svc *v1alpha1.ReplicatedService, volume string, size resource.Quantity, class *string) corev1.PersistentVolumeClaim {
	return corev1.PersistentVolumeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{Name: volume, Labels: Selector(svc.Name)},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: class,
			VolumeMode:       ptr.To(corev1.PersistentVolumeFilesystem),
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: size},
			},
		},
	}
}

func podTemplate(in Input) corev1.PodTemplateSpec {
	svc, t := in.Service, in.Service.Spec.Template
	labels, annotations := map[string]string{}, map[string]string{}
	if m := t.Metadata; m != nil {
		labels, annotations = m.Labels, m.Annotations
	}
	annotations = merged(annotations, meshAnnotations())
	// What agents read only when they start makes a pod outdated when it changes, and goes back with the template when the change is taken back.
	annotations[annotationConfig] = configText(agentConfig(svc).Static())
	annotations["kubectl.kubernetes.io/default-container"] = names.EngineContainer
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      merged(labels, Labels(svc, ComponentMember)),
			Annotations: annotations,
		},
		Spec: corev1.PodSpec{
			ServiceAccountName:            names.AgentServiceAccount(svc.Name),
			AutomountServiceAccountToken:  ptr.To(true),
			EnableServiceLinks:            ptr.To(false),
			TerminationGracePeriodSeconds: ptr.To(ptr.Deref(t.TerminationGracePeriodSeconds, 30)),
			SecurityContext:               podSecurity(t.UserID),
			InitContainers:                []corev1.Container{installContainer(in)},
			Containers:                    []corev1.Container{engineContainer(in)},
			Volumes:                       volumes(in),
			ImagePullSecrets:              pullSecrets(t),
			NodeSelector:                  t.NodeSelector,
			Tolerations:                   t.Tolerations,
			PriorityClassName:             t.PriorityClassName,
			TopologySpreadConstraints:     spread(svc),
		},
	}
}

func podSecurity(user int64) *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot: ptr.To(true),
		RunAsUser:    ptr.To(user),
		RunAsGroup:   ptr.To(user),
		FSGroup:      ptr.To(user),
		// A volume that has the group already is left alone: PostgreSQL refuses data that its group may write, and a large one
		// would hold up the start of its pod.
		FSGroupChangePolicy: ptr.To(corev1.FSGroupChangeOnRootMismatch),
		SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func containerSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false),
		ReadOnlyRootFilesystem:   ptr.To(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

func pullSecrets(t v1alpha1.MemberTemplate) []corev1.LocalObjectReference {
	var out []corev1.LocalObjectReference
	for _, s := range t.ImagePullSecrets {
		out = append(out, corev1.LocalObjectReference{Name: s.Name})
	}
	return out
}

func spread(svc *v1alpha1.ReplicatedService) []corev1.TopologySpreadConstraint {
	host := corev1.ScheduleAnyway
	if p := svc.Spec.Placement; p != nil && p.Spread == v1alpha1.SpreadRequired {
		host = corev1.DoNotSchedule
	}
	constraint := func(key string, when corev1.UnsatisfiableConstraintAction) corev1.TopologySpreadConstraint {
		return corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: when,
			LabelSelector: &metav1.LabelSelector{MatchLabels: Selector(svc.Name)},
		}
	}
	return []corev1.TopologySpreadConstraint{
		constraint(corev1.LabelHostname, host),
		constraint(corev1.LabelTopologyZone, corev1.ScheduleAnyway),
	}
}
