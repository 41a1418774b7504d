package agent

import (
	"testing"
	"time"

	"understudy.dev/understudy/internal/failover"
)

// A primary whose volume refuses writes hands over, and is no candidate until it takes them again.
func TestVolumeThatRefusesWrites(t *testing.T) {
	s := serving(t, true)
	rooms := []Room{{Volume: "data", Size: 1 << 30, Free: 1 << 30}}
	s.a.Rooms = func() []Room { return rooms }
	s.a.watchRoom()
	s.pass(2 * roomEvery)
	if !s.a.obs.Serving() || s.a.Status().Reason != "Eligible" {
		t.Fatalf("it does not serve: %+v", s.a.Status())
	}
	rooms[0].ReadOnly = true
	s.did("released 1 to m-1")
	s.inOrder("pause", "position request", "kill", "released 1 to m-1")
	if got := s.a.Status(); got.Eligible || got.Reason != "VolumeReadOnly" || len(got.ReadOnly) != 1 {
		t.Errorf("it says of itself: eligible %t, %s, %v", got.Eligible, got.Reason, got.ReadOnly)
	}
	rooms[0].ReadOnly = false
	s.pass(roomEvery)
	if got := s.a.Status(); got.Reason == "VolumeReadOnly" || len(got.ReadOnly) != 0 {
		t.Errorf("it takes writes again, and says %s, %v", got.Reason, got.ReadOnly)
	}
}

// Where nobody can take over it serves on, and tries again in a while; where people decide who is primary it waits for them.
func TestVolumeThatRefusesWritesAndNobodyElse(t *testing.T) {
	for name, change := range map[string]func(*stage){
		"nobody can take over": func(s *stage) { s.peers["m-1"].unfit, s.peers["m-2"].unfit = true, true },
		"people decide":        func(s *stage) { s.a.obs.Lease.Terms.Mode = failover.ModeManual },
	} {
		t.Run(name, func(t *testing.T) {
			s := serving(t, true)
			change(s)
			s.pass(time.Second)
			rooms := []Room{{Volume: "data", Size: 1 << 30, Free: 1 << 30, ReadOnly: true}}
			s.a.Rooms = func() []Room { return rooms }
			s.a.watchRoom()
			s.pass(2 * roomEvery)
			s.never("kill")
			if !s.a.obs.Serving() {
				t.Fatal("it serves no more")
			}
			if name == "people decide" {
				s.never("pause")
				return
			}
			s.peers["m-2"].unfit = false
			s.pass(handAwayAgain)
			s.did("released 1 to m-2")
		})
	}
}
