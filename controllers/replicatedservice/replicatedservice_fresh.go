package replicatedservice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/apply"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
)

const (
	// freshAfter is for how long no node must have been there that reaches a volume, or the volume must have refused writes in a new pod, before its member
	// begins with a new one: a machine that is set up again under its name is there by then.
	freshAfter = 30 * time.Second

	reasonVolumeReplaced = "VolumeReplaced"
	reasonVolumeReleased = "VolumeReleased"
)

// replaceVolumes lets a member begin anew when the node that its volumes are on is gone for good, or they refuse writes. Its old volumes are kept:
// they are taken out of the reach of their storage class before their claims are deleted.
func (r *Reconciler) replaceVolumes(ctx context.Context, s *scope) error {
	if err := r.releaseKept(ctx, s); err != nil {
		return err
	}
	member := nextFresh(s)
	if member == "" {
		return nil
	}
	if may, _, err := r.mayDisrupt(ctx, s, member, r.stillWaits); !may || err != nil {
		return err // what fails from here on is tried again, for the same member
	}
	pod, volumes, why := s.pods[member], s.stranded[member], useOf(s, member)
	for _, v := range volumes {
		if err := r.keep(ctx, s, member, v); err != nil {
			return err
		}
	}
	for _, v := range volumes {
		at := client.Preconditions{UID: &v.claim.UID, ResourceVersion: &v.claim.ResourceVersion}
		if err := r.Client.Delete(ctx, v.claim, at); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting PersistentVolumeClaim %s of member %s: %w", v.claim.Name, member, err)
		}
	}
	if err := r.Client.Delete(ctx, pod, client.Preconditions{UID: &pod.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting pod %s, since %s: %w", member, why, err)
	}
	if s.memory.begunAnew == nil {
		s.memory.begunAnew = map[string]podSeen{}
	}
	s.memory.begunAnew[member] = podSeen{at: s.now, pod: pod.UID}
	delete(s.memory.remounted, member) // which was about another volume
	kept := strings.Join(volumeNames(volumes), ", ")
	ctrl.LoggerFrom(ctx).Info("a member begins anew with fresh volumes", "why", why, "pod", member, "uid", pod.UID, "kept", kept)
	r.Recorder.Eventf(s.svc, pod, corev1.EventTypeWarning, reasonVolumeReplaced, "Heal",
		"%s begins anew with fresh volumes, since %s; kept: PersistentVolume %s", member, why, kept)
	return nil
}

// useOf says why a member's volumes are of no use any more, as the end of a sentence.
func useOf(s *scope, member string) string {
	if wornOut(s, member) {
		return "its volume refuses writes, in a new pod too"
	}
	return "no node exists any more that reaches its old ones"
}

// stillWaits asks the API server whether a member's pod is on no node yet, and all others are as they were.
func (r *Reconciler) stillWaits(ctx context.Context, s *scope, member string) (bool, error) {
	pod := &corev1.Pod{}
	if err := r.Live.Get(ctx, types.NamespacedName{Namespace: s.svc.Namespace, Name: member}, pod); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if pod.UID != s.pods[member].UID || pod.DeletionTimestamp != nil || (!waitsForVolume(pod) && !wornOut(s, member)) {
		return false, nil
	}
	var now []strandedVolume
	for _, v := range s.stranded[member] {
		found := r.readVolume(ctx, v.claim)
		found.refuses = v.refuses
		now = append(now, found)
	}
	if !useless(now) {
		return false, nil
	}
	s.stranded[member] = now
	return r.asSeen(ctx, s, member)
}

// nextFresh is the member that begins anew with fresh volumes now.
func nextFresh(s *scope) string {
	for member := range s.memory.gone {
		if !beginsAnew(s, member) {
			delete(s.memory.gone, member)
		}
	}
	if len(s.problems) > 0 {
		return ""
	}
	for _, member := range s.memberNames() {
		if !beginsAnew(s, member) {
			continue
		}
		if left := freshAfter - s.now.Sub(goneSince(s, member)); left > 0 {
			s.lookIn(left)
			return "" // all others are well, so there is no second one
		}
		return member
	}
	return ""
}

// goneSince is since when the operator has seen that a member's volume is of no use, at each look.
func goneSince(s *scope, member string) time.Time {
	return firstSeen(&s.memory.gone, member, s.now)
}

// beginsAnew reports whether a member is to begin with fresh volumes by itself: what it had is on a node that is gone or on a volume that refuses writes, all
// other members are well, so that none of what clients were told is on its volumes alone, and the policy leaves such steps to the operator.
func beginsAnew(s *scope, member string) bool {
	pod := s.pods[member]
	if pod == nil || (!waitsForVolume(pod) && !wornOut(s, member)) || !useless(s.stranded[member]) || holds(s, member) || goes(s, member) {
		return false
	}
	if !undisturbed(s) || rollMode(s) != failover.ModeAutomatic {
		return false
	}
	for _, name := range s.memberNames() {
		if name != member && !sound(s, name) {
			return false
		}
	}
	return true
}

// keep takes a volume out of the reach of its class, and notes whose it was and what its reclaim policy has been.
func (r *Reconciler) keep(ctx context.Context, s *scope, member string, v strandedVolume) error {
	if v.volume == nil {
		return nil
	}
	holds := ""
	if len(readOnly(s, member)) > 0 {
		holds = spent(s, member)
	}
	done := v.volume.Annotations[keys.AnnotationReadOnly] == holds && v.volume.Labels[keys.LabelMember] == member && v.volume.Labels[keys.LabelServiceUID] == string(s.svc.UID)
	if done && v.volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRetain {
		return nil
	}
	kept := v.volume.DeepCopy()
	if kept.Labels == nil {
		kept.Labels = map[string]string{}
	}
	if kept.Annotations == nil {
		kept.Annotations = map[string]string{}
	}
	for key, value := range volumeLabels(client.ObjectKeyFromObject(s.svc), s.svc.UID) {
		kept.Labels[key] = value
	}
	kept.Labels[keys.LabelMember] = member
	if kept.Annotations[keys.AnnotationReclaim] == "" { // else it was kept before
		kept.Annotations[keys.AnnotationReclaim] = string(kept.Spec.PersistentVolumeReclaimPolicy)
	}
	if holds != "" {
		kept.Annotations[keys.AnnotationReadOnly] = holds
	}
	kept.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	patch := client.MergeFromWithOptions(v.volume, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, kept, patch, apply.FieldOwner); err != nil {
		return fmt.Errorf("keeping PersistentVolume %s of member %s: %w", kept.Name, member, err)
	}
	return nil
}

// releaseKept gives kept volumes back to their class: those of which a claim that is still there was not deleted in the end, so that they are in
// use; and where the retention says so, all others once the service is redundant without them.
func (r *Reconciler) releaseKept(ctx context.Context, s *scope) error {
	for i := range s.kept {
		volume := &s.kept[i]
		used, err := r.inUse(ctx, s, volume)
		if err != nil {
			return err
		}
		if !used && !releases(s, volume) {
			continue
		}
		if err := r.giveBack(ctx, volume); err != nil {
			return err
		}
		if !used {
			r.Recorder.Eventf(s.svc, nil, corev1.EventTypeNormal, reasonVolumeReleased, "Heal",
				"PersistentVolume %s, which %s had before it began anew, is no longer kept: all members are well, and storage.retention is Delete",
				volume.Name, volume.Labels[keys.LabelMember])
		}
	}
	return nil
}

// inUse asks the API server whether a kept volume is still the one of a member that runs: its phase alone may be behind.
func (r *Reconciler) inUse(ctx context.Context, s *scope, volume *corev1.PersistentVolume) (bool, error) {
	pod, of := s.pods[volume.Labels[keys.LabelMember]], volume.Spec.ClaimRef
	if volume.Status.Phase != corev1.VolumeBound || of == nil || pod == nil || pod.Spec.NodeName == "" || !claimOf(s.svc, pod.Name, of) {
		return false, nil // bound to another claim: somebody looks at what is on it
	}
	claim := &corev1.PersistentVolumeClaim{}
	if err := r.Live.Get(ctx, types.NamespacedName{Namespace: of.Namespace, Name: of.Name}, claim); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return claim.UID == of.UID && claim.DeletionTimestamp == nil, nil
}

// claimOf reports whether a claim is one of a member's own.
func claimOf(svc *v1alpha1.ReplicatedService, member string, of *corev1.ObjectReference) bool {
	return of.Namespace == svc.Namespace && slices.ContainsFunc(wantedSizes(svc.Spec.Storage), func(w wantedSize) bool {
		return of.Name == names.Claim(w.template, member)
	})
}

// releases reports whether a volume that nobody uses any more is to be kept no longer.
func releases(s *scope, volume *corev1.PersistentVolume) bool {
	wanted := s.svc.Spec.Storage != nil && s.svc.Spec.Storage.Retention == v1alpha1.DeleteVolumes
	return wanted && volume.Annotations[keys.AnnotationReadOnly] != volumeHolds && volume.Status.Phase == corev1.VolumeReleased && !s.paused() && s.server() != nil && redundant(s).ok
}

// giveBack undoes what keep did.
func (r *Reconciler) giveBack(ctx context.Context, volume *corev1.PersistentVolume) error {
	free := volume.DeepCopy()
	if before := free.Annotations[keys.AnnotationReclaim]; before != "" {
		free.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimPolicy(before)
	}
	delete(free.Annotations, keys.AnnotationReclaim)
	delete(free.Annotations, keys.AnnotationReadOnly)
	for _, label := range []string{keys.LabelService, keys.LabelNamespace, keys.LabelServiceUID, keys.LabelMember} {
		delete(free.Labels, label)
	}
	patch := client.MergeFromWithOptions(volume, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, free, patch, apply.FieldOwner); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("giving PersistentVolume %s back to its storage class: %w", volume.Name, err)
	}
	return nil
}

// readKept reads the volumes that the service's members had before they began anew.
func (r *Reconciler) readKept(ctx context.Context, s *scope) (err error) {
	s.kept, err = r.keptOf(ctx, s.svc)
	return err
}

func (r *Reconciler) keptOf(ctx context.Context, svc *v1alpha1.ReplicatedService) ([]corev1.PersistentVolume, error) {
	list := &corev1.PersistentVolumeList{}
	err := r.Client.List(ctx, list, client.MatchingLabels(volumeLabels(client.ObjectKeyFromObject(svc), svc.UID)))
	return list.Items, err
}

// volumeLabels tell whose a kept volume is. What a deleted service of the same name left is not its successor's.
func volumeLabels(service types.NamespacedName, uid types.UID) map[string]string {
	return map[string]string{keys.LabelService: service.Name, keys.LabelNamespace: service.Namespace, keys.LabelServiceUID: string(uid)}
}

// releaseAll gives all kept volumes of a service that is being deleted back, where its retention says so. Else they keep their labels, by which
// people find them.
func (r *Reconciler) releaseAll(ctx context.Context, svc *v1alpha1.ReplicatedService) error {
	if svc.Spec.Storage == nil || svc.Spec.Storage.Retention != v1alpha1.DeleteVolumes {
		return nil
	}
	kept, err := r.keptOf(ctx, svc)
	for i := range kept {
		of := kept[i].Spec.ClaimRef
		if kept[i].Status.Phase == corev1.VolumeBound && of != nil && !claimOf(svc, kept[i].Labels[keys.LabelMember], of) {
			continue // somebody looks at what is on it
		}
		err = errors.Join(err, r.giveBack(ctx, &kept[i]))
	}
	return err
}

// maxKept is how many of a member's kept volumes its status names, as the API allows.
const maxKept = 16

// keptVolumes are the names of those that one member had.
func keptVolumes(s *scope, member string) []string {
	var out []string
	for i := range s.kept {
		if v := &s.kept[i]; v.Labels[keys.LabelMember] == member && v.Status.Phase != corev1.VolumeBound {
			out = append(out, v.Name)
		}
	}
	slices.Sort(out)
	return out[:min(len(out), maxKept)]
}
