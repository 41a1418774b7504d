package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/wire"
)

// tunedEngine takes in a configuration, one parameter of which it refuses and another of which needs a restart.
type tunedEngine struct {
	*fakeEngine
	asked int
}

func (e *tunedEngine) Reconfigure(_ context.Context, config agentconfig.Config) (engine.Configuration, error) {
	e.asked++
	c := engine.Configuration{Judged: config.PostgreSQL.Reloadable().Digest()}
	if _, bad := config.PostgreSQL.Parameters["bad"]; bad {
		c.Refused = "bad is bad"
	}
	if _, slow := config.PostgreSQL.Parameters["slow"]; slow {
		c.RestartFor = []string{"slow"}
	}
	return c, e.s.call("reconfigure", "")
}

// tunable is a serving stage whose engine takes in what the file says; the result changes the file.
func tunable(t *testing.T) (s *stage, e *tunedEngine, write func(parameter string) string, unreadable func(error)) {
	s = serving(t, true)
	e = &tunedEngine{fakeEngine: s.engine}
	var broken error
	file := agentconfig.Config{PostgreSQL: &agentconfig.PostgreSQL{}}
	s.a.Engine = e
	s.a.LoadConfig = func() (agentconfig.Config, error) {
		if broken != nil {
			return agentconfig.Config{}, broken
		}
		return file, nil
	}
	s.happens(s.a.watchConfig)
	write = func(parameter string) string {
		file = agentconfig.Config{PostgreSQL: &agentconfig.PostgreSQL{Parameters: map[string]string{parameter: "1"}}}
		return file.PostgreSQL.Reloadable().Digest()
	}
	return s, e, write, func(err error) { broken = err }
}

func TestConfigurationIsTakenInAndTold(t *testing.T) {
	s, e, write, unreadable := tunable(t)
	tells := func(what, digest string, ok func(wire.Status) bool) {
		t.Helper()
		s.until(what, func() bool { st := s.a.Status(); return st.Configured == digest && ok(st) })
	}
	tells("a good one", write("good"), func(st wire.Status) bool { return st.Refused == "" && !st.PendingRestart })
	good := s.a.Status()
	tells("a bad one", write("bad"), func(st wire.Status) bool { return st.Refused == "bad is bad" && st.Serving })
	if bad := s.a.Status(); sameStatus(good, bad) {
		t.Error("the operator would not hear of it")
	}
	last := write("slow")
	tells("one that needs a restart", last, func(st wire.Status) bool { return st.PendingRestart && st.RestartFor[0] == "slow" })
	// A file that cannot be read changes nothing, and is looked at again.
	unreadable(errors.New("no such file"))
	before := e.asked
	s.until("the file is looked at", func() bool { return e.asked > before })
	if st := s.a.Status(); st.Configured != last {
		t.Errorf("without the file it tells %+v", st)
	}
	unreadable(nil)
	tells("what was written meanwhile", write("good"), func(st wire.Status) bool { return st.Refused == "" })
}

// An engine that hangs while it takes in its configuration holds up nothing else.
func TestHangingReconfigurationHoldsUpNothing(t *testing.T) {
	s, e, write, _ := tunable(t)
	s.shut["reconfigure"] = true
	write("good")
	s.until("it hangs", func() bool { return e.asked > 0 })
	beats := s.count("heartbeat")
	s.pass(5 * time.Second)
	if e.asked != 1 {
		t.Errorf("asked %d times at once", e.asked)
	}
	if got := s.count("heartbeat") - beats; got == 0 || !s.a.Status().Serving {
		t.Errorf("%d heartbeats, %+v", got, s.a.Status())
	}
	s.shut["reconfigure"] = false
	s.until("it goes on", func() bool { return e.asked > 1 })
}
