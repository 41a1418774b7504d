// Package peer has the pods of what our service is compared with.
package peer

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

const (
	// Label names the set that an object belongs to.
	Label = "app.kubernetes.io/name"
	// Members of a set, as many as our samples have.
	Members = 3
	// user of the server in the image.
	user = 999
)

// Pod is the name of one of a set's pods.
func Pod(set string, ordinal int) string { return fmt.Sprintf("%s-%d", set, ordinal) }

// Service gives one pod an address that it keeps, from before it is ready. Nobody has to resolve a name that way.
func Service(namespace, set string, ordinal int, ports map[string]int32) *corev1.Service {
	out := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: Pod(set, ordinal), Labels: map[string]string{Label: set}},
		Spec: corev1.ServiceSpec{
			Selector:                 map[string]string{appsv1.StatefulSetPodNameLabel: Pod(set, ordinal)},
			PublishNotReadyAddresses: true,
		},
	}
	for name, number := range ports {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{Name: name, Port: number, TargetPort: intstr.FromInt32(number)})
	}
	return out
}

// StatefulSet has one pod a node, each with a volume "data" of the class and size of our own sample and with the ConfigMap config.
func StatefulSet(namespace, set, config string, c corev1.Container) *appsv1.StatefulSet {
	labels := map[string]string{Label: set}
	gone := appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: set, Labels: labels},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](Members), ServiceName: set, PodManagementPolicy: appsv1.ParallelPodManagement,
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
						// As our pods have it: each system call costs a little more with it.
						SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					},
					Containers: []corev1.Container{c},
					Volumes: []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
						LocalObjectReference: corev1.LocalObjectReference{Name: config},
					}}}},
				},
			},
		},
	}
}
