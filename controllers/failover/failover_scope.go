package failover

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/lease"
	"understudy.dev/understudy/internal/members"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

// scope is one look at a Failover.
type scope struct {
	now      time.Time
	fo       *v1alpha1.Failover
	service  *v1alpha1.ReplicatedService // nil: there is none
	register *failover.Lease             // as the API server has it now; nil: there is none
	reports  map[string]members.Report
	others   []v1alpha1.Failover // of the same service
	answered bool                // the primary said that it released its right
}

func (s *scope) serviceKey() types.NamespacedName {
	return types.NamespacedName{Namespace: s.fo.Namespace, Name: s.fo.Spec.ServiceRef.Name}
}

func (s *scope) deadline() time.Time {
	seconds := s.fo.Spec.DeadlineSeconds
	if seconds == 0 {
		seconds = 30
	}
	return s.fo.CreationTimestamp.Add(time.Duration(seconds) * time.Second)
}

func (r *Reconciler) gather(ctx context.Context, fo *v1alpha1.Failover) (*scope, error) {
	s := &scope{now: r.Now(), fo: fo, reports: map[string]members.Report{}}
	service := &v1alpha1.ReplicatedService{}
	err := r.Client.Get(ctx, s.serviceKey(), service)
	if apierrors.IsNotFound(err) { // the cache may be behind, as when both were made by one manifest, and an order without a service ends for good
		err = r.Live.Get(ctx, s.serviceKey(), service)
	}
	if apierrors.IsNotFound(err) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.service = service
	for _, report := range r.Members.Snapshot(s.serviceKey()) {
		s.reports[report.Member] = report
	}
	if s.others, err = r.ofService(ctx, fo.Namespace, service.Name); err != nil {
		return nil, err
	}
	s.register, err = r.readLease(ctx, service)
	return s, err
}

// readLease asks the API server itself: an order to hand over names the epoch that is to end.
func (r *Reconciler) readLease(ctx context.Context, service *v1alpha1.ReplicatedService) (*failover.Lease, error) {
	obj := &coordinationv1.Lease{}
	err := r.Live.Get(ctx, types.NamespacedName{Namespace: service.Namespace, Name: names.Lease(service.Name)}, obj)
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if owner := metav1.GetControllerOf(obj); owner == nil || owner.UID != service.UID {
		return nil, nil
	}
	register, err := lease.Read(obj)
	return &register, err
}

// holder is the live status of the Lease's holder; nil when it is not connected.
func (s *scope) holder() *wire.Status {
	status := s.reports[s.register.Holder.Member].Live()
	if status == nil || status.Run != s.register.Holder {
		return nil
	}
	return status
}

// takeover is the record of an epoch, if a member reports it.
func (s *scope) takeover(epoch int64) *wire.Takeover {
	for _, report := range s.reports {
		if report.Status == nil {
			continue
		}
		for i := range report.Status.Takeovers {
			if int64(report.Status.Takeovers[i].Epoch) == epoch {
				return &report.Status.Takeovers[i]
			}
		}
	}
	return nil
}
