// Package docs checks what the documentation says of this repository.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that docs/field-failures.md names is there.
func TestFieldFailures(t *testing.T) {
	text, err := os.ReadFile("../../docs/field-failures.md")
	if err != nil {
		t.Fatal(err)
	}
	source := tests(t)
	_, table, _ := strings.Cut(string(text), "\n| ---")
	names := regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([A-Za-z0-9]+))?`").FindAllStringSubmatch(table, -1)
	if len(names) < 14 {
		t.Fatalf("the table names %d tests", len(names))
	}
	for _, name := range names {
		if !strings.Contains(source, "func "+name[1]+"(t *testing.T)") {
			t.Errorf("there is no test %s", name[1])
		}
		if name[2] != "" && !strings.Contains(source, `"`+name[2]+`"`) {
			t.Errorf("test %s has no part %s", name[1], name[2])
		}
	}
}

// tests is the source of all tests of the repository.
func tests(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != "..":
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		raw, err := os.ReadFile(path)
		all.Write(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
