package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/supervisor"
	"understudy.dev/understudy/internal/wire"
)

func rejoinFailed(why string) error {
	return fmt.Errorf("following: %w", &engine.StuckError{Reason: engine.RejoinFailed, Err: errors.New(why)})
}

// A member that gave up rejoining says so, for as long as it is so.
func TestRejoinThatWasGivenUpIsTold(t *testing.T) {
	s := replica(t)
	s.fails["follow"] = errors.New("connection refused")
	s.heartbeat("m-0", 1)
	s.did("follow fails")
	if st := s.a.Status(); st.Stuck != nil || st.Message != "connection refused" {
		t.Errorf("a primary that does not answer needs nobody: %+v, %q", st.Stuck, st.Message)
	}
	s.fails["follow"] = rejoinFailed("given up after 5 base backups, the last time: No space left on device")
	s.until("it is told", func() bool { s.heartbeat("m-0", 1); return s.a.Status().Stuck != nil })
	st := s.a.Status()
	if want := (wire.Stuck{Reason: "RejoinFailed", Message: "following: given up after 5 base backups, the last time: No space left on device"}); *st.Stuck != want ||
		st.Message != want.Message {
		t.Errorf("%+v, %q", st.Stuck, st.Message)
	}
	delete(s.fails, "follow")
	s.until("it follows", func() bool { s.heartbeat("m-0", 1); return s.a.proc.upstream != "" })
	if st := s.a.Status(); st.Stuck != nil || st.Message != "" {
		t.Errorf("it follows, and says %+v, %q", st.Stuck, st.Message)
	}
}

// What ends the making of an engine's process is told until the engine runs, also while the steps before it fail again and again.
func TestEngineThatCannotBeStartedIsTold(t *testing.T) {
	s := bareStage(t, "m-1", "m-0", true)
	s.engine.refusal = &engine.StuckError{Reason: engine.BootstrapFailed, Err: errors.New("initdb failed: no such locale")}
	s.happens(func() { s.a.OnLease(s.api.lease, true) })
	told := func() bool { st := s.a.Status(); return st.Stuck != nil && st.Stuck.Reason == "BootstrapFailed" }
	s.until("it is told", told)
	s.engine.refusal, s.engine.step = nil, true
	s.until("initdb runs again", func() bool { return s.a.proc.pid != 0 })
	s.happens(func() { s.a.OnExit(supervisor.Exit{PID: s.a.proc.pid, Status: 1 << 8}) })
	if st := s.a.Status(); !told() || !strings.Contains(st.Message, "no such locale") {
		t.Errorf("initdb failed again: %+v, %q", st.Stuck, st.Message)
	}
	s.engine.step = false
	s.until("the engine runs", func() bool { return s.a.obs.Engine.State == failover.EngineRunning })
	if st := s.a.Status(); st.Stuck != nil || st.Message != "" {
		t.Errorf("the engine runs, and it says %+v, %q", st.Stuck, st.Message)
	}
}

// An engine that gave one primary up is not started, and yet told of the primary, which may be another by now.
func TestEngineThatGaveUpIsToldOfThePrimary(t *testing.T) {
	s := bareStage(t, "m-1", "m-0", true)
	s.engine.refusal = errors.New("its port is in use")
	s.happens(func() { s.a.OnLease(s.api.lease, true) })
	s.until("it is refused", func() bool { return s.a.proc.refusals > 0 })
	s.heartbeat("m-0", 1)
	s.never("follow")
	s.engine.refusal = rejoinFailed("given up after 5 base backups")
	s.fails["follow"] = engine.ErrLoading
	s.until("it is told", func() bool { s.heartbeat("m-0", 1); return s.count("follow") > 0 })
	if st := s.a.Status(); st.Stuck == nil || st.Stuck.Reason != "RejoinFailed" {
		t.Errorf("%+v", st.Stuck)
	}
}

// What the engine does not call a dead end may pass by itself; a person is told when it does not.
func TestEngineThatIsRefusedAgainAndAgain(t *testing.T) {
	s := bareStage(t, "m-1", "m-0", true)
	s.engine.refusal = errors.New("its port is in use")
	s.happens(func() { s.a.OnLease(s.api.lease, true) })
	s.until("it is refused", func() bool { return s.a.proc.refusals > 0 })
	if st := s.a.Status(); st.Stuck != nil || st.Message != "its port is in use" {
		t.Errorf("at once: %+v, %q", st.Stuck, st.Message)
	}
	s.until("a person is told", func() bool { return s.a.Status().Stuck != nil })
	if st := s.a.Status(); st.Stuck.Reason != "EngineNotStarted" || s.a.proc.refusals != refusalsForStuck {
		t.Errorf("after %d refusals: %+v", s.a.proc.refusals, st.Stuck)
	}
}

// An engine that refuses to follow is told again in a quarter of the time for which it has refused: soon at first, since a commit
// may wait for this member, and not too often later. A new primary begins that anew.
func TestPaceOfFollowing(t *testing.T) {
	s := replica(t)
	refused := errors.New("connection refused")
	first, second := run("m-0"), run("m-2")
	for _, c := range []struct {
		passes time.Duration
		whom   failover.Run
		want   time.Duration
	}{
		{0, first, followFirst},
		{40 * time.Millisecond, first, followFirst},
		{60 * time.Millisecond, first, 25 * time.Millisecond},
		{3900 * time.Millisecond, first, time.Second},
		{time.Hour, first, followMost},
		{0, second, followFirst},
		{time.Second, second, 250 * time.Millisecond},
	} {
		s.now = s.now.Add(c.passes)
		if got := s.a.followAgain(c.whom, refused); got != c.want {
			t.Errorf("after %s more of %s: %s, want %s", c.passes, c.whom.Member, got, c.want)
		}
	}
	s.a.noteRejoin(nil) // it follows, and later refuses again
	if got := s.a.followAgain(second, refused); got != followFirst {
		t.Errorf("after it followed: %s, want %s", got, followFirst)
	}
}

// The same pace on the agent's own loop.
func TestRefusedFollowIsRepeated(t *testing.T) {
	s := replica(t)
	s.fails["follow"] = errors.New("connection refused")
	begun := s.now
	for s.now < begun.Add(4*time.Second) {
		s.heartbeat("m-0", 1)
		s.pass(100 * time.Millisecond)
	}
	// 20 ms apart until 80 ms, then each a quarter later than the one before: about 5 + log(4000/100)/log(1.25).
	if n := s.count("follow fails"); n < 15 || n > 30 {
		t.Errorf("it was told %d times in 4 s", n)
	}
}

func TestWhatReplacedDataHadIsTold(t *testing.T) {
	s := replica(t)
	s.a.obs.Engine.Position = failover.Position{DataEpoch: 4, Offset: 900, Whole: true}
	s.engine.replace = true
	s.did("replace")
	if want := (engine.Had{Epoch: 4, Primary: true}); s.engine.had != want {
		t.Errorf("the engine was told that it replaces %+v, want %+v", s.engine.had, want)
	}
	if s.a.Status().Lost != nil {
		t.Error("nothing is kept yet")
	}
	s.engine.kept = &engine.Kept{Had: s.engine.had, Bytes: 123, Dir: "/data/lost/x", First: "a", Last: "b", FileBytes: 8, Complete: true}
	s.happens(func() { s.a.OnExit(supervisor.Exit{PID: s.a.proc.pid}) })
	s.until("it is told", func() bool { return s.a.Status().Lost != nil })
	want := wire.Lost{Epoch: 4, Primary: true, Bytes: 123, Dir: "/data/lost/x", First: "a", Last: "b", FileBytes: 8, Complete: true}
	if got := s.a.Status().Lost; *got != want {
		t.Errorf("told %+v, want %+v", *got, want)
	}
}

// While the disk refuses to note that the data is replaced, nothing is, and what it had is not forgotten: it is what a loss is known by.
func TestDataIsReplacedWhenThatIsNoted(t *testing.T) {
	s := replica(t)
	s.a.obs.Engine.Position = failover.Position{DataEpoch: 4, Offset: 900, Whole: true}
	s.fails["save data"] = errDisk
	s.engine.replace = true
	s.did("save data 0 fails")
	id := s.a.Status().DataIdentity
	for range 50 {
		s.heartbeat("m-0", 1)
		s.pass(100 * time.Millisecond)
	}
	s.never("replace")
	if n := s.count("save data 0 fails"); n < 3 || n > 7 {
		t.Errorf("it was tried %d times in 5 s", n)
	}
	if now := s.a.Status().DataIdentity; now != id || now == "" {
		t.Errorf("its data was called %s and then %s", id, now)
	}
	delete(s.fails, "save data")
	s.did("replace")
	if want := (engine.Had{Epoch: 4, Primary: true}); s.engine.had != want {
		t.Errorf("the engine was told that it replaces %+v, want %+v", s.engine.had, want)
	}
}

// A disk that answers when the engine is another one says nothing of that one's data.
func TestReplacementOfAnEarlierEngine(t *testing.T) {
	s := replica(t)
	s.shut["save data"] = true
	s.engine.replace = true
	s.until("it is to be replaced", func() bool { s.heartbeat("m-0", 1); return s.a.replacing != nil })
	s.engine.replace = false
	s.happens(func() { s.a.OnExit(supervisor.Exit{PID: s.a.proc.pid}) })
	s.until("the next engine runs", func() bool { return s.a.proc.pid != 0 && s.a.obs.Engine.State == failover.EngineRunning })
	s.shut["save data"] = false
	s.pass(time.Second)
	s.never("replace")
	if s.a.proc.meant {
		t.Error("the end of the next engine would count as meant")
	}
}

// A former primary whose data follows on as it is lost nothing, and says so: then that is known for certain.
func TestDataThatFollowsOnLostNothing(t *testing.T) {
	s := replica(t)
	s.api.lease.Epoch = 5
	s.a.obs.Engine.Position = failover.Position{DataEpoch: 4, Offset: 900, Whole: true}
	s.a.data.DataEpoch, s.a.data.Whole = 4, true
	s.api.watch()
	s.until("it synchronises", func() bool { s.heartbeat("m-0", 5); return s.a.obs.Engine.Position.DataEpoch == 5 })
	if got := s.a.Status().Lost; got == nil || *got != (wire.Lost{Epoch: 4, Primary: true, Complete: true}) {
		t.Errorf("told %+v", got)
	}
	s.engine.kept = &engine.Kept{Had: engine.Had{Epoch: 3}, Bytes: 7}
	s.a.noteKept(s.a.lookKept())
	if got := s.a.Status().Lost; got.Epoch != 4 {
		t.Errorf("an older loss is told again: %+v", got)
	}
}
