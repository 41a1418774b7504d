package postgresql

import (
	"slices"
	"strings"
	"testing"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

func TestCompare(t *testing.T) {
	at := func(system string, tli uint32, l lsn) place { return place{system, tli, l} }
	for name, c := range map[string]struct {
		own      place
		ownTurns []turn
		primary  place
		turns    []turn
		want     relation
		fork     lsn
	}{
		"behind on the same timeline":             {at("s", 1, 90), nil, at("s", 1, 100), nil, streams, 90},
		"level on the same timeline":              {at("s", 1, 100), nil, at("s", 1, 100), nil, streams, 100},
		"ahead on the same timeline":              {at("s", 1, 110), nil, at("s", 1, 100), nil, ahead, 100},
		"another cluster":                         {at("s", 1, 90), nil, at("x", 1, 100), nil, foreign, 0},
		"before the turn":                         {at("s", 1, 90), nil, at("s", 2, 200), []turn{{1, 100}}, streams, 90},
		"at the turn":                             {at("s", 1, 100), nil, at("s", 2, 200), []turn{{1, 100}}, streams, 100},
		"beyond the turn":                         {at("s", 1, 130), nil, at("s", 2, 200), []turn{{1, 100}}, diverged, 100},
		"two turns behind":                        {at("s", 1, 90), nil, at("s", 3, 300), []turn{{1, 100}, {2, 200}}, streams, 90},
		"on the middle one, before its turn":      {at("s", 2, 150), []turn{{1, 100}}, at("s", 3, 300), []turn{{1, 100}, {2, 200}}, streams, 150},
		"on the middle one, beyond its turn":      {at("s", 2, 250), []turn{{1, 100}}, at("s", 3, 300), []turn{{1, 100}, {2, 200}}, diverged, 200},
		"both turned from the same":               {at("s", 2, 150), []turn{{1, 100}}, at("s", 3, 300), []turn{{1, 120}}, diverged, 100},
		"the same number, of another turn":        {at("s", 2, 150), []turn{{1, 100}}, at("s", 2, 300), []turn{{1, 120}}, diverged, 100},
		"the primary did not turn":                {at("s", 2, 150), []turn{{1, 100}}, at("s", 1, 300), nil, diverged, 100},
		"the primary did not come to our turn":    {at("s", 2, 150), []turn{{1, 100}}, at("s", 1, 80), nil, diverged, 80},
		"the same number, nothing before it same": {at("s", 2, 150), []turn{{1, 100}}, at("s", 4, 300), []turn{{3, 120}}, foreign, 0},
	} {
		if got, fork := compare(c.own, c.ownTurns, c.primary, c.turns); got != c.want || fork != c.fork {
			t.Errorf("%s: %s at %d, want %s at %d", name, got, fork, c.want, c.fork)
		}
	}
}

func TestParseHistory(t *testing.T) {
	got, err := parseHistory("# a comment\n1\t0/3000060\tno recovery target specified\n\n2\t1/A0\treason\n")
	if err != nil || len(got) != 2 || got[0] != (turn{1, 0x3000060}) || got[1] != (turn{2, 0x1000000a0}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"1", "x 0/1", "1 zero"} {
		if got, err := parseHistory(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func TestStandbyNames(t *testing.T) {
	for _, c := range []struct {
		q    engine.Quorum
		want string
	}{
		{engine.Quorum{}, ""},
		{engine.Quorum{Members: []string{"a"}}, ""},
		{engine.Quorum{Replicas: 1}, "ANY 1 (*)"},
		{engine.Quorum{Replicas: 2, Members: []string{"db-0.1", `d"b`, "c"}}, `ANY 2 ("db-0.1", "d""b", "c")`},
	} {
		if got, err := standbyNames(c.q); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v; want %q", c.q, got, err, c.want)
		}
	}
	if got, err := standbyNames(engine.Quorum{Replicas: 2, Members: []string{"a"}}); err == nil {
		t.Errorf("a set that can never acknowledge became %q", got)
	}
}

func TestStricter(t *testing.T) {
	q := func(n int, m ...string) engine.Quorum { return engine.Quorum{Replicas: n, Members: m} }
	for _, c := range []struct {
		a, b engine.Quorum
		want bool
	}{
		{q(0), q(0), false}, {q(0), q(1, "a"), true}, {q(1, "a"), q(0), false}, {q(1, "a", "b"), q(2, "a", "b"), true},
		{q(2, "a", "b"), q(1, "a", "b"), false}, {q(1, "a"), q(1, "a", "b"), false}, {q(1, "a", "b"), q(1, "a"), true}, {q(1), q(1, "a"), true},
	} {
		if got := stricter(c.a, c.b); got != c.want {
			t.Errorf("from %+v to %+v: %t", c.a, c.b, got)
		}
	}
}

func TestParametersThatAreRefused(t *testing.T) {
	for name, value := range map[string]string{
		"listen_addresses": "x", "Port": "1", "primary_conninfo": "x", "synchronous_standby_names": "", "hba_file": "x", "include": "/etc/passwd",
		"restore_command": "rm", "recovery_target_time": "now", "bad name": "1", "a'b": "1", "work_mem": "1MB\nport = 1", "wal_level": "minimal",
		"max_slot_wal_keep_size": " -1", "fsync": "off", "restart_after_crash": "on", "data_directory": "/", "understudy.generation": "1",
		"max_wal_senders": "3", "synchronous_commit": "off",
	} {
		p := New(agentconfig.PostgreSQL{Members: []string{"db-0"}, Parameters: map[string]string{name: value}}, "/d", "/r", Secrets{})
		if err := p.checkParameters(p.used().Parameters); err == nil || !strings.Contains(err.Error(), "parameter") {
			t.Errorf("%s = %q: %v", name, value, err)
		}
	}
	good := map[string]string{"work_mem": "1MB", "Wal_Level": "logical", "pg_stat_statements.max": "100", "log_line_prefix": `%m '\`, "max_wal_senders": "20"}
	p := New(agentconfig.PostgreSQL{Members: []string{"db-0"}, Parameters: good}, "/d", "/r", Secrets{})
	if err := p.checkParameters(p.used().Parameters); err != nil {
		t.Error(err)
	}
	text := p.configuration()
	for _, want := range []string{"work_mem = '1MB'\n", "wal_level = 'logical'\n", `log_line_prefix = '%m ''\\'` + "\n", "synchronous_commit = 'on'\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if !strings.HasSuffix(text, "include '/r/managed.conf'\n") || strings.Count(text, "wal_level") != 1 {
		t.Errorf("configuration:\n%s", text)
	}
}

func TestOwnedIsComplete(t *testing.T) {
	p := New(agentconfig.PostgreSQL{TLS: &agentconfig.PostgreSQLTLS{}}, "/d", "/r", Secrets{})
	for _, name := range append(sortedKeys(p.fixed()), managedNames...) {
		if !slices.Contains(Owned, name) {
			t.Errorf("%s could be set by a user", name)
		}
	}
}

func TestComplaint(t *testing.T) {
	for log, want := range map[string]string{
		"2026 GMT [1] LOG:  skipping missing configuration file \"/x\"\n2026 GMT [1] LOG:  unrecognized configuration parameter \"a\" in file \"/r/c\" line 2\n" +
			"2026 GMT [1] FATAL:  configuration file \"/r/c\" contains errors\n": `unrecognized configuration parameter "a"`,
		"1 LOG:  invalid value for parameter \"b\": \"x\"\n1 HINT:  Valid units are.\n": `invalid value for parameter "b": "x"; Valid units are.`,
		"postgres: superuser_reserved_connections (9) must be less\n":                   "superuser_reserved_connections (9) must be less",
		"no such file": "no such file", "": "it said nothing",
	} {
		if got := complaint(log); got != want {
			t.Errorf("%q became %q, want %q", log, got, want)
		}
	}
}

func TestRaise(t *testing.T) {
	for value, want := range map[string]string{"12": "20", "\t12": "20", "0x14": "0x14", "1e1": "20", "30": "30", "many": "many", "-1": "-1"} {
		lines := map[string]string{"max_connections": value}
		if raise(lines, map[string]int{"max_connections": 20}); lines["max_connections"] != want {
			t.Errorf("%q became %q, want %q", value, lines["max_connections"], want)
		}
	}
}

func TestLinesOfHBAThatAreRefused(t *testing.T) {
	for _, line := range []string{"local all all trust", "host all all all", "host replication all all trust", "host app,replication x all trust",
		"host all all all trust\nlocal all all trust", "include /etc/passwd", "@file", "host @f all all trust", "host all all all trust \\", ""} {
		if err := checkHBA([]string{line}); err == nil {
			t.Errorf("%q was accepted", line)
		}
	}
	if err := checkHBA([]string{"host all all 10.0.0.0/8 scram-sha-256", "hostssl app x samenet cert"}); err != nil {
		t.Error(err)
	}
}

func TestDoors(t *testing.T) {
	p := New(agentconfig.PostgreSQL{HBA: []string{"host app app all md5"}}, "/d", "/r", Secrets{})
	for d, want := range map[door][2]bool{closed: {false, false}, following: {false, true}, detached: {true, true}, membersOnly: {true, false}, open: {true, true}} {
		text := p.hba(d, p.used().HBA)
		if got := [2]bool{strings.Contains(text, "host replication,postgres understudy all scram"), strings.Contains(text, "host app app all md5")}; got != want {
			t.Errorf("%s lets members and clients in: %v, want %v:\n%s", d, got, want, text)
		}
	}
	p.config.TLS = &agentconfig.PostgreSQLTLS{}
	if text := p.hba(open, p.used().HBA); !strings.Contains(text, "hostssl replication,postgres understudy all cert map=members") || strings.Contains(text, "understudy all scram") {
		t.Errorf("with TLS members log in with their certificates alone:\n%s", text)
	}
	const root = "hostssl all postgres all scram-sha-256\n"
	for d, want := range map[door]bool{closed: false, following: true, detached: true, membersOnly: false, open: true} {
		p.config.SuperuserLogin = true
		text := p.hba(d, nil)
		at, reject := strings.Index(text, root), strings.Index(text, "host all postgres all reject")
		if at >= 0 != want || reject < at {
			t.Errorf("%s lets the superuser in: %t, want %t:\n%s", d, at >= 0, want, text)
		}
		if p.config.SuperuserLogin = false; strings.Contains(p.hba(d, nil), root) {
			t.Errorf("%s lets the superuser in though nobody asked for it", d)
		}
	}
}

func TestQuoting(t *testing.T) {
	p := New(agentconfig.PostgreSQL{}, "/d", "/r", Secrets{Replication: `a:b\c`})
	if got := p.conninfoBase("[::1]:5432", `x' y\`); !strings.Contains(got, "host='::1' port='5432'") || !strings.Contains(got, `application_name='x\' y\\'`) {
		t.Error(got)
	}
	if got := p.passfile(); got != `*:*:*:understudy:a\:b\\c`+"\n" {
		t.Error(got)
	}
	if got := stripAutoConf("# x\nwork_mem = '1'\nprimary_conninfo = 'x'\nsynchronous_standby_names=''\n"); got != "# x\nwork_mem = '1'\n" {
		t.Errorf("%q", got)
	}
	long := strings.Repeat("x", 60)
	if a, b := slotName(long+"-0"), slotName(long+"-1"); a == b || len(a) > 63 || slotName("Db-0") != "understudy_db_0" {
		t.Error(a, b, slotName("Db-0"))
	}
}

// The vector is that of RFC 7677, section 3: the proof and the server's signature there follow from these keys.
func TestVerifier(t *testing.T) {
	got, err := verifierOf("pencil", []byte("[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81"), 4096)
	want := "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if err != nil || got != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	for _, bad := range []string{"", "naïve", "a\nb"} {
		if v, err := verifier("it", bad); err == nil {
			t.Errorf("%q became %s", bad, v)
		}
	}
}

func TestSegmentNumber(t *testing.T) {
	for at, want := range map[lsn]string{0: "0000000000000000", 0x1000000: "0000000000000001", 0x1FFFFFFFF: "00000001000000FF", 0x200000000: "0000000200000000"} {
		if got := segmentNumber(at, 16<<20); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
}

func TestLoudest(t *testing.T) {
	listed := map[int]string{1: "postgres: client", 2: "postgres: authentication", 3: "postgres: logger", 4: "postgres: checkpointer", 5: "mine", 6: "postgres: apply"}
	view := [][]string{{"1", "client backend"}, {"4", "checkpointer"}, {"5", "walsender"}, {"6", "logical replication worker"}, {"9", "client backend"}}
	got := map[int]bool{}
	for _, pid := range loudest(listed, view, []int{5}) {
		got[pid] = true
	}
	if len(got) != 3 || !got[1] || !got[2] || !got[6] {
		t.Errorf("%v", got)
	}
}

func TestReceiversLibraryIsLoadedWithTheServer(t *testing.T) {
	for users, want := range map[string]string{"": "libpqwalreceiver", "pg_stat_statements,auto_explain": "libpqwalreceiver,pg_stat_statements,auto_explain"} {
		c := agentconfig.PostgreSQL{}
		if users != "" {
			c.Parameters = map[string]string{"shared_preload_libraries": users}
		}
		if text := New(c, t.TempDir(), "/r", Secrets{}).configuration(); !strings.Contains(text, "shared_preload_libraries = '"+want+"'\n") {
			t.Errorf("with the user's %q:\n%s", users, text)
		}
	}
}
