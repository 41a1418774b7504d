package replicatedservice

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/policy"
	"understudy.dev/understudy/internal/workload"
)

// missingFor is how long pods may be missing before a person is told.
const missingFor = 30 * time.Second

// Problem is something only a person can put right. The message names the field or object, and the remedy.
type Problem struct {
	Reason, Message string
	// Blocking problems keep the operator from making or changing objects; what runs goes on running.
	Blocking bool
}

func unsupported(format string, args ...any) Problem {
	return Problem{Reason: v1alpha1.ReasonFieldNotSupported, Message: fmt.Sprintf(format, args...)}
}

// effective returns the service with every field that cannot be changed once it runs taken from what runs, and a
// problem for each such field that was changed nevertheless.
func effective(svc *v1alpha1.ReplicatedService, set *appsv1.StatefulSet) (*v1alpha1.ReplicatedService, []Problem) {
	out := svc.DeepCopy()
	problems := engineProblems(svc)
	if svc.Spec.Engine.Custom != nil {
		out.Spec.Engine = v1alpha1.EngineSpec{Redis: &v1alpha1.RedisSpec{}}
	}
	if set == nil {
		return out, problems
	}
	engine := workload.EngineOf(svc)
	switch name, port := running(set); {
	case name == "":
	case name != engine.Name:
		problems = append(problems, Problem{Reason: v1alpha1.ReasonEngineNotSupported, Blocking: true, Message: fmt.Sprintf(
			"spec.engine cannot be changed once the service exists: %s goes on running; set it back, or make a new service", name)})
		out.Spec.Engine = engineOf(name, port)
	case port != engine.Port:
		problems = append(problems, unsupported(
			"%s cannot be changed once the service exists: it stays %d; set it back", engine.Field("port"), port))
		setPort(&out.Spec.Engine, port)
	}
	return out, append(problems, storageProblems(out, set)...)
}

func engineProblems(svc *v1alpha1.ReplicatedService) []Problem {
	var out []Problem
	if svc.Spec.Engine.Custom != nil {
		out = append(out, Problem{Reason: v1alpha1.ReasonEngineNotSupported, Blocking: true, Message: "spec.engine.custom cannot be run by this version " +
			"yet: use spec.engine.redis or spec.engine.postgresql"})
	}
	return out
}

// storageProblems puts back what a StatefulSet cannot change. The size in its templates stays too, and is no problem: the volumes
// themselves grow.
func storageProblems(svc *v1alpha1.ReplicatedService, set *appsv1.StatefulSet) []Problem {
	storage := svc.Spec.Storage
	if storage == nil {
		return nil
	}
	var out []Problem
	for _, claim := range set.Spec.VolumeClaimTemplates {
		field, size, class := "spec.storage", &storage.Size, &storage.StorageClassName
		if claim.Name == names.WALVolume {
			if storage.WAL == nil {
				continue // the API server refuses to remove it
			}
			field, size, class = "spec.storage.wal", &storage.WAL.Size, &storage.WAL.StorageClassName
		}
		*size = claim.Spec.Resources.Requests[corev1.ResourceStorage]
		if runs := ptr.Deref(claim.Spec.StorageClassName, ""); runs != ptr.Deref(*class, "") {
			out = append(out, unsupported(
				"%s.storageClassName cannot be changed once the service exists: it stays %q; set it back", field, runs))
			*class = claim.Spec.StorageClassName
		}
	}
	return out
}

// running is the engine of the pods that a StatefulSet makes, and its port.
func running(set *appsv1.StatefulSet) (engine string, port int32) {
	for _, c := range set.Spec.Template.Spec.Containers {
		for _, p := range c.Ports {
			if c.Name == names.EngineContainer && slices.Contains(workload.EngineNames(), p.Name) {
				return p.Name, p.ContainerPort
			}
		}
	}
	return "", 0
}

func engineOf(name string, port int32) v1alpha1.EngineSpec {
	spec := v1alpha1.EngineSpec{Redis: &v1alpha1.RedisSpec{}}
	if name != "redis" {
		spec = v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{}}
	}
	setPort(&spec, port)
	return spec
}

func setPort(spec *v1alpha1.EngineSpec, port int32) {
	if spec.Redis != nil {
		spec.Redis.Port = port
	} else if spec.PostgreSQL != nil {
		spec.PostgreSQL.Port = port
	}
}

func policyProblems(s *scope) []Problem {
	ref := s.svc.Spec.FailoverPolicyRef
	if ref == nil {
		return nil
	}
	if !s.known {
		return []Problem{{Reason: v1alpha1.ReasonPolicyNotFound, Message: fmt.Sprintf(
			"spec.failoverPolicyRef.name: FailoverPolicy %q does not exist in namespace %s: create it, or correct or remove the reference. "+
				"A service that runs keeps the terms it has", ref.Name, s.svc.Namespace)}}
	}
	var out []Problem
	for _, field := range policy.Unsupported(s.policy, declared(s.svc)) {
		out = append(out, unsupported("FailoverPolicy %s: %s", ref.Name, field))
	}
	return out
}

var imageReasons = []string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}

// podProblems are what only the pods show.
func podProblems(s *scope) []Problem {
	var out []Problem
	for _, name := range s.memberNames() {
		pod := s.pods[name]
		if pod == nil {
			continue
		}
		if pod.Spec.HostNetwork {
			out = append(out, Problem{Reason: v1alpha1.ReasonPodRefused, Message: fmt.Sprintf(
				"pod %s has hostNetwork, which something in the cluster added: members of several services on one node would share addresses, "+
					"so its agent refuses to run. Exempt the namespace or the label %s from that webhook, then delete the pod", name, "ha.understudy.dev/service")})
		}
		if message := imageProblem(pod); message != "" {
			out = append(out, Problem{Reason: v1alpha1.ReasonImageNotFound, Message: message})
		}
	}
	return append(firstOfEach(out), missingProblems(s)...)
}

// imageProblem says what is wrong with a pod's images; the init container's comes from the operator, not from the user.
func imageProblem(pod *corev1.Pod) string {
	for _, c := range pod.Status.InitContainerStatuses {
		if w := c.State.Waiting; w != nil && slices.Contains(imageReasons, w.Reason) {
			return fmt.Sprintf("pod %s: the agent's image %q cannot be pulled (%s): make it available on node %s, or correct the operator's --agent-image",
				pod.Name, image(pod.Spec.InitContainers, c), w.Reason, pod.Spec.NodeName)
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil && slices.Contains(imageReasons, w.Reason) {
			return fmt.Sprintf("spec.template.image %q cannot be pulled for pod %s (%s): correct the image or spec.template.imagePullSecrets; pods whose engine never ran are then replaced",
				image(pod.Spec.Containers, c), pod.Name, w.Reason)
		}
	}
	return ""
}

func image(containers []corev1.Container, status corev1.ContainerStatus) string {
	for _, c := range containers {
		if c.Name == status.Name {
			return c.Image
		}
	}
	return status.Image
}

// firstOfEach keeps one problem a reason: three pods with the same trouble are one trouble.
func firstOfEach(problems []Problem) []Problem {
	var out []Problem
	seen := map[string]bool{}
	for _, p := range problems {
		if !seen[p.Reason] {
			seen[p.Reason] = true
			out = append(out, p)
		}
	}
	return out
}

// missingProblems reports pods that do not appear: usually an admission webhook or a quota refuses them.
func missingProblems(s *scope) []Problem {
	var missing []string
	for _, name := range s.memberNames() {
		if s.pods[name] == nil {
			missing = append(missing, name)
		}
	}
	if s.set == nil || len(missing) == 0 {
		s.memory.missing = time.Time{}
		return nil
	}
	if s.memory.missing.IsZero() {
		s.memory.missing = s.now
	}
	if since := s.now.Sub(s.memory.missing); since < missingFor {
		s.lookIn(missingFor - since)
		return nil
	}
	return []Problem{{Reason: v1alpha1.ReasonPodRefused, Message: fmt.Sprintf(
		"pod %s does not exist for more than %d s: something refuses it (a quota, a webhook, pod security); see the events of StatefulSet %s with "+
			"`kubectl describe statefulset %s -n %s`", strings.Join(missing, ", "), int(missingFor.Seconds()), s.svc.Name, s.svc.Name, s.svc.Namespace)}}
}
