//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/kube"
)

// nodeGone: a node is gone for good, and with it volumes that only it has. While it is only declared out of service, conditions name commands, with which
// one service's member comes back on another node. Once its Node is deleted, another service's member begins anew by itself, and its old volume is kept
// until the service is redundant without it.
func nodeGone(t *testing.T) {
	namespace := space(t, "gone")
	stored := func(name string) fixture {
		f := redis(t, namespace, func(obj *v1alpha1.ReplicatedService) {
			obj.Name = name
			obj.Spec.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("64Mi"), Retention: v1alpha1.DeleteVolumes}
		}).ready(t)
		f.mark(t)
		return f
	}
	asked, anew := stored("asked").scene(t), stored("anew").scene(t)
	node, askedMember, anewMember := withoutPrimaries(t, asked, anew)
	volume := volumeOf(t, namespace, anewMember)
	on := asked.f.off(t, node)
	untaint := cleanup(t, "taking the taint off", func(ctx context.Context) error { return client.IgnoreNotFound(taint(ctx, false, []string{node})) })
	must(t, taint(t.Context(), true, []string{node}))
	asked.madeAnew(t, askedMember, 3*time.Minute)
	asked.comesBackAsTold(t, askedMember, node)
	names(t, anew.f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonMemberStranded), anewMember, node, "is declared out of service")
	must(t, cluster.Delete(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}))
	anew.beginsAnew(t, anewMember, volume)
	anew.givesBack(t, volume)
	for _, s := range []scene{asked, anew} {
		if now := s.f.scene(t); now.primary.Epoch != s.primary.Epoch {
			t.Errorf("the epoch of %s is %d after %d", s.f.Service.Name, now.primary.Epoch, s.primary.Epoch)
		}
		s.f.marked(t)
	}
	on()
	untaint()
}

// withoutPrimaries finds a node with a replica of either service.
func withoutPrimaries(t *testing.T, a, b scene) (node, ofA, ofB string) {
	t.Helper()
	for _, ofA := range a.replicas {
		for _, ofB := range b.replicas {
			if a.node(ofA) == b.node(ofB) {
				return a.node(ofA), ofA, ofB
			}
		}
	}
	t.Fatalf("no node has a replica of both services: %v, %v", a.nodes(), b.nodes())
	return "", "", ""
}

func volumeOf(t *testing.T, namespace, member string) string {
	t.Helper()
	var claim corev1.PersistentVolumeClaim
	must(t, cluster.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "data-" + member}, &claim))
	return claim.Spec.VolumeName
}

// comesBackAsTold does what a stranded member's condition says.
func (s scene) comesBackAsTold(t *testing.T, member, node string) {
	t.Helper()
	message := s.f.condition(t, v1alpha1.ConditionStalled, v1alpha1.ReasonMemberStranded)
	names(t, message, member, node, "is declared out of service")
	_, rest, _ := strings.Cut(message, "`")
	commands, _, _ := strings.Cut(rest, "`")
	for command := range strings.SplitSeq(commands, " && ") {
		if out, err := kubectl(t, "", strings.Fields(command)[1:]...); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	begun := time.Now()
	must(t, s.f.Service.WaitHealthy(t.Context(), 2*time.Minute, false))
	t.Logf("%s is back on another node %s after the commands of its condition: %s", member, time.Since(begun).Round(100*time.Millisecond), commands)
}

// beginsAnew waits until a member is back with another volume, and its old one was kept.
func (s scene) beginsAnew(t *testing.T, member, volume string) {
	t.Helper()
	begun, keptAs := time.Now(), ""
	must(t, kube.UntilEvery(t.Context(), 3*time.Minute, 50*time.Millisecond, member+" to begin anew", func(ctx context.Context) (bool, string, error) {
		obj, err := s.f.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		for _, m := range obj.Status.Members {
			if m.Name == member && slices.Contains(m.KeptVolumes, volume) {
				var pv corev1.PersistentVolume
				err := cluster.Get(ctx, client.ObjectKey{Name: volume}, &pv)
				keptAs = string(pv.Spec.PersistentVolumeReclaimPolicy)
				return err == nil, "", err
			}
		}
		return false, fmt.Sprintf("%+v", obj.Status.Members), nil
	}))
	if keptAs != string(corev1.PersistentVolumeReclaimRetain) {
		t.Errorf("PersistentVolume %s is told as kept, and its reclaim policy is %s", volume, keptAs)
	}
	must(t, s.f.Service.WaitHealthy(t.Context(), 2*time.Minute, false))
	t.Logf("%s is back with a fresh volume after %s", member, time.Since(begun).Round(100*time.Millisecond))
	if now := volumeOf(t, s.f.namespace, member); now == volume {
		t.Errorf("%s has its old volume %s", member, volume)
	}
	s.tells(t, "VolumeReplaced", volume)
}

// givesBack waits until a kept volume is its class's again.
func (s scene) givesBack(t *testing.T, volume string) {
	t.Helper()
	must(t, kube.Until(t.Context(), 30*time.Second, "the old volume to be kept no longer", func(ctx context.Context) (bool, string, error) {
		var pv corev1.PersistentVolume
		err := cluster.Get(ctx, client.ObjectKey{Name: volume}, &pv)
		gone := apierrors.IsNotFound(err) // its provisioner was quick
		return gone || pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete, string(pv.Spec.PersistentVolumeReclaimPolicy), client.IgnoreNotFound(err)
	}))
	s.tells(t, "VolumeReleased", volume)
}

// tells waits for an event that names something.
func (s scene) tells(t *testing.T, reason, what string) {
	t.Helper()
	must(t, kube.Until(t.Context(), 10*time.Second, "an event "+reason+" that names "+what, func(ctx context.Context) (bool, string, error) {
		var events eventsv1.EventList
		err := cluster.List(ctx, &events, client.InNamespace(s.f.namespace))
		named := slices.ContainsFunc(events.Items, func(e eventsv1.Event) bool { return e.Reason == reason && strings.Contains(e.Note, what) })
		return named, fmt.Sprintf("%d events", len(events.Items)), err
	}))
}
