package replicatedservice

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/workload"
)

// switchover is one that the operator asks for by itself.
type switchover struct {
	kind   string // of requests, a part of their names
	reason string
	target string // empty: the best candidate
}

// requestName is the beginning of the names of the requests of one kind in one epoch; their number follows. Whoever looks again,
// or another operator, gives the next one the same name, so that there are never two.
func requestName(s *scope, kind string) string {
	return fmt.Sprintf("%s-%s-%d-", s.svc.Name, kind, s.register.Epoch)
}

// requests says how often a kind of switchover was asked for in this epoch, and which was the last.
func requests(s *scope, kind string) (count int, last v1alpha1.Failover) {
	for _, fo := range s.failovers {
		number, ok := strings.CutPrefix(fo.Name, requestName(s, kind))
		if n, err := strconv.Atoi(number); ok && err == nil && n > count {
			count, last = n, fo
		}
	}
	return count, last
}

// Over reports whether a Failover reached its end, one way or the other.
func Over(fo *v1alpha1.Failover) bool {
	return meta.IsStatusConditionTrue(fo.Status.Conditions, v1alpha1.ConditionReady) ||
		meta.IsStatusConditionTrue(fo.Status.Conditions, v1alpha1.ConditionStalled)
}

// failure is why a Failover failed, for people; empty: it has not.
func failure(fo v1alpha1.Failover) string {
	if c := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionStalled); c != nil && c.Status == metav1.ConditionTrue {
		return c.Message
	}
	return ""
}

// askForSwitchover makes a Failover that means the primary of this epoch and no later one. It returns nil when there is one of
// that name, which the cache does not show yet.
func (r *Reconciler) askForSwitchover(ctx context.Context, s *scope, q switchover) (*v1alpha1.Failover, error) {
	count, _ := requests(s, q.kind)
	labels := maps.Clone(workload.Labels(s.svc, "failover"))
	labels[keys.LabelReason] = q.reason
	fo := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.svc.Namespace, Name: requestName(s, q.kind) + strconv.Itoa(count+1), Labels: labels,
			Annotations:     map[string]string{keys.AnnotationAsked: strconv.FormatInt(int64(s.register.Epoch), 10)},
			OwnerReferences: []metav1.OwnerReference{workload.Owner(s.svc)},
		},
		Spec: v1alpha1.FailoverSpec{
			ServiceRef: v1alpha1.LocalReference{Name: s.svc.Name}, Type: v1alpha1.TypeSwitchover, Target: q.target,
		},
	}
	if err := r.Client.Create(ctx, fo, apply.FieldOwner); err != nil {
		if apierrors.IsAlreadyExists(err) {
			s.retry = true
			return nil, nil
		}
		return nil, fmt.Errorf("asking the primary of %s to hand over (%s): %w", s.svc.Name, q.reason, err)
	}
	s.failovers = append(s.failovers, *fo)
	return fo, nil
}

// AskedIn is the epoch whose primary a Failover of the operator's means; 0 for one that a person created.
func AskedIn(fo *v1alpha1.Failover) int64 {
	epoch, err := strconv.ParseInt(fo.Annotations[keys.AnnotationAsked], 10, 64)
	if err != nil || fo.Labels[keys.LabelReason] == "" {
		return 0
	}
	return epoch
}

// askedLately says that the primary was asked in vain, not long ago, and when it is asked again, for people; empty: it may be asked.
func askedLately(s *scope, kind string) string {
	failures, last := requests(s, kind)
	if failures == 0 {
		return ""
	}
	left := pauseAfter(failures) - s.now.Sub(last.CreationTimestamp.Time)
	if left <= 0 {
		return ""
	}
	s.lookIn(left)
	return "it is asked again to hand over in a while: " + failure(last)
}

// pauseAfter is how long to wait before a primary is asked again, longer after each failure.
func pauseAfter(failures int) time.Duration {
	const longest = time.Hour
	pause := handoverPause << min(failures-1, 10)
	return min(pause, longest)
}
