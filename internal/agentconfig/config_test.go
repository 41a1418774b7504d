package agentconfig

import (
	"os"
	"path/filepath"
	"testing"
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
		path := filepath.Join(t.TempDir(), "agent.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := Load(path); (err == nil) != ok {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
}
