package turns

import (
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"understudy.dev/understudy/api/v1alpha1/keys"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func turn(service string, epoch int64, ago time.Duration) Turn {
	return Turn{Service: service, Epoch: epoch, At: noon.Add(-ago)}
}

func TestTake(t *testing.T) {
	mine := turn("c", 5, 0)
	for name, c := range map[string]struct {
		held        []Turn
		most, leave int
		taken       bool
		changed     bool
		left        int // turns in the Lease afterwards
	}{
		"nobody else":                  {nil, 1, 0, true, true, 1},
		"one other, of two":            {[]Turn{turn("a", 2, time.Second)}, 2, 0, true, true, 2},
		"one other, of one":            {[]Turn{turn("a", 2, time.Second)}, 1, 0, false, false, 1},
		"one is left to others":        {[]Turn{turn("a", 2, time.Second)}, 2, 1, false, false, 1},
		"the only one is left":         {nil, 1, 1, false, false, 0},
		"more are left than there are": {nil, 1, 3, false, false, 0},
		"the other never ended its":    {[]Turn{turn("a", 2, Lasts)}, 1, 0, true, true, 1},
		"a clock far ahead":            {[]Turn{turn("a", 2, -Lasts)}, 1, 0, true, true, 1},
		"another member has it":        {[]Turn{turn("c", 5, time.Second), turn("a", 2, 0)}, 1, 0, true, false, 2},
		"its own, and old":             {[]Turn{turn("c", 5, 6*time.Second), turn("a", 2, 0)}, 1, 0, true, true, 2},
		"its own of an earlier epoch":  {[]Turn{turn("c", 4, time.Second)}, 1, 0, true, true, 1},
		"its own, and one other":       {[]Turn{turn("c", 4, time.Second), turn("a", 2, 0)}, 1, 0, false, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(c.held)
			next, answer, changed := Take(c.held, mine, Limits{All: c.most, Leave: c.leave})
			if answer.Taken != c.taken || changed != c.changed || len(next) != c.left {
				t.Errorf("taken %t, changed %t: %v", answer.Taken, changed, next)
			}
			if own := slices.IndexFunc(next, func(t Turn) bool { return t.Service == "c" && t.Epoch == 5 }); c.changed && (own < 0 || !next[own].At.Equal(noon)) {
				t.Errorf("its turn is not young: %v", next)
			}
			if !slices.Equal(before, c.held) {
				t.Error("what was given was changed")
			}
		})
	}
}

// Of the services of a cluster those under one policy may have a narrower limit.
func TestTakeInAGroup(t *testing.T) {
	of := func(group string, turns ...Turn) []Turn {
		for i := range turns {
			turns[i].Group = group
		}
		return turns
	}
	mine := of("x/p", turn("x/c", 5, 0))[0]
	for name, c := range map[string]struct {
		held   []Turn
		limits Limits
		taken  bool
	}{
		"one of another group":             {of("y/p", turn("y/a", 2, 0)), Limits{All: 2, Group: 1}, true},
		"one of the same":                  {of("x/p", turn("x/a", 2, 0)), Limits{All: 2, Group: 1}, false},
		"one of the same, without a limit": {of("x/p", turn("x/a", 2, 0)), Limits{All: 2}, true},
		"all are taken":                    {append(of("y/p", turn("y/a", 2, 0)), of("z/p", turn("z/a", 2, 0))...), Limits{All: 2, Group: 1}, false},
		"the group's is left to others":    {nil, Limits{All: 2, Group: 1, GroupLeave: 1}, false},
		"one of all is left to others":     {nil, Limits{All: 2, Group: 1, Leave: 1}, true},
	} {
		if _, answer, _ := Take(c.held, mine, c.limits); answer.Taken != c.taken {
			t.Errorf("%s: taken %t", name, answer.Taken)
		}
	}
}

func TestEnd(t *testing.T) {
	held := []Turn{turn("a", 2, 0), turn("c", 5, 0)}
	if next, changed := End(held, "c", 5); !changed || len(next) != 1 || next[0].Service != "a" {
		t.Errorf("%v %t", next, changed)
	}
	if next, changed := End(held, "c", 4); changed || len(next) != 2 {
		t.Errorf("a later epoch's turn was ended: %v", next)
	}
}

func TestReadWrite(t *testing.T) {
	obj := &coordinationv1.Lease{}
	held := []Turn{turn("a", 2, 0)}
	if err := Write(obj, held); err != nil {
		t.Fatal(err)
	}
	if got := Read(obj); !slices.EqualFunc(got, held, func(a, b Turn) bool { return a.Service == b.Service && a.Epoch == b.Epoch && a.At.Equal(b.At) }) {
		t.Errorf("%v", got)
	}
	obj.Annotations[keys.AnnotationTurns] = "{"
	if got := Read(obj); got != nil {
		t.Errorf("damaged: %v", got)
	}
}
