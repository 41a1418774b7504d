package failover

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// crowded is a service under a policy that limits failovers at once, whose primary dies while others fail over as turn says.
func crowded(t *testing.T, behind int, turn func(leave int) bool) *theatre {
	th := curtain(t, 3)
	th.turn = turn
	th.swap(func(l *Lease) { l.Terms.Turns, l.Terms.TurnsIn, l.Terms.Behind = 2, "failovers", behind })
	th.run(100 * time.Millisecond)
	th.crash("m-0")
	return th
}

func (th *theatre) turnsAsked() (all []int) {
	for _, a := range th.members {
		all = append(all, a.asked...)
	}
	return all
}

// A service whose turn it is fails over at once, and one whose turn it is not as soon as it is.
func TestTurn(t *testing.T) {
	th := crowded(t, 0, func(int) bool { return true })
	th.until("somebody serves", 500*time.Millisecond, func() bool { return served(th) != "" })
	if asked := th.turnsAsked(); len(asked) == 0 || slices.Max(asked) > 0 {
		t.Errorf("it left turns free: %v", asked)
	}

	free := false
	th = crowded(t, 0, func(int) bool { return free })
	th.run(3 * time.Second)
	if th.lease.Epoch != 1 {
		t.Fatalf("epoch %d was granted while too many others failed over", th.lease.Epoch)
	}
	told := false
	for _, a := range th.members {
		told = told || slices.ContainsFunc(Decide(th.now, a.obs, nil).Notes, func(n string) bool { return strings.Contains(n, "another fail over") })
	}
	if !told {
		t.Error("nobody knows what it waits for")
	}
	free = true
	took := th.until("somebody serves", 2*time.Second, func() bool { return served(th) != "" })
	if took > time.Second {
		t.Errorf("it took %s from when it was its turn", took)
	}
}

// The limit delays a failover and never prevents one, be it that others never end, or that nobody answers who counts them.
func TestTurnIsBounded(t *testing.T) {
	for name, turn := range map[string]func(int) bool{"the others never end": func(int) bool { return false }, "nobody answers": nil} {
		th := crowded(t, 0, turn)
		th.run(turnMost - time.Second)
		if th.lease.Epoch != 1 {
			t.Errorf("%s: epoch %d was granted before the limit was over", name, th.lease.Epoch)
		}
		th.until(name, 3*time.Second, func() bool { return served(th) != "" })
	}
}

// Of lower priority, a service leaves turns free at first, and none after a while.
func TestTurnsOfHigherPriority(t *testing.T) {
	begun := Instant(0)
	th := crowded(t, 3, func(leave int) bool { return leave == 0 })
	begun = th.now
	th.until("somebody serves", 3*time.Second, func() bool { return served(th) != "" })
	if waited := th.now.Sub(begun); waited < 3*turnStep {
		t.Errorf("it failed over after %s, while turns were to be left free for %s", waited, 3*turnStep)
	}
	if asked := th.turnsAsked(); !slices.Contains(asked, 3) {
		t.Errorf("it left %v turns free", asked)
	}
}

// Where nothing limits, nobody asks; and what is done by somebody's wish waits for no turn.
func TestNoTurnIsAskedFor(t *testing.T) {
	th := curtain(t, 3)
	th.turn = func(int) bool { return false }
	th.run(100 * time.Millisecond)
	th.crash("m-0")
	th.until("somebody serves", time.Second, func() bool { return served(th) != "" })

	wished := crowded(t, 0, func(int) bool { return false })
	wished.swap(func(l *Lease) { l.Terms.Approved = 1 })
	wished.until("somebody serves", time.Second, func() bool { return served(wished) != "" })
	if asked := append(th.turnsAsked(), wished.turnsAsked()...); len(asked) > 0 {
		t.Errorf("a turn was asked for: %v", asked)
	}
}

// A primary that comes back while others wait for their turn is left alone, and a turn that was taken for nothing is given up.
func TestTurnIsGivenUp(t *testing.T) {
	free := false
	th := curtain(t, 3)
	th.turn = func(int) bool { return free }
	th.swap(func(l *Lease) { l.Terms.Turns, l.Terms.TurnsIn = 1, "failovers" })
	th.run(100 * time.Millisecond)
	th.isolate("m-0")
	th.until("a turn is asked for", 3*time.Second, func() bool { return len(th.turnsAsked()) > 0 })
	for _, other := range []string{"m-1", "m-2"} {
		th.mend("m-0", other)
	}
	th.run(500 * time.Millisecond)
	for name, a := range th.members {
		if a.obs.Attempt != nil {
			t.Errorf("%s waits for its turn though the primary is back", name)
		}
	}
	free = true
	th.run(3 * time.Second)
	if th.lease.Epoch != 1 || !th.serving("m-0", 1) {
		t.Fatalf("epoch %d of %s: the primary that came back was replaced", th.lease.Epoch, th.lease.Holder.Member)
	}
	waiting := th.members["m-1"]
	waiting.obs.OnTurn(Turn{Epoch: 2, Taken: true, At: th.now})
	th.run(200 * time.Millisecond)
	if waiting.obs.Turn.Taken || th.ended != 1 {
		t.Errorf("a turn that nothing came of is kept: %+v, %d ended", waiting.obs.Turn, th.ended)
	}
}
