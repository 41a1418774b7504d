package postgresql

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// lsn is a position in the WAL.
type lsn uint64

func (l lsn) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

func parseLSN(s string) (lsn, error) {
	high, low, ok := strings.Cut(s, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err != nil || err2 != nil {
		return 0, fmt.Errorf("reading the WAL position %q", s)
	}
	return lsn(h<<32 | l), nil
}

// place is where a server is: in which cluster, on which timeline, how far.
type place struct {
	System   string
	Timeline uint32
	LSN      lsn
}

func (p place) history() string { return p.System + "/" + p.timeline() }

func (p place) timeline() string { return strconv.FormatUint(uint64(p.Timeline), 10) }

// identify asks a server where it is: a primary how far its WAL is flushed, a standby how far it has received on the timeline
// that it replays.
func identify(ctx context.Context, c *conn) (place, error) {
	const command = "IDENTIFY_SYSTEM"
	var row []string
	var err error
	if c.own != nil {
		row, err = c.own.one(ctx, c.life, command)
	} else {
		row, err = c.one(ctx, command)
	}
	if err != nil {
		return place{}, err
	}
	return parsePlace(row[0], row[1], 10, row[2])
}

// parsePlace reads what a server says of where it is; base is that of the timeline's number.
func parsePlace(system, timeline string, base int, at string) (place, error) {
	number, err := strconv.ParseUint(timeline, base, 32)
	if err != nil {
		return place{}, fmt.Errorf("reading the timeline %q", timeline)
	}
	offset, err := parseLSN(at)
	return place{System: system, Timeline: uint32(number), LSN: offset}, err
}

// turn ends a timeline: after At, its successor's WAL counts.
type turn struct {
	Timeline uint32
	At       lsn
}

// parseHistory reads a timeline's history file.
func parseHistory(text string) ([]turn, error) {
	var turns []turn
	for _, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("reading a timeline's history: the line %q", line)
		}
		tli, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("reading a timeline's history: the line %q", line)
		}
		at, err := parseLSN(fields[1])
		if err != nil {
			return nil, err
		}
		turns = append(turns, turn{uint32(tli), at})
	}
	return turns, nil
}
