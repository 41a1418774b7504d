package replicatedservice

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

func based(epoch, base failover.Epoch) wire.Takeover {
	return wire.Takeover{Epoch: epoch, Base: failover.Position{DataEpoch: base}}
}

func TestEndOf(t *testing.T) {
	for name, c := range map[string]struct {
		epoch     failover.Epoch
		takeovers []wire.Takeover
		want      failover.Epoch
	}{
		"the next":                             {4, []wire.Takeover{based(6, 5), based(5, 4), based(4, 3)}, 5},
		"epochs in between never opened":       {4, []wire.Takeover{based(7, 4), based(9, 7)}, 7},
		"it had renumbered itself":             {5, []wire.Takeover{based(6, 4)}, 6},
		"the one that ended it is not told of": {4, []wire.Takeover{based(6, 5)}, 0},
		"none since":                           {4, []wire.Takeover{based(4, 3)}, 0},
		"whose data it was is not known":       {0, []wire.Takeover{based(2, 1)}, 0},
		"what the next one had is not known":   {4, []wire.Takeover{based(5, 0)}, 0},
	} {
		var got failover.Epoch
		if end := EndOf(c.epoch, c.takeovers); end != nil {
			got = end.Epoch
		}
		if got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

var kept = wire.Lost{Epoch: 3, Primary: true, Bytes: 4711, Dir: "/data/lost/00000001-000000000300", First: "000000010000000000000003", Last: "000000010000000000000004", Complete: true}

// What is told is true for the kind of service and of change: only an asynchronous failover may have lost confirmed commits.
func TestTellLost(t *testing.T) {
	async, sync := &v1alpha1.ReplicatedService{}, &v1alpha1.ReplicatedService{}
	sync.Spec.Replication = &v1alpha1.ReplicationSpec{Mode: v1alpha1.Synchronous}
	const confirmed = "may have been confirmed to clients"
	for name, c := range map[string]struct {
		svc   *v1alpha1.ReplicatedService
		end   *wire.Takeover
		words string
		lost  bool
	}{
		"asynchronous":                {async, &wire.Takeover{}, confirmed, true},
		"asynchronous, end not known": {async, nil, confirmed, true},
		"after a handover":            {async, &wire.Takeover{Handover: true}, "no confirmed commit is in it", false},
		"synchronous":                 {sync, &wire.Takeover{}, "its quorum never confirmed it", false},
	} {
		got := TellLost(c.svc, "db-0", kept, c.end)
		if !strings.Contains(got, c.words) || strings.Contains(got, confirmed) != c.lost || !strings.Contains(got, "db-0 had 4711 bytes of WAL of epoch 3") ||
			!strings.Contains(got, "kept in /data/lost/00000001-000000000300 of pod db-0, segments 000000010000000000000003 to 000000010000000000000004") {
			t.Errorf("%s: %q", name, got)
		}
	}
	for words, change := range map[string]func(*wire.Lost){
		"Its beginning is kept":  func(l *wire.Lost) { l.Complete = false },
		"Nothing of it was kept": func(l *wire.Lost) { l.First, l.Last = "", "" },
	} {
		l := kept
		change(&l)
		if got := TellLost(async, "db-0", l, nil); !strings.Contains(got, words) {
			t.Errorf("%q does not say %q", got, words)
		}
	}
}

// A member whose data was replaced shows what it had; that is one event, also when it is away for a while.
func TestKeptAsideIsToldOnce(t *testing.T) {
	s := playing(4)
	s.svc.Status = computeStatus(s)
	back := func(lost *wire.Lost) {
		say(s, "cache-1", func(st *wire.Status) {
			st.Epoch, st.State, st.Eligible, st.LagBytes, st.Lost = 4, "Following", true, 0, lost
		})
	}
	look := func() []tale {
		after := computeStatus(s)
		tales := lostTales(s, after)
		s.svc.Status = after
		return tales
	}
	nothing := kept
	nothing.Bytes = 0
	back(&nothing)
	if tales := look(); len(tales) != 0 || s.svc.Status.Members[1].KeptAside != nil {
		t.Errorf("nothing was lost, and is told: %v", tales)
	}
	back(&kept)
	tales := look()
	if len(tales) != 1 || tales[0].kind != corev1.EventTypeWarning || tales[0].reason != "WritesKeptAside" || !strings.Contains(tales[0].note, "cache-1 had 4711 bytes") {
		t.Fatalf("%v", tales)
	}
	want := v1alpha1.KeptAside{Epoch: 3, Bytes: 4711, Extent: v1alpha1.KeptAll, Directory: kept.Dir, FirstFile: kept.First, LastFile: kept.Last}
	if m := s.svc.Status.Members[1]; m.KeptAside == nil || *m.KeptAside != want {
		t.Errorf("shown %+v", m.KeptAside)
	}
	silence(s, "cache-1")
	if tales := look(); len(tales) != 0 || s.svc.Status.Members[1].KeptAside == nil {
		t.Errorf("a member that is away: %v, %+v", tales, s.svc.Status.Members[1])
	}
	back(&kept)
	if tales := look(); len(tales) != 0 {
		t.Errorf("it is told again: %v", tales)
	}
	more := kept
	more.Epoch = 9
	back(&more)
	if tales := look(); len(tales) != 1 {
		t.Errorf("of a later loss: %v", tales)
	}
}
