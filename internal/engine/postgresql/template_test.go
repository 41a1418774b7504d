package postgresql

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// template is the volume of a new member, made once: tests that are not about making one begin with a copy of it.
var template struct {
	once sync.Once
	dir  string
	err  error
}

// begin puts a new member's data on its volume.
func (m *member) begin() {
	m.t.Helper()
	template.once.Do(func() { template.dir, template.err = makeTemplate(m.t) })
	if template.err != nil {
		m.t.Fatal(template.err)
	}
	if out, err := exec.Command("cp", "-a", template.dir+"/.", m.disk.dir).CombinedOutput(); err != nil {
		m.t.Fatalf("copying the template: %v: %s", err, out)
	}
}

// makeTemplate runs the processes before the server.
func makeTemplate(t *testing.T) (string, error) {
	root, err := os.MkdirTemp("/tmp", "us-pt")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "volume")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	p := New(configOf(t, 0), dir, filepath.Join(root, "run"), Secrets{Replication: memberPassword, Owner: ownerPassword})
	for range 10 {
		proc, err := p.Process()
		if err != nil || p.stage == runServer {
			return dir, err
		}
		cmd := &exec.Cmd{Path: proc.Path, Args: proc.Args, Env: proc.Env, Dir: proc.Dir, Stdin: strings.NewReader(string(proc.Stdin))}
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("making the template: %w: %s", err, out)
		}
	}
	return "", fmt.Errorf("making the template: it does not come to a server")
}

// dropTemplate removes it after the last test.
func dropTemplate() {
	if template.dir != "" {
		_ = os.RemoveAll(filepath.Dir(template.dir))
	}
}

// fromNothing is a member that begins with an empty volume.
func fromNothing(t *testing.T, n int, options ...option) *member {
	t.Helper()
	return makeMember(t, n, options...)
}

// newMember is a member that was made, and was part of nothing yet.
func newMember(t *testing.T, n int, options ...option) *member {
	t.Helper()
	m := makeMember(t, n, options...)
	m.begin()
	return m
}
