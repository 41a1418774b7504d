package controllers

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
	"understudy.dev/understudy/internal/workload"
)

// class makes a StorageClass, whose name is the test's own: it has no namespace.
func (s *stage) class(grows bool) *storagev1.StorageClass {
	s.Helper()
	c := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}, Provisioner: "example.test/none", AllowVolumeExpansion: &grows}
	if err := api.Create(s.ctx, c); err != nil {
		s.Fatal(err)
	}
	return c
}

// claim makes a member's bound claim, as the StatefulSet's controller and a provisioner would.
func (s *stage) claim(template, service string, ordinal int, class, size string) *corev1.PersistentVolumeClaim {
	s.Helper()
	has := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: names.Claim(template, names.Member(service, ordinal)), Labels: workload.Selector(service)},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: has},
		},
	}
	s.create(c)
	c.Status.Phase, c.Status.Capacity = corev1.ClaimBound, has
	if err := api.Status().Update(s.ctx, c); err != nil {
		s.Fatal(err)
	}
	return c
}

func (s *stage) asks(claim, size string) {
	s.Helper()
	s.eventually(func() string {
		c := &corev1.PersistentVolumeClaim{}
		s.get(claim, c)
		if got := c.Spec.Resources.Requests.Storage().String(); got != size {
			return claim + " asks for " + got + ", not for " + size
		}
		return ""
	})
}

func persistent(s *stage) *v1alpha1.ReplicatedService {
	svc := redis("db")
	svc.Spec.Engine = v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{}}
	svc.Spec.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi"), StorageClassName: &s.namespace,
		WAL: &v1alpha1.WALStorageSpec{Size: resource.MustParse("1Gi"), StorageClassName: &s.namespace}}
	return svc
}

// TestVolumesGrow: with the spec, each of them, and the StatefulSet's template stays as it must.
func TestVolumesGrow(t *testing.T) {
	s := newStage(t)
	s.class(true)
	svc := persistent(s)
	s.create(svc)
	for i := range 3 {
		s.claim("data", "db", i, s.namespace, "1Gi")
		s.claim("wal", "db", i, s.namespace, "1Gi")
	}
	s.serve("db")
	s.healthy("db")
	s.change("db", svc, func() {
		svc.Spec.Storage.Size, svc.Spec.Storage.WAL.Size = resource.MustParse("2Gi"), resource.MustParse("3Gi")
	})
	for _, member := range []string{"db-0", "db-1", "db-2"} {
		s.asks("data-"+member, "2Gi")
		s.asks("wal-"+member, "3Gi")
	}
	s.condition("db", v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonProgressing, "volume data-db-0 to grow from 1Gi to 2Gi")
	set := &appsv1.StatefulSet{}
	s.get("db", set)
	for _, c := range set.Spec.VolumeClaimTemplates {
		if got := c.Spec.Resources.Requests.Storage().String(); got != "1Gi" {
			t.Errorf("the template %s asks for %s", c.Name, got)
		}
	}
	// The storage gives what was asked for, but for one volume.
	for _, member := range []string{"db-0", "db-1", "db-2"} {
		for template, size := range map[string]string{"data": "2Gi", "wal": "3Gi"} {
			c := &corev1.PersistentVolumeClaim{}
			s.change(names.Claim(template, member), c, func() {})
			c.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
			if template == "wal" && member == "db-1" {
				c.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
				c.Status.Conditions = []corev1.PersistentVolumeClaimCondition{{
					Type: corev1.PersistentVolumeClaimControllerResizeError, Status: corev1.ConditionTrue, Message: "the pool is full",
				}}
			}
			if err := api.Status().Update(s.ctx, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.stalled("db", v1alpha1.ReasonVolumeCannotGrow, "spec.storage.wal.size", "wal-db-1", "the pool is full")
	s.stillAvailable("db")
	c := &corev1.PersistentVolumeClaim{}
	s.change("wal-db-1", c, func() {})
	c.Status.Capacity, c.Status.Conditions = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("3Gi")}, nil
	if err := api.Status().Update(s.ctx, c); err != nil {
		t.Fatal(err)
	}
	s.condition("db", v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNotStalled)
	s.condition("db", v1alpha1.ConditionReconciling, metav1.ConditionFalse, v1alpha1.ReasonReconciled)
	// A claim made anew from the old template grows like the others.
	s.change("data-db-2", c, func() { c.Finalizers = nil })
	if err := api.Delete(s.ctx, c); err != nil {
		t.Fatal(err)
	}
	s.claim("data", "db", 2, s.namespace, "1Gi")
	s.asks("data-db-2", "2Gi")
}

// TestVolumesThatCannotGrow: the class is named, with the remedy, and the service goes on.
func TestVolumesThatCannotGrow(t *testing.T) {
	s := newStage(t)
	class := s.class(false)
	svc := persistent(s)
	s.create(svc)
	s.claim("data", "db", 0, s.namespace, "1Gi")
	s.serve("db")
	s.healthy("db")
	s.change("db", svc, func() {
		svc.Spec.Storage.Size = resource.MustParse("2Gi")
		svc.Spec.Template.NodeSelector = map[string]string{"disk": "fast"}
	})
	s.stalled("db", v1alpha1.ReasonVolumeCannotGrow, "spec.storage.size", "data-db-0", "1Gi", "2Gi", class.Name, "allowVolumeExpansion")
	s.stillAvailable("db")
	s.eventually(func() string {
		set := &appsv1.StatefulSet{}
		s.get("db", set)
		if set.Spec.Template.Spec.NodeSelector["disk"] != "fast" {
			return "the rest of the change is not carried out"
		}
		return ""
	})
	class.AllowVolumeExpansion = ptr.To(true)
	if err := api.Update(s.ctx, class); err != nil {
		t.Fatal(err)
	}
	s.change("db", svc, func() { svc.Spec.Template.NodeSelector = nil }) // a look, which would come in a minute
	s.asks("data-db-0", "2Gi")
}

// TestVolumesDoNotShrink: nor does the log's own volume come or go.
func TestVolumesDoNotShrink(t *testing.T) {
	s := newStage(t)
	svc := persistent(s)
	s.create(svc)
	for want, change := range map[string]func(){
		"storage.size cannot shrink":             func() { svc.Spec.Storage.Size = resource.MustParse("1000Mi") },
		"storage.wal.size cannot shrink":         func() { svc.Spec.Storage.WAL.Size = resource.MustParse("1") },
		"storage.wal cannot be added or removed": func() { svc.Spec.Storage.WAL = nil },
	} {
		s.eventually(func() string {
			s.get("db", svc)
			change()
			err := api.Update(s.ctx, svc)
			if err == nil {
				t.Fatalf("the change was taken: want %q", want)
			}
			if !strings.Contains(err.Error(), want) {
				return err.Error()
			}
			return ""
		})
	}
}

// TestVolumesThatAreFull: which, how much is left, what gives them room, and who has some; the service goes on, and nothing is held up.
func TestVolumesThatAreFull(t *testing.T) {
	s := newStage(t)
	class := s.class(false)
	svc := persistent(s)
	s.create(svc)
	s.claim("data", "db", 0, s.namespace, "1Gi")
	s.claim("data", "db", 1, s.namespace, "1Gi")
	s.claim("wal", "db", 2, s.namespace, "1Gi")
	pods := s.serve("db")
	s.healthy("db")
	full := func(volume string, base func(*wire.Status)) func(*wire.Status) {
		return func(st *wire.Status) {
			base(st)
			st.Full = []wire.Full{{Volume: volume, Least: 14 << 20, Size: 280 << 20}}
		}
	}
	s.says(pods[0], full("data", serving(1)))
	s.stalled("db", v1alpha1.ReasonVolumeFull, "spec.storage.size: PersistentVolumeClaim data-db-0 (less than 14 of 280 MiB were left when that was seen) is nearly full", "refuses writes",
		"drop or truncate", "never touch files of pg_wal", class.Name, "allowVolumeExpansion", "db-1 has room", "Switchover")
	s.stillAvailable("db")
	s.says(pods[1], full("data", following(1)))
	s.stalled("db", v1alpha1.ReasonVolumeFull, "data-db-0 (less than 14 of 280 MiB were left when that was seen), data-db-1 (", "db-2 has room")
	s.says(pods[2], full("wal", following(1)))
	s.stalled("db", v1alpha1.ReasonVolumeFull, "data-db-0 (", "data-db-1 (", "spec.storage.wal.size: PersistentVolumeClaim wal-db-2 (",
		"goes when it is made anew: `kubectl delete pvc data-db-2 wal-db-2")
	s.says(pods[0], serving(1))
	s.says(pods[1], following(1))
	grows := true
	class.AllowVolumeExpansion = &grows
	if err := api.Update(s.ctx, class); err != nil {
		t.Fatal(err)
	}
	s.says(pods[2], full("wal", func(st *wire.Status) { following(1)(st); st.Message = "looked at anew" }))
	s.stalled("db", v1alpha1.ReasonVolumeFull, "raise spec.storage.wal.size, which is 1Gi", class.Name, "lets volumes grow")
	s.change("db", svc, func() { svc.Spec.Storage.WAL.Size = resource.MustParse("3Gi") })
	s.stalled("db", v1alpha1.ReasonVolumeFull, "it is to grow from 1Gi to 3Gi", "kubectl describe pvc wal-db-2")
	s.says(pods[2], func(st *wire.Status) {
		following(1)(st)
		st.Full = []wire.Full{{Volume: "data", Least: 1 << 30, Size: 900 << 30}}
	})
	s.claim("data", "db", 2, s.namespace, "1Gi")
	s.stalled("db", v1alpha1.ReasonVolumeFull, "data-db-2", "it shares a file system of 921600 MiB with others", "node "+pods[2].Spec.NodeName, "free space there")
	s.says(pods[2], following(1))
	s.condition("db", v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNotStalled)
}
