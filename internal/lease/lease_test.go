package lease

import (
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
)

func TestReadsWhatWasWritten(t *testing.T) {
	obj := &coordinationv1.Lease{}
	want := failover.Lease{Version: "12", Epoch: 3, Holder: failover.Run{Member: "a-0", PodUID: "u", BootID: "b"},
		Terms: failover.Terms{LeaseMillis: 1500, Members: []failover.MemberEntry{{Name: "a-0", Voter: true}}}}
	if err := Write(obj, want, time.Unix(5, 0)); err != nil {
		t.Fatal(err)
	}
	got, err := Read(obj)
	if err != nil || got.Epoch != 3 || got.Holder != want.Holder || got.Version != "12" || len(got.Terms.Members) != 1 {
		t.Errorf("Read = %+v, %v", got, err)
	}
	if *obj.Spec.LeaseDurationSeconds != 2 {
		t.Errorf("leaseDurationSeconds = %d, want 1.5 s rounded up", *obj.Spec.LeaseDurationSeconds)
	}
}

func TestAcquireTimeIsOfTheGrant(t *testing.T) {
	obj := &coordinationv1.Lease{}
	l := failover.Lease{Epoch: 1, Holder: failover.Run{Member: "a-0", PodUID: "u", BootID: "b"}}
	for _, at := range []int64{5, 9} {
		if err := Write(obj, l, time.Unix(at, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if got := obj.Spec.AcquireTime.Unix(); got != 5 {
		t.Errorf("acquireTime = %d: terms alone must not move it", got)
	}
}

func TestDamagedLeaseIsRefused(t *testing.T) {
	holder := "not-a-run"
	for name, obj := range map[string]*coordinationv1.Lease{
		"annotation": {},
		"JSON": func() *coordinationv1.Lease {
			o := &coordinationv1.Lease{}
			o.Annotations = map[string]string{keys.AnnotationLease: "{"}
			return o
		}(),
		"holder": {Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder}},
	} {
		if _, err := Read(obj); err == nil || !strings.Contains(err.Error(), "reading Lease") {
			t.Errorf("%s: err = %v, want one that says what was being read", name, err)
		}
	}
}
