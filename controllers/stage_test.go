package controllers

import (
	"fmt"
	"strconv"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/lease"
	"understudy.dev/understudy/internal/members"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

// pod makes a member's pod, as the StatefulSet's controller and a kubelet would: an API server alone has neither.
func (s *stage) pod(service string, ordinal int, change ...func(*corev1.Pod)) *corev1.Pod {
	s.Helper()
	labels := workload.Selector(service)
	pod := &corev1.Pod{}
	pod.Name, pod.Labels = names.Member(service, ordinal), labels
	pod.Spec.NodeName = "node-" + strconv.Itoa(ordinal)
	pod.Spec.Containers = []corev1.Container{{Name: names.EngineContainer, Image: "redis:8"}}
	for _, f := range change {
		f(pod)
	}
	status := pod.Status
	s.create(pod)
	pod.Status = status
	ip := fmt.Sprintf("10.9.0.%d", ordinal+1)
	pod.Status.Phase, pod.Status.PodIP, pod.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
	if len(status.ContainerStatuses) == 0 {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: names.EngineContainer, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}
	}
	if err := api.Status().Update(s.ctx, pod); err != nil {
		s.Fatal(err)
	}
	return pod
}

// says lets a member tell its status.
func (s *stage) says(pod *corev1.Pod, change func(*wire.Status)) wire.Status {
	status := wire.Status{
		Run:      failover.Run{Member: pod.Name, PodUID: string(pod.UID), BootID: "boot"},
		Role:     string(v1alpha1.RoleReplica),
		State:    string(v1alpha1.MemberStarting),
		LagBytes: -1,
		Running:  true,
	}
	change(&status)
	cast.Set(s.key(pod.Labels[keys.LabelService]), members.Report{
		Target:    members.Target{Member: pod.Name, PodUID: string(pod.UID)},
		Connected: true, Tried: true, Status: &status,
	})
	return status
}

// silent lets the connection to a member end.
func (s *stage) silent(pod *corev1.Pod) {
	cast.Set(s.key(pod.Labels[keys.LabelService]), members.Report{
		Target: members.Target{Member: pod.Name, PodUID: string(pod.UID)}, Tried: true,
	})
}

func following(epoch failover.Epoch) func(*wire.Status) {
	return func(st *wire.Status) {
		st.Epoch, st.State, st.Eligible, st.LagBytes, st.HasData = epoch, string(v1alpha1.MemberFollowing), true, 10, true
	}
}

func serving(epoch failover.Epoch) func(*wire.Status) {
	return func(st *wire.Status) {
		st.Epoch, st.Role, st.State, st.Serving, st.HasData = epoch, string(v1alpha1.RolePrimary), string(v1alpha1.MemberServing), true, true
	}
}

// register reads the Lease.
func (s *stage) register(service string) failover.Lease {
	s.Helper()
	obj := &coordinationv1.Lease{}
	s.get(names.Lease(service), obj)
	out, err := lease.Read(obj)
	if err != nil {
		s.Fatal(err)
	}
	return out
}

// setRegister writes the Lease as an agent would.
func (s *stage) setRegister(service string, change func(*failover.Lease)) {
	s.Helper()
	s.retry(func() error {
		obj := &coordinationv1.Lease{}
		if err := api.Get(s.ctx, s.key(names.Lease(service)), obj); err != nil {
			return err
		}
		out, err := lease.Read(obj)
		if err != nil {
			return err
		}
		change(&out)
		if err := lease.Write(obj, out, obj.CreationTimestamp.Time); err != nil {
			return err
		}
		return api.Update(s.ctx, obj)
	})
}

func (s *stage) retry(f func() error) {
	s.Helper()
	s.eventually(func() string {
		if err := f(); err != nil {
			return err.Error()
		}
		return ""
	})
}

// route writes the primary's slice as an agent would.
func (s *stage) route(service string, epoch int64, pod *corev1.Pod) {
	s.Helper()
	s.retry(func() error {
		slice := &discoveryv1.EndpointSlice{}
		if err := api.Get(s.ctx, s.key(names.PrimarySlice(service, "ipv4")), slice); err != nil {
			return err
		}
		slice.Annotations[keys.AnnotationEpoch] = strconv.FormatInt(epoch, 10)
		slice.Endpoints = nil
		if e, ok := workload.Endpoint(pod, corev1.IPv4Protocol); ok {
			slice.Endpoints = append(slice.Endpoints, e)
		}
		return api.Update(s.ctx, slice)
	})
}

// change updates an object until no conflict is in the way.
func (s *stage) change(name string, obj client.Object, f func()) {
	s.Helper()
	s.retry(func() error {
		if err := api.Get(s.ctx, s.key(name), obj); err != nil {
			return err
		}
		f()
		return api.Update(s.ctx, obj)
	})
}

// serve brings a service of three to life: cache-0 serves epoch 1, the others follow.
func (s *stage) serve(service string, change ...func(*corev1.Pod)) []*corev1.Pod {
	s.Helper()
	s.exists(service, &v1alpha1.ReplicatedService{})
	pods := []*corev1.Pod{s.pod(service, 0, change...), s.pod(service, 1, change...), s.pod(service, 2, change...)}
	for _, pod := range pods {
		s.says(pod, func(*wire.Status) {})
	}
	s.eventually(func() string {
		obj := &coordinationv1.Lease{}
		if err := api.Get(s.ctx, s.key(names.Lease(service)), obj); err != nil {
			return err.Error()
		}
		if n := obj.Spec.LeaseTransitions; n == nil || *n != 1 {
			return "epoch 1 is not granted"
		}
		return ""
	})
	s.route(service, 1, pods[0])
	s.says(pods[0], serving(1))
	s.says(pods[1], following(1))
	s.says(pods[2], following(1))
	return pods
}

func inNamespace(name string) client.ListOption { return client.InNamespace(name) }
