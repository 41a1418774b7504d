package postgresql

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

// with is what configOf has, and more.
func with(parameters map[string]string, hba ...string) agentconfig.Reloadable {
	all := map[string]string{"shared_buffers": "16MB", "max_connections": "20"}
	maps.Copy(all, parameters)
	return agentconfig.Reloadable{Parameters: all, HBA: append([]string{"host all all all scram-sha-256"}, hba...)}
}

// ask tells the adapter once what the service asks for.
func (m *member) ask(r agentconfig.Reloadable) (engine.Configuration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return m.Reconfigure(ctx, agentconfig.Config{PostgreSQL: &agentconfig.PostgreSQL{Parameters: r.Parameters, HBA: r.HBA}})
}

// judges asks, as the agent does, until the running server was looked at with that.
func (m *member) judges(r agentconfig.Reloadable) engine.Configuration {
	m.t.Helper()
	var c engine.Configuration
	until(m.t, m.name+" judges its configuration", func() bool {
		var err error
		if c, err = m.ask(r); err != nil {
			m.t.Logf("%s: %v", m.name, err)
		}
		m.PostgreSQL.mu.Lock()
		defer m.PostgreSQL.mu.Unlock()
		return err == nil && c.Judged == r.Digest() && m.tuning.life == m.life && m.stage == runServer
	})
	return c
}

func (m *member) accepts(r agentconfig.Reloadable) {
	m.t.Helper()
	if c := m.judges(r); c.Refused != "" || len(c.RestartFor) > 0 {
		m.t.Errorf("%s: %+v", m.name, c)
	}
}

func (m *member) refuses(r agentconfig.Reloadable, words ...string) {
	m.t.Helper()
	c := m.judges(r)
	for _, w := range words {
		if !strings.Contains(c.Refused, w) {
			m.t.Errorf("%s: no %q in %q", m.name, w, c.Refused)
		}
	}
}

func (m *member) has(parameter, want string) {
	m.t.Helper()
	if got := m.admin("SELECT pg_catalog.current_setting('" + parameter + "')"); got != want {
		m.t.Errorf("%s: %s is %s, want %s", m.name, parameter, got, want)
	}
}

// again starts it with a new adapter, as in a new pod with the same volume, asked for r by its file.
func (m *member) again(r agentconfig.Reloadable) {
	m.t.Helper()
	m.kill()
	config := m.config
	config.Parameters, config.HBA = r.Parameters, r.HBA
	m.PostgreSQL = New(config, m.disk.dir, m.runDir, m.secrets)
	m.start().running()
}

func TestReloadedParametersAndLines(t *testing.T) {
	t.Parallel()
	m := newMember(t, 0).start().running()
	m.accepts(with(nil))
	m.promote(engine.Quorum{})
	c := m.mustClient()
	m.accepts(with(map[string]string{"work_mem": "7MB", "myapp.color": "blue"}))
	m.has("work_mem", "7MB")
	if got, err := exec1(within(t), c, "SHOW work_mem"); err != nil || got != "7MB" {
		t.Errorf("a session that was there reads %q, %v", got, err)
	}
	m.accepts(agentconfig.Reloadable{Parameters: with(nil).Parameters, HBA: []string{"host all all all reject"}})
	m.has("work_mem", "4MB")
	if _, err := m.client(); err == nil {
		t.Error("a client came in past a line that rejects all")
	}
	m.accepts(with(nil))
	m.mustClient()
	// Lines do not open the door.
	if _, err := m.Pause(within(t), time.Minute); err != nil {
		t.Fatal(err)
	}
	m.accepts(with(map[string]string{"work_mem": "8MB"}, "host app all all md5"))
	if _, err := m.client(); err == nil {
		t.Error("a new configuration ended the pause")
	}
}

func TestRefusedConfigurationChangesNothing(t *testing.T) {
	t.Parallel()
	m := newMember(t, 0).start().running()
	good := with(map[string]string{"work_mem": "7MB"})
	m.accepts(good)
	m.promote(engine.Quorum{})
	c := m.mustClient()
	for _, bad := range []struct {
		is    agentconfig.Reloadable
		words []string
	}{
		{with(map[string]string{"work_mom": "1MB"}), []string{`unrecognized configuration parameter "work_mom"`, "correct spec"}},
		{with(map[string]string{"work_mem": "7 apples"}), []string{`invalid value for parameter "work_mem": "7 apples"`, "Valid units"}},
		{with(map[string]string{"max_connections": "-1", "work_mem": "9MB"}), []string{`-1 is outside the valid range for parameter "max_connections"`}},
		{with(map[string]string{"superuser_reserved_connections": "20"}), []string{"must be less than max_connections"}},
		{with(map[string]string{"shared_preload_libraries": "nowhere"}), []string{`could not access file "nowhere"`}},
		{with(map[string]string{"port": "1"}), []string{`parameter "port" = "1" is set by the operator`}},
		{with(map[string]string{"work_mem": "9MB"}, "host all all all magic"), []string{`"host all all all magic"`, "invalid authentication method", "hostBasedAuthentication"}},
		{with(nil, "host all all 1.2.3.4 md5", "host all all 300.0.0.0/8 md5"), []string{`line "host all all 300.0.0.0/8 md5"`}},
		{with(nil, "local all all trust"), []string{"must begin with host"}},
	} {
		m.refuses(bad.is, bad.words...)
		m.has("work_mem", "7MB")
	}
	if got, err := exec1(within(t), c, "SELECT 1"); err != nil || got != "1" {
		t.Errorf("a session from before: %q, %v", got, err)
	}
	m.mustClient() // and the door is as it was
	// Neither a crash nor a new pod takes in what was refused; and it is told again.
	bad := with(map[string]string{"work_mem": "much"})
	m.refuses(bad, "work_mem")
	m.crash()
	until(t, "it is a standby again", func() bool { r, ok := m.report(); return ok && !r.Primary })
	m.has("work_mem", "7MB")
	m.again(bad)
	m.has("work_mem", "7MB")
	m.refuses(bad, `"work_mem": "much"`)
	line := with(map[string]string{"work_mem": "9MB"}, "host all all all magic")
	m.again(line)
	m.has("work_mem", "7MB")
	m.promote(engine.Quorum{})
	m.mustClient()
	m.refuses(line, "magic")
	m.accepts(with(map[string]string{"work_mem": "10MB"}))
	m.has("work_mem", "10MB")
}

func TestParametersThatNeedARestart(t *testing.T) {
	t.Parallel()
	m := newMember(t, 0).start().running()
	m.accepts(with(nil))
	more := with(map[string]string{"max_connections": "30", "shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": "200", "work_mem": "7MB"})
	if c := m.judges(more); c.Refused != "" || !slices.Equal(c.RestartFor, []string{"max_connections", "shared_preload_libraries"}) {
		t.Errorf("%+v", c)
	}
	m.has("work_mem", "7MB")
	m.has("max_connections", "20")
	// A fault on top of it changes nothing of that.
	m.refuses(with(map[string]string{"max_connections": "many"}), "many")
	if c := m.judges(more); c.Refused != "" || len(c.RestartFor) != 2 {
		t.Errorf("%+v", c)
	}
	m.crash()
	until(t, "it runs with more connections", func() bool { _, ok := m.report(); return ok && m.admin("SHOW max_connections") == "30" })
	m.has("pg_stat_statements.max", "200")
	m.accepts(more)
	// What the data has seen on a primary stays, so nothing waits for a restart.
	m.promote(engine.Quorum{})
	m.accepts(with(map[string]string{"max_connections": "25", "shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": "200"}))
	m.has("max_connections", "30")
}

// Parameters that are valid, and with which a server cannot run on this machine.
func TestParametersWithWhichNoServerStarts(t *testing.T) {
	t.Parallel()
	m := newMember(t, 0).start().running()
	m.accepts(with(nil))
	if raw, _ := os.ReadFile("/proc/sys/vm/nr_hugepages"); strings.TrimSpace(string(raw)) != "0" {
		t.Skip("this machine has huge pages")
	}
	huge := with(map[string]string{"huge_pages": "on", "work_mem": "7MB"})
	if c := m.judges(huge); c.Refused != "" || len(c.RestartFor) != 1 {
		t.Fatalf("%+v", c)
	}
	m.crash()
	m.running()
	m.has("huge_pages", "try")
	m.refuses(huge, "started 3 times", "spec.template.resources")
	m.again(huge)
	m.has("huge_pages", "try")
	m.accepts(with(map[string]string{"work_mem": "8MB"}))
}

// A new service has nothing to go on with: it does not begin before its configuration is good.
func TestFirstConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	for word, bad := range map[string]agentconfig.Reloadable{
		"work_mom": with(map[string]string{"work_mom": "1"}), "magic": with(nil, "host all all all magic"),
	} {
		m := fromNothing(t, 0, func(c *agentconfig.PostgreSQL) { c.Parameters, c.HBA = bad.Parameters, bad.HBA }).start()
		until(t, "it refuses", func() bool {
			c, _ := m.ask(bad)
			return c.Judged == bad.Digest() && strings.Contains(c.Refused, word) && strings.Contains(c.Refused, "correct spec")
		})
		if slices.Contains(m.ran(), runServer) {
			t.Error("a server was started")
		}
		until(t, "it runs when that is corrected", func() bool {
			_, _ = m.ask(with(nil))
			_, ok := m.report()
			return ok
		})
		m.accepts(with(nil))
	}
}

// Data that comes without a note of what was accepted, and lines with a fault: members come in, and clients do not.
func TestLinesWithAFaultKeepOnlyClientsOut(t *testing.T) {
	t.Parallel()
	bad := with(nil, "host all all all magic")
	a := newMember(t, 0, func(c *agentconfig.PostgreSQL) { c.HBA = bad.HBA }).start().running()
	a.refuses(bad, "magic")
	a.promote(engine.Quorum{})
	if _, err := a.client(); err == nil {
		t.Error("a client was let in by lines that nobody asked for")
	}
	newMember(t, 1).start().running().follows(a)
	a.accepts(with(nil))
	a.mustClient()
}
