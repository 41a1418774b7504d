package agent

import (
	"testing"

	"understudy.dev/understudy/internal/wire"
)

// A volume that is nearly full is told to the operator once, with numbers that stay, until it has twice as much as it lacked.
func TestVolumesThatAreNearlyFull(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	rooms := []Room{{Volume: "data", Size: 1000 * mib, Free: 50 * mib}, {Volume: "wal", Size: 200 * gib, Free: gib}}
	// Of a small one a twentieth is less than what an engine takes at once.
	small := bareStage(t, "m-0", "m-0", true)
	small.a.onRooms([]Room{{Volume: "data", Size: 400 * mib, Free: 32*mib - 1}, {Volume: "wal", Size: 100 * mib, Free: 10 * mib}})
	if got := small.a.Status().Full; len(got) != 1 || got[0] != (wire.Full{Volume: "data", Least: 32 * mib, Size: 400 * mib}) {
		t.Errorf("of small volumes %+v is told", got)
	}
	s := bareStage(t, "m-0", "m-0", true)
	s.a.Rooms = func() []Room { return rooms }
	s.a.watchRoom()
	told := func(what string, want ...wire.Full) {
		t.Helper()
		s.pass(roomEvery)
		got := s.a.Status()
		if len(got.Full) != len(want) {
			t.Fatalf("%s: %v is told", what, got.Full)
		}
		for i := range want {
			if got.Full[i] != want[i] {
				t.Errorf("%s: %+v is told, not %+v", what, got.Full[i], want[i])
			}
		}
	}
	told("a twentieth of the one is left, and 1 GiB of the other")
	rooms[0].Free--
	data := wire.Full{Volume: "data", Least: 50 * mib, Size: 1000 * mib}
	told("one byte less", data)
	before := s.a.Status()
	rooms[0].Free = 0
	told("nothing", data)
	if after := s.a.Status(); !sameStatus(before, after) {
		t.Errorf("there is less and less, which is no news: %+v became %+v", before, after)
	}
	rooms[0].Size += 20 * mib
	data.Size, data.Least = data.Size+20*mib, data.Least+mib
	told("it grew by too little", data)
	if after := s.a.Status(); sameStatus(before, after) {
		t.Errorf("it grew, which is news: %+v became %+v", before.Full, after.Full)
	}
	rooms[0].Size -= 20 * mib
	data.Size, data.Least = data.Size-20*mib, data.Least-mib
	rooms[1].Free = gib - 1
	wal := wire.Full{Volume: "wal", Least: gib, Size: 200 * gib}
	told("the large one too", data, wal)
	if sameStatus(before, s.a.Status()) {
		t.Error("that is no news")
	}
	rooms[0] = Room{Volume: "data", Size: 1000 * mib, Free: 100*mib - 1}
	told("a little more", data, wal)
	rooms[0] = Room{Volume: "data"}
	told("it does not say", data, wal)
	rooms[0] = Room{Volume: "data", Size: 1000 * mib, Free: 100 * mib}
	told("it has room again", wal)
	rooms[1].Size, rooms[1].Free = 400*gib, 200*gib
	told("the other one has grown")
}

// A volume that hangs is asked once.
func TestVolumeThatHangs(t *testing.T) {
	s := bareStage(t, "m-0", "m-0", true)
	asked := 0
	s.a.Rooms = func() []Room { asked++; _ = s.call("statfs", ""); return nil }
	s.shut["statfs"] = true
	s.a.watchRoom()
	s.pass(10 * roomEvery)
	if asked != 1 {
		t.Errorf("it was asked %d times", asked)
	}
	s.shut["statfs"] = false
	s.pass(2 * roomEvery)
	if asked < 2 {
		t.Errorf("it answered, and was asked %d times", asked)
	}
}

// What is nearly full is among what a person reads of the member.
func TestFullVolumeInTheMessage(t *testing.T) {
	s := serving(t, true)
	s.a.full = []wire.Full{{Volume: "data", Least: 14 << 20, Size: 280 << 20}}
	if got, want := s.a.Status().Message, "its volume data is nearly full: less than 14 of 280 MiB were left when that was seen"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}
