package failover

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/controllers/replicatedservice"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

// keepRecords is for how many epochs back the automatic Failovers of one service are kept.
const keepRecords = 20

// recorder makes a Failover of each change of primary that no Failover tells of yet. Its requests name services.
type recorder struct {
	*Reconciler
}

func (r *recorder) setup(mgr ctrl.Manager) error {
	changes := make(chan event.GenericEvent, 64)
	r.Members.Subscribe(replicatedservice.Feed(changes))
	return ctrl.NewControllerManagedBy(mgr).Named("failover-record").
		WatchesRawSource(source.Channel(changes, replicatedservice.Settled(replicatedservice.Itself))).
		Watches(&v1alpha1.Failover{}, handler.EnqueueRequestsFromMapFunc(serviceOf)).
		Complete(r)
}

func serviceOf(_ context.Context, obj client.Object) []reconcile.Request {
	fo, ok := obj.(*v1alpha1.Failover)
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: fo.Namespace, Name: fo.Spec.ServiceRef.Name}}}
}

// Reconcile looks at the records of one service's members.
func (r *recorder) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	service := &v1alpha1.ReplicatedService{}
	if err := r.Client.Get(ctx, req.NamespacedName, service); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !service.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	have, err := r.ofService(ctx, service.Namespace, service.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	have = slices.DeleteFunc(have, func(fo v1alpha1.Failover) bool { return replicatedservice.OfPredecessor(&fo, service) })
	takeovers, tales := r.takeovers(req, service)
	oldest := oldestKept(have, takeovers)
	for _, t := range takeovers {
		if int64(t.Epoch) < oldest {
			continue // it would be deleted again below
		}
		if err := r.record(ctx, service, have, t, tales[t.Epoch]); err != nil {
			return later(ctrl.Result{}, err)
		}
	}
	return later(ctrl.Result{}, r.trim(ctx, have, oldest))
}

// oldestKept is the epoch from which on records are kept. It depends on epochs alone, so that what members still report
// and what was recorded and deleted already give the same answer.
func oldestKept(have []v1alpha1.Failover, takeovers []wire.Takeover) int64 {
	var newest int64
	for i := range have {
		newest = max(newest, have[i].Status.Epoch)
	}
	for _, t := range takeovers {
		newest = max(newest, int64(t.Epoch))
	}
	return newest - keepRecords + 1
}

// takeovers that members report, the oldest first, and what is known of what was lost in them.
func (r *recorder) takeovers(req ctrl.Request, service *v1alpha1.ReplicatedService) ([]wire.Takeover, map[failover.Epoch]string) {
	var out []wire.Takeover
	served, lost := map[string]wire.Served{}, map[string]wire.Lost{}
	for _, report := range r.Members.Snapshot(req.NamespacedName) {
		status := report.Live()
		if status == nil {
			continue
		}
		out = append(out, status.Takeovers...)
		if status.Served != nil {
			served[status.Run.Member] = *status.Served
		}
		if status.Lost != nil {
			lost[status.Run.Member] = *status.Lost
		}
	}
	for i := range out {
		out[i].BytesLost = lossOf(out[i], served[out[i].From.Member])
	}
	out = slices.DeleteFunc(out, func(t wire.Takeover) bool { return t.Epoch < 2 || !routedAfter(&t) })
	slices.SortFunc(out, func(a, b wire.Takeover) int { return int(a.Epoch - b.Epoch) })
	return out, settleLoss(service, out, lost)
}

// lossOf is how much the old primary had that the new one lacks, as far as is known: the new one tells what it last heard,
// the old one, once it is back, how far it had come when it looked last.
func lossOf(t wire.Takeover, old wire.Served) int64 {
	if t.LossExact || t.Base.Inexact || old.Epoch == 0 || old.Epoch != t.Base.DataEpoch {
		return t.BytesLost
	}
	return max(t.BytesLost, old.Offset-t.Base.Offset)
}

// settleLoss takes in what members' data had that the next primary had not, when they rejoined. What the old primary itself had is all
// there was; a replica may have had less. It returns the sentences on that, by epoch.
func settleLoss(service *v1alpha1.ReplicatedService, takeovers []wire.Takeover, lost map[string]wire.Lost) map[failover.Epoch]string {
	tales := map[failover.Epoch]string{}
	for _, member := range slices.Sorted(maps.Keys(lost)) {
		l := lost[member]
		t := replicatedservice.EndOf(l.Epoch, takeovers)
		if t == nil {
			continue
		}
		switch {
		case t.LossExact:
		case l.Primary && member == t.From.Member:
			t.BytesLost, t.LossExact = l.Bytes, true
		default:
			t.BytesLost = max(t.BytesLost, l.Bytes)
		}
		if l.Bytes > 0 {
			tales[t.Epoch] += "; " + replicatedservice.TellLost(service, member, l, t)
		}
	}
	return tales
}

// record makes the Failover of a takeover, or brings the one that tells of it up to date: what was lost is often known
// only when the old primary is back.
func (r *recorder) record(ctx context.Context, service *v1alpha1.ReplicatedService, have []v1alpha1.Failover, t wire.Takeover, tale string) error {
	name := fmt.Sprintf("%s-%d", service.Name, t.Epoch)
	for i := range have {
		fo := &have[i]
		begun := fo.Name == name && fo.Spec.Type == v1alpha1.TypeAutomatic // its status was not written yet
		if fo.Status.Epoch != int64(t.Epoch) && !begun {
			continue
		}
		if fo.Spec.Type != v1alpha1.TypeAutomatic && !replicatedservice.Over(fo) {
			return nil // its own controller completes it
		}
		return r.write(ctx, fo, completed(t, cmp.Or(tale, toldBefore(fo, t))))
	}
	fo := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: service.Namespace, Labels: workload.Labels(service, "failover"),
			OwnerReferences: []metav1.OwnerReference{workload.Owner(service)},
		},
		Spec: v1alpha1.FailoverSpec{ServiceRef: v1alpha1.LocalReference{Name: service.Name}, Type: v1alpha1.TypeAutomatic},
	}
	if err := r.Client.Create(ctx, fo, apply.FieldOwner); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return nil // the cache does not show it yet; its event brings us back
		}
		return fmt.Errorf("recording epoch %d: %w", t.Epoch, err)
	}
	ctrl.LoggerFrom(ctx).Info("a failover was recorded", "failover", name, "from", t.From.Member, "to", t.To.Member, "evidence", t.Evidence)
	return r.write(ctx, fo, completed(t, tale))
}

func completed(t wire.Takeover, tale string) step {
	return step{outcome: succeeded, reason: v1alpha1.ReasonCompleted, record: &t, to: t.To.Member, message: outcomeOf(t) + tale}
}

func outcomeOf(t wire.Takeover) string {
	return fmt.Sprintf("%s is the primary of epoch %d", t.To.Member, t.Epoch)
}

// toldBefore is what was told of the loss while who knows of it was there.
func toldBefore(fo *v1alpha1.Failover, t wire.Takeover) string {
	c := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionReady)
	if c == nil {
		return ""
	}
	tale, same := strings.CutPrefix(c.Message, outcomeOf(t)+"; ")
	if !same {
		return ""
	}
	return "; " + tale
}

// trim deletes the records of epochs before the oldest kept, and the operator's own requests of such epochs. What people
// created is theirs.
func (r *recorder) trim(ctx context.Context, have []v1alpha1.Failover, oldest int64) error {
	for i := range have {
		fo := &have[i]
		if epoch := keptFor(fo); epoch == 0 || epoch >= oldest || !fo.DeletionTimestamp.IsZero() {
			continue
		}
		if err := r.Client.Delete(ctx, fo); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting the record %s: %w", fo.Name, err)
		}
	}
	return nil
}

// keptFor is the epoch with whose record a Failover goes; 0: it stays until somebody deletes it.
func keptFor(fo *v1alpha1.Failover) int64 {
	asked := replicatedservice.AskedIn(fo)
	switch {
	case fo.Spec.Type == v1alpha1.TypeAutomatic:
		return fo.Status.Epoch
	case asked > 0 && replicatedservice.Over(fo):
		return asked + 1
	}
	return 0
}
