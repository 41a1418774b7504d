package agent

import (
	"testing"
	"time"

	"understudy.dev/understudy/internal/failover"
)

// onVolume is a primary whose only volume's file system is the test's.
func onVolume(t *testing.T, change func(*stage)) (*stage, *Room) {
	s := serving(t, true)
	change(s)
	s.pass(time.Second)
	rooms := []Room{{Volume: "data", Size: 1 << 30, Free: 1 << 30, Writes: WritesTaken}}
	s.a.Rooms = func() []Room { return rooms }
	s.a.watchRoom()
	s.pass(roomEvery)
	if s.a.Status().Reason != "Eligible" {
		t.Fatalf("it is refused: %+v", s.a.Status())
	}
	return s, &rooms[0]
}

// A primary whose volume refuses writes hands over, and is no candidate until the volume has taken them for a while.
func TestVolumeThatRefusesWrites(t *testing.T) {
	s, room := onVolume(t, func(*stage) {})
	room.Writes = WritesRefused
	s.did("released 1 to m-1")
	s.inOrder("pause", "position request", "kill", "released 1 to m-1")
	if got := s.a.Status(); got.Eligible || got.Reason != "VolumeReadOnly" || len(got.ReadOnly) != 1 {
		t.Errorf("it says of itself: eligible %t, %s, %v", got.Eligible, got.Reason, got.ReadOnly)
	}
	room.Writes = WritesUnknown
	s.pass(2 * takenFor)
	if s.a.Status().Reason != "VolumeReadOnly" {
		t.Error("of a volume that says nothing it forgot what it knew")
	}
	room.Writes = WritesTaken
	s.pass(takenFor / 2)
	if s.a.Status().Reason != "VolumeReadOnly" {
		t.Error("a volume that took writes a moment ago counts as whole")
	}
	s.pass(takenFor)
	if got := s.a.Status(); got.Reason == "VolumeReadOnly" || len(got.ReadOnly) != 0 {
		t.Errorf("it takes writes again, and says %s, %v", got.Reason, got.ReadOnly)
	}
}

// One error is none of the file system's state.
func TestVolumeThatRefusesOnce(t *testing.T) {
	s, room := onVolume(t, func(*stage) {})
	asked := 0
	s.a.Rooms = func() []Room {
		asked++
		room.Writes = WritesTaken
		if asked%2 == 1 {
			room.Writes = WritesRefused
		}
		return []Room{*room}
	}
	s.pass(10 * roomEvery)
	s.never("pause")
	if asked < 10 || len(s.a.Status().ReadOnly) > 0 {
		t.Errorf("asked %d times, and it says %v", asked, s.a.Status().ReadOnly)
	}
}

// Where nobody can take over it serves on and looks again; where people decide who is primary it waits for them.
func TestVolumeThatRefusesWritesAndNobodyElse(t *testing.T) {
	for name, change := range map[string]func(*stage){
		"nobody can take over": func(s *stage) { s.peers["m-1"].unfit, s.peers["m-2"].unfit = true, true },
		"people decide":        func(s *stage) { s.a.obs.Lease.Terms.Mode = failover.ModeManual },
	} {
		t.Run(name, func(t *testing.T) {
			s, room := onVolume(t, change)
			room.Writes = WritesRefused
			s.pass(3 * roomEvery)
			s.never("kill")
			s.never("pause")
			if !s.a.obs.Serving() || len(s.a.Status().ReadOnly) != 1 {
				t.Fatalf("serving %t, read-only %v", s.a.obs.Serving(), s.a.Status().ReadOnly)
			}
			if name == "people decide" {
				return
			}
			s.peers["m-2"].unfit = false
			s.pass(2 * time.Second)
			s.did("released 1 to m-2")
		})
	}
}

// What it still takes is not held back again and again for a handover that fails.
func TestHandoverThatFailsIsTriedLessAndLess(t *testing.T) {
	s, room := onVolume(t, func(s *stage) { s.fails["pause"] = errTimeout })
	room.Writes = WritesRefused
	s.pass(10 * time.Minute)
	if n := s.count("pause"); n < 3 || n > 6 {
		t.Errorf("writes were held back %d times in 10 minutes, want 5 or so", n)
	}
	if !s.a.obs.Serving() {
		t.Error("it serves no more")
	}
}

// An engine that the successor's writes need is started again at once, whatever becomes of its pod.
func TestDispensable(t *testing.T) {
	for name, c := range map[string]struct {
		members, quorum, least int
		want                   bool
	}{
		"three": {3, 0, 0, true}, "two": {2, 0, 0, false}, "three, one acknowledges": {3, 1, 0, true}, "three, both acknowledge": {3, 2, 0, false},
		"three, two needed to write": {3, 0, 2, false}, "five, two acknowledge": {5, 2, 0, true},
	} {
		s := bareStage(t, "m-0", "m-0", true)
		terms := failover.Terms{Quorum: c.quorum, MinReplicasToWrite: c.least}
		for i := range c.members {
			terms.Members = append(terms.Members, failover.MemberEntry{Name: []string{"m-0", "m-1", "m-2", "m-3", "m-4"}[i], Voter: true})
		}
		s.a.obs.Lease.Terms = terms
		if got := s.a.dispensable(); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
