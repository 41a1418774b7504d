//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	naming "understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/kube"
)

// testLease: the Lease that says who may write is nobody's to edit, and one that is removed all the same is made anew above
// every epoch that was, while the primary serves on.
func testLease(t *testing.T) {
	t.Parallel()
	f := redis(t, space(t, "lease"), nil).ready(t)
	f.mark(t)
	before, err := f.Service.Primary(t.Context())
	must(t, err)
	lease := naming.Lease(f.Service.Name)
	for _, c := range []struct{ patch, want string }{
		{`{"spec":{"leaseTransitions":0}}`, "never falls"},
		{`{"spec":{"holderIdentity":"cache-2_x_y"}}`, "create a Failover"},
		{`{"metadata":{"labels":{"ha.understudy.dev/service":null}}}`, "create a Failover"},
		{`{"metadata":{"annotations":{"ha.understudy.dev/lease":"{}"}}}`, "create a Failover"},
	} {
		out, err := kubectl(t, "", "patch", "lease", lease, "-n", f.namespace, "--type", "merge", "-p", c.patch)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("patching the Lease with %s: want a refusal with %q, have %v\n%s", c.patch, c.want, err, out)
		}
	}
	_, err = kubectl(t, "", "delete", "lease", lease, "-n", f.namespace, "--wait=false")
	must(t, err)
	if out, err := kubectl(t, "", "patch", "lease", lease, "-n", f.namespace, "--type", "merge", "-p", `{"metadata":{"finalizers":null}}`); err != nil {
		t.Fatalf("taking the Lease's finalizer off: %v\n%s", err, out)
	}
	what := fmt.Sprintf("the Lease to be made anew above epoch %d", before.Epoch)
	must(t, kube.Until(t.Context(), time.Minute, what, func(ctx context.Context) (bool, string, error) {
		var obj coordinationv1.Lease
		err := cluster.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: lease}, &obj)
		if apierrors.IsNotFound(err) {
			return false, "it is gone", nil
		}
		epoch := int64(0)
		if obj.Spec.LeaseTransitions != nil {
			epoch = int64(*obj.Spec.LeaseTransitions)
		}
		return err == nil && epoch > before.Epoch && obj.DeletionTimestamp == nil, fmt.Sprintf("epoch %d", epoch), err
	}))
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	after, err := f.Service.Primary(t.Context())
	must(t, err)
	if after.Member != before.Member || after.Epoch <= before.Epoch {
		t.Errorf("%s in epoch %d before, %s in epoch %d after: the primary that serves is named again", before.Member, before.Epoch, after.Member, after.Epoch)
	}
	f.marked(t)
}
