package postgresql

import (
	"os"
	"strings"
	"testing"

	"understudy.dev/understudy/internal/agentconfig"
)

func TestNamed(t *testing.T) {
	p := New(agentconfig.PostgreSQL{}, "/d", t.TempDir(), Secrets{})
	if env, err := p.named(os.Geteuid()); err != nil || len(env) != 0 {
		t.Errorf("a user with a name: %v, %v", env, err)
	}
	before := wrappers
	defer func() { wrappers = before }()
	wrappers = []string{"/none/*/libnss_wrapper.so"}
	if env, err := p.named(4711); err == nil || !strings.Contains(err.Error(), "the user 4711 has no name") {
		t.Errorf("without the library: %v, %v", env, err)
	}
	wrappers = append(wrappers, p.run("lib.so"))
	if err := os.WriteFile(p.run("lib.so"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env, err := p.named(4711)
	if err != nil || len(env) != 3 || env[0] != "LD_PRELOAD="+p.run("lib.so") {
		t.Errorf("with the library: %v, %v", env, err)
	}
	if raw, err := os.ReadFile(p.run("passwd")); err != nil || !hasName(string(raw), 4711) || hasName(string(raw), 471) {
		t.Errorf("%s, %v", raw, err)
	}
}
