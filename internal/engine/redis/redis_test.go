package redis

import (
	"strings"
	"testing"

	"understudy.dev/understudy/internal/agentconfig"
)

func TestConfigurationKeepsWhatIsOurs(t *testing.T) {
	r := New(agentconfig.Redis{Port: 6380, Parameters: map[string]string{
		"maxmemory": "100mb", "bind": "0.0.0.0", "requirepass": "theirs", "save": "60 1\nbind 0.0.0.0", "notify-keyspace-events": "",
	}}, "/data", "pass\"\nword")
	got := r.configuration()
	for _, want := range []string{"bind 127.0.0.1\n", "port 6380\n", "maxmemory 100mb\n", "save 60 1 bind 0.0.0.0\n", "notify-keyspace-events \"\"\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("configuration lacks %q:\n%s", want, got)
		}
	}
	for _, bad := range []string{"bind 0.0.0.0\n\n", "theirs", "pass\""} {
		if strings.Contains(got, bad) {
			t.Errorf("configuration holds %q:\n%s", bad, got)
		}
	}
	if n := strings.Count(got, "\nbind ") + strings.Count(got[:5], "bind "); n != 1 {
		t.Errorf("bind is set %d times:\n%s", n, got)
	}
}

func TestPersistentServerUsesAppendOnly(t *testing.T) {
	if got := New(agentconfig.Redis{Persistent: true}, "/data", "x").configuration(); !strings.Contains(got, "appendonly yes\n") {
		t.Errorf("no append-only file:\n%s", got)
	}
	if got := New(agentconfig.Redis{}, "/data", "x").configuration(); !strings.Contains(got, "appendonly no\n") {
		t.Errorf("append-only file without a volume:\n%s", got)
	}
}

func TestParseReplica(t *testing.T) {
	got := parse("# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:up\r\nmaster_sync_in_progress:0\r\n" +
		"slave_repl_offset:77\r\nmaster_repl_offset:5\r\nloading:0\r\ndb0:keys=3,expires=0,avg_ttl=0\r\n")
	if got.Primary || !got.LinkUp || got.Offset != 77 || got.Upstream != "10.0.0.1:6379" || !got.HasData || got.Loading {
		t.Errorf("parse = %+v", got)
	}
	for _, broken := range []string{"master_link_status:down\nmaster_sync_in_progress:0", "master_link_status:up\nmaster_sync_in_progress:1"} {
		if got := parse("role:slave\n" + broken); got.LinkUp {
			t.Errorf("a link is up after %q", broken)
		}
	}
}

func TestParsePrimary(t *testing.T) {
	got := parse("role:master\r\nmaster_repl_offset:42\r\nloading:1\r\n")
	if !got.Primary || got.Offset != 42 || got.HasData || !got.Loading {
		t.Errorf("parse = %+v", got)
	}
}

func TestParseFailingLog(t *testing.T) {
	for status, failing := range map[string]bool{"err": true, "ok": false} {
		got := parse("role:master\r\nmaster_repl_offset:42\r\nloading:0\r\naof_last_write_status:" + status + "\r\n")
		if (got.Failing != "") != failing || got.Offset != 42 {
			t.Errorf("after a log write that ended with %q: parse = %+v", status, got)
		}
	}
}
