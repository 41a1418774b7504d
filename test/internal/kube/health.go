package kube

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/test/internal/resp"
)

// redisPort is the default; the tests use no other.
const redisPort = 6379

// WaitHealthy waits until the service could take the next fault: its conditions say so, unless the operator is off,
// and the agents and engines say so themselves.
func (s Service) WaitHealthy(ctx context.Context, within time.Duration, operatorOff bool) error {
	what := fmt.Sprintf("service %s/%s to be available, redundant and able to fail over", s.Namespace, s.Name)
	return Until(ctx, within, what, func(ctx context.Context) (bool, string, error) {
		obj, err := s.Object(ctx)
		if err != nil {
			return false, "", err
		}
		if failing := Failing(obj); failing != "" && !operatorOff {
			return false, failing, nil
		}
		members := 3
		if obj.Spec.Replicas != nil {
			members = int(*obj.Spec.Replicas)
		}
		pods, problem, err := s.podsReady(ctx, members)
		if problem != "" || err != nil {
			return false, problem, err
		}
		primary, err := s.Primary(ctx)
		if err != nil {
			return false, "", err
		}
		if primary.Routed != primary.Epoch || len(primary.Address) != 1 {
			return false, fmt.Sprintf("the Lease says epoch %d, the EndpointSlice epoch %d with addresses %v",
				primary.Epoch, primary.Routed, primary.Address), nil
		}
		if problem, err := s.membersReady(ctx, pods, primary); problem != "" || err != nil {
			return false, problem, err
		}
		if obj.Spec.Engine.Redis == nil {
			return true, "", nil
		}
		problem, err = s.replicasOnline(ctx, primary.Member, members-1)
		return problem == "" && err == nil, problem, err
	})
}

// WaitEvictable waits until the service's budget allows an eviction, which it does a while after all is well.
func (s Service) WaitEvictable(ctx context.Context, within time.Duration) error {
	what := fmt.Sprintf("the budget of service %s/%s to allow an eviction", s.Namespace, s.Name)
	return UntilEvery(ctx, within, 100*time.Millisecond, what, func(ctx context.Context) (bool, string, error) {
		var budget policyv1.PodDisruptionBudget
		err := s.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: s.Name}, &budget)
		current := budget.Status.ObservedGeneration == budget.Generation
		return current && budget.Status.DisruptionsAllowed > 0, fmt.Sprintf("%+v", budget.Status), err
	})
}

// Pods of the members.
func (s Service) Pods(ctx context.Context) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := s.List(ctx, &pods, client.InNamespace(s.Namespace), client.MatchingLabels{keys.LabelService: s.Name}); err != nil {
		return nil, fmt.Errorf("listing the pods of service %s/%s: %w", s.Namespace, s.Name, err)
	}
	return pods.Items, nil
}

// podsReady names the pods that are ready, or says that some are not.
func (s Service) podsReady(ctx context.Context, want int) (ready []string, problem string, err error) {
	pods, err := s.Pods(ctx)
	if err != nil {
		return nil, "", err
	}
	for i := range pods {
		if pods[i].DeletionTimestamp == nil && PodReady(&pods[i]) {
			ready = append(ready, pods[i].Name)
		}
	}
	if len(ready) < want {
		return nil, fmt.Sprintf("%d of %d pods are ready", len(ready), want), nil
	}
	return ready, "", nil
}

// PodReady says whether the kubelet found the pod ready.
func PodReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// replicasOnline asks the primary's engine itself.
func (s Service) replicasOnline(ctx context.Context, member string, want int) (string, error) {
	info, err := s.Redis(ctx, member, "INFO", "replication")
	if err != nil {
		return "", err
	}
	text, _ := info.(string)
	if !strings.Contains(text, "role:master") {
		return "the engine of " + member + " is not a primary", nil
	}
	if online := strings.Count(text, "state=online"); online < want {
		return fmt.Sprintf("%d of %d replicas follow %s", online, want, member), nil
	}
	return "", nil
}

// Redis runs one command in a member's engine.
func (s Service) Redis(ctx context.Context, member string, command ...string) (any, error) {
	password, err := s.Password(ctx)
	if err != nil {
		return nil, err
	}
	address, stop, err := s.Forward(ctx, s.Namespace, member, redisPort)
	if err != nil {
		return nil, err
	}
	defer stop()
	conn, err := resp.Dial(ctx, address, 2*time.Second, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("connecting to the engine of %s/%s: %w", s.Namespace, member, err)
	}
	defer conn.Close()
	if _, err := conn.Do("AUTH", password); err != nil {
		return nil, fmt.Errorf("authenticating with the engine of %s/%s: %w", s.Namespace, member, err)
	}
	answer, err := conn.Do(command...)
	if err != nil {
		return nil, fmt.Errorf("running %s in the engine of %s/%s: %w", command[0], s.Namespace, member, err)
	}
	return answer, nil
}
