package replicatedservice

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

// watchRoom tells a person of volumes with hardly any room left, while there is still something to be done. It comes after what heals and
// rolls, which it holds up no more than the volume itself does.
func (r *Reconciler) watchRoom(ctx context.Context, s *scope) error {
	for _, v := range wantedSizes(s.svc.Spec.Storage) {
		full, left := fullMembers(s, v.template)
		if len(full) == 0 {
			continue
		}
		remedy, err := r.roomRemedy(ctx, s, v, full)
		if err != nil {
			return err
		}
		s.problems = append(s.problems, Problem{Reason: v1alpha1.ReasonVolumeFull, Message: fmt.Sprintf(
			"%s: PersistentVolumeClaim %s: %s. When a volume is full, its engine refuses writes or ends: %s%s", v.field,
			strings.Join(claimsOf(v.template, full), ", "), left, remedy, withRoom(s, full))})
	}
	return nil
}

// fullMembers are those of whose volume of one template too little is left, and how much of the first one's.
func fullMembers(s *scope, template string) (full []string, left string) {
	for _, name := range s.memberNames() {
		status := s.reports[name].Live()
		if status == nil {
			continue
		}
		i := slices.IndexFunc(status.Full, func(f wire.Full) bool { return f.Volume == template })
		if i < 0 {
			continue
		}
		if full = append(full, name); len(full) == 1 {
			left = status.Full[i].String()
		}
	}
	return full, left
}

func claimsOf(template string, members []string) []string {
	var out []string
	for _, m := range members {
		out = append(out, names.Claim(template, m))
	}
	return out
}

// roomRemedy is how the first of the volumes gets room.
func (r *Reconciler) roomRemedy(ctx context.Context, s *scope, v wantedSize, full []string) (string, error) {
	claim := &corev1.PersistentVolumeClaim{}
	key := types.NamespacedName{Namespace: s.svc.Namespace, Name: names.Claim(v.template, full[0])}
	if err := r.Client.Get(ctx, key, claim); err != nil {
		return "free space in it", client.IgnoreNotFound(err)
	}
	grows, err := r.grows(ctx, claim)
	class := ptr.Deref(claim.Spec.StorageClassName, "")
	switch has := claim.Status.Capacity[corev1.ResourceStorage]; {
	case err != nil:
		return "", err
	case grows && has.Cmp(v.size) < 0:
		return fmt.Sprintf("it is to grow from %s to %s; see kubectl describe pvc %s -n %s if it does not", has.String(), v.size.String(), claim.Name, claim.Namespace), nil
	case grows:
		return fmt.Sprintf("raise %s, which is %s: StorageClass %q lets volumes grow; or remove data", v.field, v.size.String(), class), nil
	}
	return fmt.Sprintf("remove data, or, since StorageClass %q does not let volumes grow, set allowVolumeExpansion: true on it if its driver can and raise %s; "+
		"or make a new service with larger volumes and move the data", class, v.field), nil
}

// withRoom is, where it is the primary that has no room, who can take over and has some.
func withRoom(s *scope, full []string) string {
	serving := s.server()
	if serving == nil || !slices.Contains(full, serving.Run.Member) {
		return ""
	}
	for _, name := range s.memberNames() {
		if status := s.reports[name].Live(); status != nil && status.Eligible && len(status.Full) == 0 {
			return fmt.Sprintf(". Until then %s has room, and takes over when a Failover of type Switchover names it as its target", name)
		}
	}
	return ""
}
