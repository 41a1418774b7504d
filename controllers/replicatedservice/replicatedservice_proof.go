package replicatedservice

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

const (
	// statusUnknown is what a kubelet writes when it could not find a container: a guess, no proof.
	statusUnknown = "ContainerStatusUnknown"
	// proofAgain is how often proof is looked for and sent while the holder does not serve.
	proofAgain = time.Second
)

// sendProof hands the members what only the API server shows, while the Lease's holder does not serve: that its container
// has ended, that its node was declared out of service, and pods that can never start again.
func (r *Reconciler) sendProof(ctx context.Context, s *scope) error {
	if s.register == nil || s.register.Epoch == 0 || s.paused() {
		return nil
	}
	holder := s.register.Holder
	if status := s.reports[holder.Member].Live(); status != nil && status.Run == holder && status.Serving {
		return nil
	}
	s.lookIn(proofAgain)
	proof, err := r.proofs(ctx, s)
	s.gone = proof.Gone
	if err != nil || (len(proof.Evidence) == 0 && len(proof.Gone) == 0) {
		return err
	}
	var all error
	for _, name := range s.register.Terms.Names() {
		if s.reports[name].Live() != nil {
			all = errors.Join(all, r.Members.SendProof(s.key(), name, proof))
		}
	}
	ctrl.LoggerFrom(ctx).Info("members were handed proof", "evidence", proof.Evidence, "gone", proof.Gone)
	return all
}

// proofs looks in the cache and believes only what the API server says now.
func (r *Reconciler) proofs(ctx context.Context, s *scope) (wire.Proof, error) {
	proof := wire.Proof{Gone: map[string]string{}}
	holder := s.register.Holder
	for _, name := range s.register.Terms.Names() {
		cached := s.pods[name]
		if cached == nil {
			continue // a pod that vanished proves nothing: forced deletion removes the object, not the process
		}
		ofHolder := name == holder.Member && string(cached.UID) == holder.PodUID
		silent := s.reports[name].Live() == nil
		if worthALook := finished(cached) || silent || (ofHolder && terminated(cached, holder)); !worthALook {
			continue
		}
		pod := &corev1.Pod{}
		key := types.NamespacedName{Namespace: s.svc.Namespace, Name: name}
		if err := r.Live.Get(ctx, key, pod); err != nil {
			if client.IgnoreNotFound(err) != nil {
				return proof, err
			}
			continue
		}
		if pod.UID != cached.UID {
			continue
		}
		out, err := r.outOfService(ctx, s, pod)
		if err != nil {
			return proof, err
		}
		if finished(pod) || out {
			proof.Gone[name] = string(pod.UID)
		}
		switch {
		case ofHolder && terminated(pod, holder):
			proof.Evidence = append(proof.Evidence, failover.Evidence{Kind: failover.ContainerTerminated, Run: holder})
		case ofHolder && out:
			proof.Evidence = append(proof.Evidence, failover.Evidence{Kind: failover.NodeOutOfService, Run: holder, Epoch: s.register.Epoch})
		}
	}
	return proof, nil
}

// terminated reports whether the pod shows that very run's container as ended. The agent writes its run into the
// container's termination message when it starts, so the message says whose end this is.
func terminated(pod *corev1.Pod, run failover.Run) bool {
	if string(pod.UID) != run.PodUID {
		return false
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.Name != names.EngineContainer {
			continue
		}
		for _, t := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
			if t != nil && t.Reason != statusUnknown && t.Message == run.String() {
				return true
			}
		}
	}
	return false
}

// outOfService reports whether somebody declared the pod's node dead after this epoch began, and nothing contradicts it.
func (r *Reconciler) outOfService(ctx context.Context, s *scope, pod *corev1.Pod) (bool, error) {
	if pod.Spec.NodeName == "" || !s.register.Terms.Accepts(failover.NodeOutOfService) {
		return false, nil
	}
	node := &corev1.Node{}
	if err := r.Live.Get(ctx, types.NamespacedName{Name: pod.Spec.NodeName}, node); err != nil {
		return false, client.IgnoreNotFound(err) // a Node object that was deleted proves nothing either
	}
	lease, err := r.liveLease(ctx, s.svc)
	if err != nil || lease == nil || lease.Spec.AcquireTime == nil {
		return false, err
	}
	return declaredDead(node, pod, lease.Spec.AcquireTime.Time, s.now, s.register.Terms.WaitDuration()), nil
}

// declaredDead: the node stopped being Ready after the epoch began, longer than a lease ago, and the taint is newer than the
// epoch. kubectl taint writes no timeAdded; such a taint counts where it evicts the pod, and did so after the epoch began.
func declaredDead(node *corev1.Node, pod *corev1.Pod, epochBegan, now time.Time, wait time.Duration) bool {
	silent := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue && c.LastTransitionTime.After(epochBegan) && now.Sub(c.LastTransitionTime.Time) > wait
	})
	return silent && slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		switch {
		case t.Key != corev1.TaintNodeOutOfService:
			return false
		case t.TimeAdded != nil:
			return t.TimeAdded.After(epochBegan)
		default:
			return t.Effect == corev1.TaintEffectNoExecute && evictedAfter(pod, epochBegan)
		}
	})
}

// evictedAfter reports whether the pod was asked to end, and not before an instant. One that tolerates the taint never is.
func evictedAfter(pod *corev1.Pod, at time.Time) bool {
	if pod.DeletionTimestamp == nil {
		return false
	}
	grace := time.Duration(ptr.Deref(pod.DeletionGracePeriodSeconds, 0)) * time.Second
	return pod.DeletionTimestamp.Add(-grace).After(at)
}
