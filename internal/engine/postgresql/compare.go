package postgresql

import "slices"

// relation is how this member's data stands to the primary's.
type relation string

const (
	streams  relation = "Streams"  // the primary has all of it: what is missing can be streamed
	diverged relation = "Diverged" // it parted from the primary's on another timeline: it can be rewound
	ahead    relation = "Ahead"    // it has more of the primary's own timeline than the primary: only a copy helps
	foreign  relation = "Foreign"  // it is of another cluster
)

// compare tells the relation, and where the two part: up to there they are the same.
func compare(own place, ownTurns []turn, primary place, turns []turn) (relation, lsn) {
	if own.System != primary.System {
		return foreign, 0
	}
	mine := slices.Concat(ownTurns, []turn{{own.Timeline, own.LSN}})
	theirs := slices.Concat(turns, []turn{{primary.Timeline, primary.LSN}})
	common := -1
	for i := range min(len(mine), len(theirs)) {
		if mine[i].Timeline != theirs[i].Timeline {
			break
		}
		common = i
		if mine[i].At != theirs[i].At {
			break
		}
	}
	if common < 0 {
		return foreign, 0
	}
	fork := min(mine[common].At, theirs[common].At)
	switch last := common == len(mine)-1; {
	case last && own.LSN <= theirs[common].At:
		return streams, own.LSN
	case last && common == len(theirs)-1:
		return ahead, fork
	default:
		return diverged, fork
	}
}
