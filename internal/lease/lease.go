// Package lease translates between the Lease object and what internal/failover decides on.
package lease

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
)

// Read takes the register out of a Lease object.
func Read(obj *coordinationv1.Lease) (failover.Lease, error) {
	out := failover.Lease{Version: obj.ResourceVersion}
	if n := obj.Spec.LeaseTransitions; n != nil {
		out.Epoch = failover.Epoch(*n)
	}
	if h := obj.Spec.HolderIdentity; h != nil {
		run, err := failover.ParseRun(*h)
		if err != nil {
			return failover.Lease{}, fmt.Errorf("reading Lease %s/%s: holderIdentity: %w", obj.Namespace, obj.Name, err)
		}
		out.Holder = run
	}
	raw, ok := obj.Annotations[keys.AnnotationLease]
	if !ok {
		return failover.Lease{}, fmt.Errorf("reading Lease %s/%s: annotation %s is missing", obj.Namespace, obj.Name, keys.AnnotationLease)
	}
	if err := json.Unmarshal([]byte(raw), &out.Terms); err != nil {
		return failover.Lease{}, fmt.Errorf("reading Lease %s/%s: annotation %s: %w", obj.Namespace, obj.Name, keys.AnnotationLease, err)
	}
	return out, nil
}

// Write puts the register into a Lease object; the object's resourceVersion is set to the one the register was read
// under, so that an update succeeds only if nobody wrote meanwhile.
func Write(obj *coordinationv1.Lease, l failover.Lease, now time.Time) error {
	if l.Epoch < 0 || l.Epoch > math.MaxInt32 {
		return fmt.Errorf("writing Lease %s/%s: epoch %d does not fit leaseTransitions", obj.Namespace, obj.Name, l.Epoch)
	}
	raw, err := json.Marshal(l.Terms)
	if err != nil {
		return fmt.Errorf("writing Lease %s/%s: %w", obj.Namespace, obj.Name, err)
	}
	old, _ := Read(obj)
	if obj.Annotations == nil {
		obj.Annotations = map[string]string{}
	}
	obj.Annotations[keys.AnnotationLease] = string(raw)
	obj.ResourceVersion = l.Version
	epoch, holder := int32(l.Epoch), l.Holder.String()
	seconds := int32(max(1, (l.Terms.LeaseMillis+999)/1000))
	obj.Spec.LeaseTransitions = &epoch
	obj.Spec.LeaseDurationSeconds = &seconds
	obj.Spec.HolderIdentity = &holder
	if holder == "" {
		obj.Spec.HolderIdentity = nil
	}
	if stamp := metav1.NewMicroTime(now); old.Epoch != l.Epoch || old.Holder != l.Holder || obj.Spec.AcquireTime == nil {
		obj.Spec.AcquireTime, obj.Spec.RenewTime = &stamp, &stamp
	}
	return nil
}
