package replicatedservice

import (
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/lease"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

// abandoned is a service of which cache-2 waits for a volume whose node does not exist any more.
func abandoned(change ...func(*scope)) *scope {
	s := strandedScene(newerConflict, func(s *scope) {
		s.stranded["cache-2"][0].gone, s.stranded["cache-2"][0].volume = true, localVolume("old", "node-3")
		s.effective = s.svc.DeepCopy()
		s.memory.gone = map[string]time.Time{"cache-2": noon.Add(-freshAfter)}
	})
	for _, f := range change {
		f(s)
	}
	return s
}

// localVolume is a volume that one node has.
func localVolume(name, node string) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "1"}}
	v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "data-cache-2", UID: "uid-claim"}
	v.Spec.NodeAffinity = onlyOn(corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{in(corev1.LabelHostname, node)}})
	v.Status.Phase = corev1.VolumeBound
	return v
}

func onlyOn(terms ...corev1.NodeSelectorTerm) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: terms}}
}

func in(key string, values ...string) corev1.NodeSelectorRequirement {
	return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
}

// A member begins anew by itself only where nothing but its own copy is missing and nothing else is under way; else a person is told.
func TestBeginsAnew(t *testing.T) {
	volume := func(f func(*strandedVolume)) func(*scope) { return func(s *scope) { f(&s.stranded["cache-2"][0]) } }
	for name, c := range map[string]struct {
		change func(*scope)
		begins bool
	}{
		"its node is gone":               {func(*scope) {}, true},
		"its volume was deleted":         {volume(func(v *strandedVolume) { v.volume = nil }), true},
		"its node is there":              {volume(func(v *strandedVolume) { v.gone = false }), false},
		"its volume cannot be looked at": {volume(func(v *strandedVolume) { v.err = errors.ErrUnsupported }), false},
		"another volume is unknown": {func(s *scope) {
			s.stranded["cache-2"] = append(s.stranded["cache-2"], strandedVolume{claim: s.stranded["cache-2"][0].claim, err: errors.ErrUnsupported})
		}, false},
		"another volume is elsewhere": {func(s *scope) {
			s.stranded["cache-2"] = append(s.stranded["cache-2"], strandedVolume{claim: s.stranded["cache-2"][0].claim})
		}, true},
		"it is on a node":                {func(s *scope) { s.pods["cache-2"].Spec.NodeName = "node-1" }, false},
		"another member is not well":     {func(s *scope) { silence(s, "cache-1") }, false},
		"nobody serves":                  {func(s *scope) { silence(s, "cache-0") }, false},
		"it is the Lease's holder":       {func(s *scope) { s.register.Holder = runOf("cache-2") }, false},
		"the route leads elsewhere":      {func(s *scope) { lead(s, 3, "cache-1") }, false},
		"members are being changed":      {func(s *scope) { s.register.Terms.Next = s.register.Terms.Members }, false},
		"the mode is Manual":             {func(s *scope) { s.register.Terms.Mode = failover.ModeManual }, false},
		"the service is paused":          {func(s *scope) { s.svc.Spec.State = v1alpha1.StatePaused }, false},
		"it is to go":                    {func(s *scope) { two := int32(2); s.svc.Spec.Replicas = &two }, false},
		"something is to be put right":   {func(s *scope) { s.problems = []Problem{{Reason: "Any"}} }, false},
		"another vote is not its pod's":  {func(s *scope) { s.register.Terms.Members[1].Pod = "another" }, false},
		"the members were not asked yet": {func(s *scope) { delete(s.reports, "cache-1") }, false},
		"a switchover is under way": {func(s *scope) {
			s.failovers = []v1alpha1.Failover{{ObjectMeta: metav1.ObjectMeta{Name: "f"}, Spec: v1alpha1.FailoverSpec{Type: v1alpha1.TypeSwitchover}}}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := abandoned(c.change)
			if got := nextFresh(s) == "cache-2"; got != c.begins {
				t.Errorf("begins anew: %t, want %t", got, c.begins)
			}
			told := len(strandedProblems(s)) > 0
			if waits := s.pods["cache-2"].Spec.NodeName == "" && s.count() == 3; told == c.begins && waits {
				t.Errorf("begins anew: %t, a person is asked: %t", c.begins, told)
			}
			if (len(s.waiting) > 0) != c.begins {
				t.Errorf("what is waited for: %v", s.waiting)
			}
		})
	}
}

// A node may be set up again under its name.
func TestBeginsAnewInAWhile(t *testing.T) {
	s := abandoned(func(s *scope) { s.memory.gone["cache-2"] = noon.Add(time.Second - freshAfter) })
	if member := nextFresh(s); member != "" || !s.next.Equal(noon.Add(time.Second)) {
		t.Errorf("%q begins anew now, looked at again at %s", member, s.next)
	}
	s.stranded["cache-2"][0].gone = false // its node was there meanwhile
	nextFresh(s)
	s.stranded["cache-2"][0].gone, s.now, s.next = true, noon.Add(time.Second), time.Time{}
	if member := nextFresh(s); member != "" || !s.next.Equal(s.now.Add(freshAfter)) {
		t.Errorf("%q begins anew though its node was there a moment ago, looked at again at %s", member, s.next)
	}
}

// What makes a volume one node's, and whether a node reaches it.
func TestGoneWithNode(t *testing.T) {
	node := func(name string, labels ...string) client.Object {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
		for i := 0; i < len(labels); i += 2 {
			n.Labels[labels[i]] = labels[i+1]
		}
		return n
	}
	expression := func(e ...corev1.NodeSelectorRequirement) *corev1.VolumeNodeAffinity {
		return onlyOn(corev1.NodeSelectorTerm{MatchExpressions: e})
	}
	field := onlyOn(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{in("metadata.name", "b")}})
	for name, c := range map[string]struct {
		affinity *corev1.VolumeNodeAffinity
		madeFor  string
		gone     bool
	}{
		"its node is gone":                    {expression(in(corev1.LabelHostname, "b")), "", true},
		"a node of its is there":              {expression(in(corev1.LabelHostname, "a", "b")), "", false},
		"by the node's name":                  {field, "", true},
		"the one it was made for is there":    {expression(in(corev1.LabelHostname, "b")), "a", false},
		"the one it was made for is gone too": {expression(in(corev1.LabelHostname, "b")), "b", true},
		"a driver's own key":                  {expression(in("topology.example.test/node", "b")), "b", true},
		"a location of several nodes":         {expression(in("csi.example.test/location", "b")), "b", false},
		"every node reaches it":               {nil, "b", false},
		"a zone reaches it":                   {expression(in(corev1.LabelTopologyZone, "z")), "b", false},
		"a zone by a driver's key":            {expression(in("topology.example.test/zone", "z")), "b", false},
		"one of several terms is a zone": {onlyOn(corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{in(corev1.LabelHostname, "b")}},
			corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{in(corev1.LabelTopologyZone, "z")}}), "b", false},
		"all but some nodes": {expression(corev1.NodeSelectorRequirement{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpNotIn, Values: []string{"a"}}), "b", false},
		"a node of one zone": {expression(in(corev1.LabelHostname, "b"), in(corev1.LabelTopologyZone, "z")), "b", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Reconciler{Live: fake.NewClientBuilder().WithObjects(node("a", corev1.LabelTopologyZone, "y")).Build()}
			volume := localVolume("old", "b")
			volume.Spec.NodeAffinity = c.affinity
			if gone, err := r.goneWithNode(t.Context(), volume, c.madeFor); err != nil || gone != c.gone {
				t.Errorf("gone: %t (%v), want %t", gone, err, c.gone)
			}
		})
	}
}

// freshStage has what replaceVolumes reads and writes.
func freshStage(t *testing.T, s *scope) (*Reconciler, client.Client) {
	t.Helper()
	register := workload.Lease(s.svc)
	if err := lease.Write(register, *s.register, noon); err != nil {
		t.Fatal(err)
	}
	claim, volume := s.stranded["cache-2"][0].claim, s.stranded["cache-2"][0].volume
	claim.Namespace, claim.UID, claim.ResourceVersion, claim.Spec.VolumeName = "default", "uid-claim", "1", volume.Name
	objects := []client.Object{register, claim.DeepCopy(), volume.DeepCopy()}
	for _, pod := range s.pods {
		pod.Namespace, pod.Labels = "default", workload.Selector("cache")
		objects = append(objects, pod.DeepCopy())
	}
	known := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(known), v1alpha1.AddToScheme(known)); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(known).WithObjects(objects...).WithStatusSubresource(&corev1.PersistentVolume{}).Build()
	return &Reconciler{Client: c, Live: c, Recorder: events.NewFakeRecorder(10)}, c
}

func get[T client.Object](t *testing.T, c client.Client, name string, into T) (T, bool) {
	t.Helper()
	err := c.Get(t.Context(), types.NamespacedName{Namespace: into.GetNamespace(), Name: name}, into)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return into, err == nil
}

// oldVolume reads the old volume, and lets the scope know of it as the cache would.
func oldVolume(t *testing.T, s *scope, c client.Client) *corev1.PersistentVolume {
	t.Helper()
	volume, _ := get(t, c, "old", &corev1.PersistentVolume{})
	s.kept = []corev1.PersistentVolume{*volume}
	return volume
}

// A member's old volume outlives its claim, whatever its class says, and goes back to its class once nobody needs it, where that is asked for.
func TestReplaceVolumes(t *testing.T) {
	s := abandoned()
	r, c := freshStage(t, s)
	if err := r.replaceVolumes(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if _, there := get(t, c, "data-cache-2", &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}}); there {
		t.Error("the claim is still there")
	}
	if _, there := get(t, c, "cache-2", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}}); there {
		t.Error("the pod is still there")
	}
	volume := oldVolume(t, s, c)
	if volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain || volume.Labels[keys.LabelNamespace] != "default" {
		t.Fatalf("the volume is not kept: %+v", volume)
	}
	volume.Status.Phase = corev1.VolumeReleased
	if err := c.Status().Update(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	oldVolume(t, s, c)
	if got := keptVolumes(s, "cache-2"); !slices.Equal(got, []string{"old"}) {
		t.Errorf("the status names %v", got)
	}
	release := func(when string, released bool) {
		t.Helper()
		if err := r.releaseKept(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if _, labelled := oldVolume(t, s, c).Labels[keys.LabelMember]; labelled == released {
			t.Errorf("%s: released %t", when, !labelled)
		}
	}
	release("the retention is Retain", false)
	s.svc.Spec.Storage.Retention = v1alpha1.DeleteVolumes
	release("the member is not well yet", false)
	say(s, "cache-2", func(st *wire.Status) { st.Epoch, st.State, st.Eligible, st.LagBytes = 3, "Following", true, 0 })
	release("all are well", true)
	if volume := oldVolume(t, s, c); volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete || len(volume.Annotations) > 0 {
		t.Errorf("it is not as it was: %+v", volume)
	}
}

// What the API server says now counts: a pod that got its node, or a claim that was changed, is let alone.
func TestReplaceVolumesReadsLive(t *testing.T) {
	for name, change := range map[string]func(*testing.T, client.Client){
		"the pod got its node": func(t *testing.T, c client.Client) {
			pod, _ := get(t, c, "cache-2", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}})
			pod.Spec.NodeName = "node-3"
			if err := c.Update(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
		},
		"its node is back": func(t *testing.T, c client.Client) {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-3", Labels: map[string]string{corev1.LabelHostname: "node-3"}}}
			if err := c.Create(t.Context(), node); err != nil {
				t.Fatal(err)
			}
		},
		"another pod ended": func(t *testing.T, c client.Client) {
			pod, _ := get(t, c, "cache-1", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}})
			if err := c.Delete(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := abandoned()
			r, c := freshStage(t, s)
			change(t, c)
			if err := r.replaceVolumes(t.Context(), s); err != nil || !s.retry {
				t.Errorf("%v, looked at again: %t", err, s.retry)
			}
			if _, there := get(t, c, "data-cache-2", &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}}); !there {
				t.Error("the claim was deleted")
			}
			if volume := oldVolume(t, s, c); len(volume.Labels) > 0 {
				t.Errorf("the volume was changed: %+v", volume)
			}
		})
	}
}

// A kept volume whose claim was not deleted in the end, and which the member uses again, is no longer out of the reach of its class. One whose phase only
// lags behind is, and one that a person bound to another claim, to look at what is on it.
func TestKeptVolumeInUse(t *testing.T) {
	for name, c := range map[string]struct {
		claim string
		uid   types.UID
		given bool
	}{
		"of the same claim":       {"data-cache-2", "uid-claim", true},
		"of a claim that is gone": {"data-cache-2", "uid-earlier", false},
		"of a person's claim":     {"rescue", "uid-rescue", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := abandoned()
			r, api := freshStage(t, s)
			rescue := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "rescue", UID: "uid-rescue"}}
			if err := errors.Join(r.keep(t.Context(), s, "cache-2", s.stranded["cache-2"][0]), api.Create(t.Context(), rescue)); err != nil {
				t.Fatal(err)
			}
			volume := oldVolume(t, s, api)
			volume.Spec.ClaimRef.Name, volume.Spec.ClaimRef.UID = c.claim, c.uid
			if err := api.Update(t.Context(), volume); err != nil {
				t.Fatal(err)
			}
			oldVolume(t, s, api)
			s.pods["cache-2"].Spec.NodeName = "node-1"
			if err := r.releaseKept(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if _, labelled := oldVolume(t, s, api).Labels[keys.LabelMember]; labelled == c.given {
				t.Errorf("kept: %t", labelled)
			}
		})
	}
}

// What a deleted service left is not its successor's of the same name.
func TestKeptVolumesOfAPredecessor(t *testing.T) {
	s := abandoned()
	r, api := freshStage(t, s)
	if err := r.keep(t.Context(), s, "cache-2", s.stranded["cache-2"][0]); err != nil {
		t.Fatal(err)
	}
	svc := s.svc.DeepCopy()
	svc.Spec.Storage.Retention = v1alpha1.DeleteVolumes
	if kept, err := r.keptOf(t.Context(), svc); err != nil || len(kept) != 1 {
		t.Errorf("the service has %d kept volumes (%v)", len(kept), err)
	}
	svc.UID = "another"
	if kept, err := r.keptOf(t.Context(), svc); err != nil || len(kept) != 0 {
		t.Errorf("its successor has %d kept volumes (%v)", len(kept), err)
	}
	if err := r.releaseAll(t.Context(), svc); err != nil || oldVolume(t, s, api).Labels[keys.LabelMember] == "" {
		t.Errorf("the successor's end gave the volume back (%v)", err)
	}
}
