package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"understudy.dev/understudy/internal/wire"
)

// Room is what a volume has and has left, in bytes.
type Room struct {
	Volume     string // the claim template's name
	Size, Free int64
	// Writes says whether the volume takes what is written.
	Writes Writes
}

// Writes is how a volume takes what is written to it.
type Writes int

// Not known is neither: what was known holds on.
const (
	WritesUnknown Writes = iota
	WritesTaken
	WritesRefused // as by a file system that met an error of its disk
)

const (
	// roomEvery is how often the volumes are asked.
	roomEvery = time.Second
	// roomShare of a volume is too little to be left, or roomMost of a large one, while a person can still do something about it. Of a small
	// one it is roomLeast, which two of PostgreSQL's usual segments of WAL need at once, but no more than roomSmall.
	roomShare = 20
	roomSmall = 10
	roomLeast = 32 << 20
	roomMost  = 1 << 30
)

// watchRoom asks again and again how much the volumes have left, and not again before all have answered: of one that hangs, others tell.
func (a *Agent) watchRoom() {
	if a.Rooms == nil {
		return
	}
	var rooms []Room
	a.World.Beside(0, func(context.Context) { rooms = a.Rooms() }, func() {
		a.onRooms(rooms)
		a.onReadOnly(rooms)
		a.World.After(roomEvery, a.watchRoom)
	})
}

// onRooms takes in what the volumes have left. One that had too little counts as full until it has twice as much; of one that does not say,
// what was known holds on.
func (a *Agent) onRooms(rooms []Room) {
	for _, r := range rooms {
		least := min(max(r.Size/roomShare, min(r.Size/roomSmall, roomLeast)), roomMost)
		at := slices.IndexFunc(a.full, func(f wire.Full) bool { return f.Volume == r.Volume })
		was := at >= 0
		switch now := (wire.Full{Volume: r.Volume, Least: least, Size: r.Size}); {
		case r.Size <= 0:
		case r.Free < least && was:
			if a.full[at] != now { // it grew; what was told before is others' by now
				a.full = slices.Clone(a.full)
				a.full[at] = now
			}
		case r.Free < least:
			a.full = append(slices.Clone(a.full), now)
			a.Log.Info("A volume is nearly full", "volume", r.Volume, "freeBytes", r.Free, "sizeBytes", r.Size)
		case was && r.Free >= 2*least:
			a.full = slices.Delete(slices.Clone(a.full), at, at+1)
			a.Log.Info("The volume has room again", "volume", r.Volume, "freeBytes", r.Free, "sizeBytes", r.Size)
		}
	}
}

// fullVolumes says of a volume that has too little left, for people; empty: there is none.
func (a *Agent) fullVolumes() string {
	if len(a.full) == 0 {
		return ""
	}
	return fmt.Sprintf("its volume %s is nearly full: %s", a.full[0].Volume, a.full[0].Left())
}
