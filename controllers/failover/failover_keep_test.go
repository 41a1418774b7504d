package failover

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/controllers/replicatedservice"
	pure "understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// What members report beyond the limit must not be recorded again after it was deleted: three members tell of more
// takeovers than are kept, and the record would be made and deleted for ever.
func TestOldTakeoversAreNotRecordedAgain(t *testing.T) {
	var reported []wire.Takeover
	for epoch := 30; epoch <= 60; epoch++ {
		reported = append(reported, wire.Takeover{Epoch: pure.Epoch(epoch)})
	}
	oldest := oldestKept(nil, reported)
	if kept := 60 - oldest + 1; kept != keepRecords {
		t.Fatalf("%d epochs are kept, want %d", kept, keepRecords)
	}
	var have []v1alpha1.Failover
	for epoch := oldest; epoch <= 60; epoch++ {
		have = append(have, v1alpha1.Failover{Status: v1alpha1.FailoverStatus{Epoch: epoch}})
	}
	if again := oldestKept(have, reported); again != oldest {
		t.Errorf("with the records made the oldest kept is %d, without them %d: what one look makes the next deletes", again, oldest)
	}
}

// What was lost is known better when the old primary is back, and never less well than before.
func TestLossGrowsWhenTheOldPrimaryIsBack(t *testing.T) {
	base := pure.Position{DataEpoch: 4, Offset: 1000}
	for _, c := range []struct {
		name string
		told wire.Takeover
		old  wire.Served
		want int64
	}{
		{"it is not back", wire.Takeover{Base: base, BytesLost: 7}, wire.Served{}, 7},
		{"it had more", wire.Takeover{Base: base, BytesLost: 7}, wire.Served{Epoch: 4, Offset: 1900}, 900},
		{"it was looked at before it was heard last", wire.Takeover{Base: base, BytesLost: 7}, wire.Served{Epoch: 4, Offset: 1003}, 7},
		{"it served another epoch since", wire.Takeover{Base: base, BytesLost: 7}, wire.Served{Epoch: 9, Offset: 5000}, 7},
		{"it handed over", wire.Takeover{Base: base, LossExact: true}, wire.Served{Epoch: 4, Offset: 1900}, 0},
		{"the new one's offset is a guess", wire.Takeover{Base: pure.Position{DataEpoch: 4, Offset: 1, Inexact: true}}, wire.Served{Epoch: 4, Offset: 1900}, 0},
	} {
		if got := lossOf(c.told, c.old); got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.want)
		}
	}
	var status v1alpha1.FailoverStatus
	for _, told := range []int64{900, 7} {
		fill(&status, wire.Takeover{Epoch: 5, BytesLost: told})
	}
	if *status.BytesLost != 900 {
		t.Errorf("%d bytes after 900 were told once", *status.BytesLost)
	}
}

// What the old primary's data had more is known for certain once it rejoined; a replica may have had less than there was.
func TestLossIsExactOnceTheOldPrimaryRejoined(t *testing.T) {
	from := pure.Run{Member: "db-0"}
	told := wire.Takeover{Epoch: 5, From: from, To: pure.Run{Member: "db-1"}, Base: pure.Position{DataEpoch: 4}, BytesLost: 7}
	handedOver := told
	handedOver.Handover, handedOver.LossExact, handedOver.BytesLost = true, true, 0
	lost := func(epoch pure.Epoch, primary bool, bytes int64) wire.Lost {
		return wire.Lost{Epoch: epoch, Primary: primary, Bytes: bytes, Dir: "/data/lost/x", First: "a", Last: "b", Complete: true}
	}
	for name, c := range map[string]struct {
		told  wire.Takeover
		lost  map[string]wire.Lost
		bytes int64
		exact bool
		tale  string
	}{
		"nobody rejoined":                  {told, nil, 7, false, ""},
		"the old primary":                  {told, map[string]wire.Lost{"db-0": lost(4, true, 900)}, 900, true, "db-0 had 900 bytes"},
		"the old primary, as it was":       {told, map[string]wire.Lost{"db-0": lost(4, true, 0)}, 0, true, ""},
		"a replica that had more":          {told, map[string]wire.Lost{"db-2": lost(4, false, 300)}, 300, false, "db-2 had 300 bytes"},
		"the old primary and a replica":    {told, map[string]wire.Lost{"db-0": lost(4, true, 900), "db-2": lost(4, false, 950)}, 900, true, "db-2 had 950 bytes"},
		"the old primary, a replica since": {told, map[string]wire.Lost{"db-0": lost(4, false, 900)}, 900, false, "db-0 had 900 bytes"},
		"of an earlier epoch":              {told, map[string]wire.Lost{"db-0": lost(3, true, 900)}, 7, false, ""},
		"of a later epoch":                 {told, map[string]wire.Lost{"db-0": lost(5, true, 900)}, 7, false, ""},
		"after a handover":                 {handedOver, map[string]wire.Lost{"db-0": lost(4, true, 90)}, 0, true, "no confirmed commit is in it"},
	} {
		takeovers := []wire.Takeover{c.told}
		tale := settleLoss(&v1alpha1.ReplicatedService{}, takeovers, c.lost)[5]
		if got := takeovers[0]; got.BytesLost != c.bytes || got.LossExact != c.exact || !strings.Contains(tale, c.tale) || (tale == "") != (c.tale == "") {
			t.Errorf("%s: %d bytes, exact %t, %q", name, got.BytesLost, got.LossExact, tale)
		}
	}
	status := v1alpha1.FailoverStatus{}
	for _, t := range []wire.Takeover{{Epoch: 5, BytesLost: 905}, {Epoch: 5, BytesLost: 900, LossExact: true}, {Epoch: 5, BytesLost: 7}} {
		fill(&status, t)
	}
	if *status.BytesLost != 900 || status.BytesLostPrecision != v1alpha1.LossExact {
		t.Errorf("when the old primary is gone again: %d bytes, %s", *status.BytesLost, status.BytesLostPrecision)
	}
	fill(&status, wire.Takeover{Epoch: 6, BytesLost: 3})
	if *status.BytesLost != 3 || status.BytesLostPrecision != v1alpha1.LossAtLeast {
		t.Errorf("of another epoch: %d bytes, %s", *status.BytesLost, status.BytesLostPrecision)
	}
}

// A service that was deleted and made anew starts at epoch 1 again; what people asked of its predecessor stays and must not
// make its own records look old.
func TestPredecessorsRecordsDoNotCount(t *testing.T) {
	at := func(minute int) metav1.Time { return metav1.Date(2026, 11, 24, 6, minute, 0, 0, time.UTC) }
	service := &v1alpha1.ReplicatedService{ObjectMeta: metav1.ObjectMeta{Name: "cache", CreationTimestamp: at(10)}}
	for minute, want := range map[int]bool{9: true, 10: false, 11: false} {
		fo := &v1alpha1.Failover{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: at(minute)}}
		if got := replicatedservice.OfPredecessor(fo, service); got != want {
			t.Errorf("a Failover made at 06:%02d is the predecessor's: %t, want %t", minute, got, want)
		}
	}
}

func TestWhoseRecordsAreTrimmed(t *testing.T) {
	done := func(s *scope) {
		s.fo.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
	}
	for name, c := range map[string]struct {
		s    *scope
		want int64
	}{
		"a record":                   {order(begun, func(s *scope) { s.fo.Spec.Type = v1alpha1.TypeAutomatic }), 5},
		"a person's":                 {order(begun, done), 0},
		"the operator's, done":       {order(begun, done, asks(4)), 5},
		"the operator's, superseded": {order(done, asks(4)), 5},
		"the operator's, under way":  {order(begun, asks(4)), 0},
	} {
		if got := keptFor(c.s.fo); got != c.want {
			t.Errorf("%s: kept for epoch %d, want %d", name, got, c.want)
		}
	}
}
