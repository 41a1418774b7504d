package agentconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy.dev/understudy/internal/names"
)

func TestLoadTakesExactlyOneEngine(t *testing.T) {
	const head = `{"service":"s","namespace":"n","serviceUID":"u"`
	for text, ok := range map[string]bool{
		head + `,"redis":{"port":6379}}`:                            true,
		head + `,"postgresql":{"port":5432,"members":["s-0"]}}`:     true,
		head + `,"redis":{"port":6379},"postgresql":{"port":5432}}`: false,
		head + `}`: false,
		`{"service":"s","namespace":"n","postgresql":{"port":5432}}`:      false,
		`{"service":"s","namespace":"n","serviceUID":"u","postgresql":1}`: false,
	} {
		if c, err := Load(folder(t, text, text)); (err == nil) != ok {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
}

func folder(t *testing.T, made, live string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{names.ConfigFile: made, names.LiveConfigFile: live} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What a member is started with is its pod's own, also when the container is started again; what it takes in while it runs is the service's.
func TestLoadStartsWithWhatThePodWasMadeWith(t *testing.T) {
	const head = `{"service":"s","namespace":"n","serviceUID":"u"`
	c, err := Load(folder(t, head+`,"postgresql":{"port":5432,"parameters":{"work_mem":"1MB"},"members":["s-0"]}}`,
		head+`,"postgresql":{"port":6000,"parameters":{"work_mem":"2MB"},"members":["s-0","s-1"],"hba":["host all all all md5"]}}`))
	if p := c.PostgreSQL; err != nil || p.Port != 5432 || p.Parameters["work_mem"] != "2MB" || len(p.Members) != 2 || len(p.HBA) != 1 {
		t.Errorf("PostgreSQL: %+v, %v", c.PostgreSQL, err)
	}
	const redis = head + `,"redis":{"port":6379,"parameters":{"maxmemory":"1mb"}}}`
	for _, live := range []string{"", head + `,"redis":{"port":6379,"parameters":{"maxmemory":"nonsense"}}}`} {
		if c, err := Load(folder(t, redis, live)); err != nil || c.Redis.Parameters["maxmemory"] != "1mb" {
			t.Errorf("Redis beside %q: %+v, %v", live, c.Redis, err)
		}
	}
	for _, live := range []string{"", redis} {
		if _, err := Load(folder(t, head+`,"postgresql":{"port":5432}}`, live)); err == nil || !strings.Contains(err.Error(), names.LiveConfigFile) {
			t.Errorf("PostgreSQL beside %q: %v", live, err)
		}
	}
}
