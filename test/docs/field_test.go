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

// Every test that docs/field-failures.md names is there. Parts of a test may be named in another file of its package.
func TestFieldFailures(t *testing.T) {
	text, err := os.ReadFile("../../docs/field-failures.md")
	if err != nil {
		t.Fatal(err)
	}
	packages := tests(t)
	_, table, _ := strings.Cut(string(text), "\n| ---")
	names := regexp.MustCompile("`(Test[A-Za-z0-9]+)(?:/([A-Za-z0-9]+))?`").FindAllStringSubmatch(table, -1)
	if len(names) < 14 {
		t.Fatalf("the table names %d tests", len(names))
	}
	for _, name := range names {
		found := false
		for _, source := range packages {
			found = found || strings.Contains(source, "func "+name[1]+"(t *testing.T)") && (name[2] == "" || strings.Contains(source, `"`+name[2]+`"`))
		}
		if !found {
			t.Errorf("there is no test %s", name[0])
		}
	}
}

// tests is the source of all tests of the repository, by package.
func tests(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
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
		all[filepath.Dir(path)] += string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
