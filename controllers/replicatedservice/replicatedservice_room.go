package replicatedservice

import (
	"context"
	"errors"
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

// fullVolume is one member's.
type fullVolume struct {
	member, claim string
	wire.Full
}

// watchRoom tells a person of volumes with hardly any room left, while there is still something to be done. It comes after what heals and
// rolls, which it does not hold up; the primary does not fail back meanwhile.
func (r *Reconciler) watchRoom(ctx context.Context, s *scope) error {
	var all error
	for _, v := range wantedSizes(s.svc.Spec.Storage) {
		full := fullVolumes(s, v.template)
		if len(full) == 0 {
			continue
		}
		var which []string
		for _, f := range full {
			which = append(which, fmt.Sprintf("%s (%s)", f.claim, f.Left()))
		}
		remedy, err := r.roomRemedy(ctx, s, v, full[0])
		all = errors.Join(all, err)
		s.problems = append(s.problems, Problem{Reason: v1alpha1.ReasonVolumeFull, Message: fmt.Sprintf(
			"%s: PersistentVolumeClaim %s is nearly full. When a volume is full, its engine refuses writes or ends: %s%s", v.field,
			strings.Join(which, ", "), remedy, elsewhere(s, full))})
	}
	return all
}

// fullVolumes are those of one claim template.
func fullVolumes(s *scope, template string) []fullVolume {
	var out []fullVolume
	for _, name := range s.memberNames() {
		status := s.reports[name].Live()
		if status == nil {
			continue
		}
		if i := slices.IndexFunc(status.Full, func(f wire.Full) bool { return f.Volume == template }); i >= 0 {
			out = append(out, fullVolume{member: name, claim: names.Claim(template, name), Full: status.Full[i]})
		}
	}
	return out
}

// roomRemedy is how a volume gets room.
func (r *Reconciler) roomRemedy(ctx context.Context, s *scope, v wantedSize, full fullVolume) (string, error) {
	claim := &corev1.PersistentVolumeClaim{}
	key := types.NamespacedName{Namespace: s.svc.Namespace, Name: full.claim}
	if err := r.Client.Get(ctx, key, claim); err != nil {
		return freeing(s), client.IgnoreNotFound(err)
	}
	has := claim.Status.Capacity[corev1.ResourceStorage]
	if has.Value() > 0 && full.Size > 2*has.Value() {
		return fmt.Sprintf("it shares a file system of %d MiB with others, perhaps node %s's own: free space there", full.Size>>20, nodeOf(s, full.member)), nil
	}
	grows, err := r.grows(ctx, claim)
	class := ptr.Deref(claim.Spec.StorageClassName, "")
	switch {
	case err != nil:
		return freeing(s), err
	case grows && has.Cmp(v.size) < 0:
		return fmt.Sprintf("it is to grow from %s to %s; see `kubectl describe pvc %s -n %s` if it does not", has.String(), v.size.String(), claim.Name, claim.Namespace), nil
	case grows:
		return fmt.Sprintf("raise %s, which is %s: StorageClass %q lets volumes grow; or %s", v.field, v.size.String(), class, freeing(s)), nil
	}
	return fmt.Sprintf("%s; or, since StorageClass %q does not let volumes grow, set allowVolumeExpansion: true on it if its driver can and raise %s, "+
		"or make a new service with larger volumes and move the data", freeing(s), class, v.field), nil
}

func nodeOf(s *scope, member string) string {
	if pod := s.pods[member]; pod != nil {
		return pod.Spec.NodeName
	}
	return ""
}

// freeing is how the engine gives space back. Nobody should look for files to delete.
func freeing(s *scope) string {
	if s.effective.Spec.Engine.PostgreSQL != nil {
		return "drop or truncate what is not needed (DELETE alone gives nothing back), and never touch files of pg_wal"
	}
	return "delete keys and rewrite the files (BGREWRITEAOF)"
}

// elsewhere is what else can be done: by the primary, to hand over to a member that has room; for a replica, to be made anew from the primary.
func elsewhere(s *scope, full []fullVolume) string {
	serving := s.server()
	if serving == nil {
		return ""
	}
	if !slices.ContainsFunc(full, func(f fullVolume) bool { return f.member == serving.Run.Member }) {
		return fmt.Sprintf(". What %s has more than the primary, such as what it kept aside in lost, goes when it is made anew: %s", full[0].member, rebuild(s, full[0].member))
	}
	for _, name := range s.memberNames() {
		if status := s.reports[name].Live(); status != nil && status.Eligible && len(status.Full) == 0 {
			return fmt.Sprintf(". Until then %s has room, and takes over when a Failover of type Switchover names it as its target", name)
		}
	}
	return ""
}
