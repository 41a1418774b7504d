package failover

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/wire"
)

var stepOrder = []v1alpha1.FailoverStep{
	v1alpha1.StepDetected, v1alpha1.StepPromised, v1alpha1.StepGranted,
	v1alpha1.StepConfirmed, v1alpha1.StepPromoted, v1alpha1.StepRouted,
}

func (r *Reconciler) write(ctx context.Context, fo *v1alpha1.Failover, next step) error {
	return r.writeFrom(ctx, fo, fo.DeepCopy(), next)
}

// writeFrom writes the status of after with what next says, if that differs from before.
func (r *Reconciler) writeFrom(ctx context.Context, before, after *v1alpha1.Failover, next step) error {
	if next.record != nil {
		fill(&after.Status, *next.record)
	} else if next.to != "" {
		after.Status.To = next.to
	}
	conclude(after, next, r.Now())
	if equality.Semantic.DeepEqual(before.Status, after.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, after, patch, apply.FieldOwner); err != nil {
		return client.IgnoreNotFound(err)
	}
	if next.outcome == failed {
		r.Recorder.Eventf(after, nil, corev1.EventTypeWarning, next.reason, "Failover", "%s", next.message)
	}
	return nil
}

// conclude sets the conditions; it is pure.
func conclude(fo *v1alpha1.Failover, next step, now time.Time) {
	fo.Status.ObservedGeneration = fo.Generation
	if next.outcome == succeeded && fo.Status.CompletionTime == nil {
		fo.Status.CompletionTime = &metav1.Time{Time: now}
	}
	set := func(kind string, holds bool) {
		status := metav1.ConditionFalse
		if holds {
			status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&fo.Status.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: next.reason, Message: next.message,
			ObservedGeneration: fo.Generation, LastTransitionTime: metav1.NewTime(now),
		})
	}
	set(v1alpha1.ConditionReady, next.outcome == succeeded)
	set(v1alpha1.ConditionReconciling, next.outcome == goesOn)
	set(v1alpha1.ConditionStalled, next.outcome == failed)
}

// fill copies the new primary's record into a status; it is pure.
func fill(status *v1alpha1.FailoverStatus, t wire.Takeover) {
	if status.Epoch != int64(t.Epoch) {
		status.BytesLost, status.BytesLostPrecision = nil, "" // of an epoch that never came
	}
	status.From, status.To, status.Epoch = t.From.Member, t.To.Member, int64(t.Epoch)
	status.Evidence = v1alpha1.EvidenceType(t.Evidence)
	if t.WallNanos > 0 {
		start := metav1.NewMicroTime(time.Unix(0, t.WallNanos).Truncate(time.Microsecond))
		status.StartTime = &start
	}
	// What the old primary told once stays, also when it is gone again.
	switch {
	case t.LossExact:
		status.BytesLost, status.BytesLostPrecision = ptr.To(max(t.BytesLost, 0)), v1alpha1.LossExact
	case status.BytesLostPrecision != v1alpha1.LossExact:
		status.BytesLost, status.BytesLostPrecision = ptr.To(max(t.BytesLost, ptr.Deref(status.BytesLost, 0), 0)), v1alpha1.LossAtLeast
	}
	status.Timeline = nil
	var last int64
	for name, nanos := range t.Steps {
		step := v1alpha1.FailoverStep(name)
		if !slices.Contains(stepOrder, step) {
			continue
		}
		status.Timeline = append(status.Timeline, v1alpha1.TimelineEntry{Step: step, ElapsedMicroseconds: ptr.To(max(nanos, 0) / 1000)})
		last = max(last, nanos)
	}
	slices.SortFunc(status.Timeline, func(a, b v1alpha1.TimelineEntry) int {
		return slices.Index(stepOrder, a.Step) - slices.Index(stepOrder, b.Step)
	})
	status.ElapsedMilliseconds = ptr.To((last + int64(time.Millisecond)/2) / int64(time.Millisecond))
}
