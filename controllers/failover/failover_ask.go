package failover

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/controllers/replicatedservice"
)

// askFor is how long the primary may take to answer: it first waits until the target has everything.
const askFor = 20 * time.Second

// ask first writes down which epoch is to come, so that a restarted operator knows what it began, and then asks.
func (r *Reconciler) ask(ctx context.Context, s *scope, next step) (ctrl.Result, error) {
	fo, from := s.fo, s.register.Holder.Member
	begun := fo
	if !next.repeated {
		var err error
		if begun, err = r.begin(ctx, s, next); err != nil {
			return ctrl.Result{}, err
		}
		r.Recorder.Eventf(s.service, begun, corev1.EventTypeNormal, "HandoverRequested", "Handover",
			"Failover %s asks %s to hand over", fo.Name, from)
	}
	limited, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	reply, err := r.Members.Handover(limited, s.serviceKey(), from, *next.ask)
	log := ctrl.LoggerFrom(ctx)
	switch {
	case err != nil:
		// Whether it heard us is not known: what the members report decides, and while it serves on it is asked again.
		log.Info("the primary did not answer", "member", from, "reason", err.Error())
		return ctrl.Result{RequeueAfter: time.Second}, nil
	case reply.Refused && (next.repeated || replicatedservice.AskedIn(fo) > 0) && overtaken(reply.Reason):
		log.Info("the primary hands over already", "member", from, "reason", reply.Reason)
		return ctrl.Result{RequeueAfter: time.Second}, nil
	case reply.Refused:
		log.Info("the primary refused to hand over", "member", from, "reason", reply.Reason)
		refused := begun.DeepCopy()
		refused.Status.Epoch = 0
		failure := fails(v1alpha1.ReasonHandoverFailed, "%s refused to hand over and serves on: %s", from, sentence(reply.Reason, reply.Message))
		return ctrl.Result{}, r.writeFrom(ctx, begun, refused, failure)
	}
	r.answered.Store(fo.UID, true)
	log.Info("the primary released its right", "member", from, "target", reply.Target)
	return ctrl.Result{RequeueAfter: time.Second}, nil
}

// begin writes down from whom and to which epoch the change goes.
func (r *Reconciler) begin(ctx context.Context, s *scope, next step) (*v1alpha1.Failover, error) {
	begun := s.fo.DeepCopy()
	begun.Status.From, begun.Status.Epoch = s.register.Holder.Member, int64(s.register.Epoch)+1
	return begun, r.writeFrom(ctx, s.fo, begun, next)
}

// assert writes down which epoch is to come and hands the word on. A member that is not reached now hears it from the
// candidate, whose requests carry its reasons.
func (r *Reconciler) assert(ctx context.Context, s *scope, next step) (ctrl.Result, error) {
	fo, from := s.fo, s.register.Holder.Member
	begun, err := r.begin(ctx, s, next)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.Recorder.Eventf(s.service, begun, corev1.EventTypeWarning, "AssertedDead", "Failover", "Failover %s says that %s is dead", fo.Name, from)
	var all error
	for _, name := range s.register.Terms.Names() {
		if status := s.reports[name].Live(); status != nil && status.Run != s.register.Holder {
			all = errors.Join(all, r.Members.SendProof(s.serviceKey(), name, *next.assert))
		}
	}
	return ctrl.Result{RequeueAfter: time.Second}, all
}

func sentence(reason, message string) string {
	if message == "" {
		return reason
	}
	return fmt.Sprintf("%s (%s)", message, reason)
}
