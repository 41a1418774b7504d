package build

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Builder makes programs from the sources in Source, the hack/cluster folder of a clone.
type Builder struct {
	Source   string
	Cache    string
	Progress io.Writer
}

// Ensure builds what the cache lacks of the named components (all, without names) and links the programs into a
// folder.
func (b *Builder) Ensure(bin string, names ...string) error {
	toolchain, err := b.toolchain()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return fmt.Errorf("making the folder of programs: %w", err)
	}
	for _, c := range components() {
		if len(names) > 0 && !slices.Contains(names, c.name) {
			continue
		}
		key, err := b.key(c, toolchain)
		if err != nil {
			return err
		}
		folder := filepath.Join(b.Cache, c.name+"-"+c.version+"-"+key)
		if err := b.component(c, folder); err != nil {
			return err
		}
		if err := link(c, folder, bin); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) toolchain() (string, error) {
	command := exec.Command("go", "env", "GOVERSION", "GOOS", "GOARCH")
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("asking go for its version: %w: install Go 1.26 or newer", err)
	}
	return string(output), nil
}

// key names everything a component is made from.
func (b *Builder) key(c component, toolchain string) (string, error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%s %+v", toolchain, c)
	if c.module != "" {
		for _, name := range []string{"go.mod", "go.sum", "main.go"} {
			data, err := os.ReadFile(filepath.Join(b.Source, c.module, name))
			if err != nil {
				return "", fmt.Errorf("reading the sources of %s: %w: run from a clone of the repository", c.name, err)
			}
			fmt.Fprintf(hash, "%s %d\n%s", name, len(data), data)
		}
	}
	return hex.EncodeToString(hash.Sum(nil))[:12], nil
}

func (b *Builder) component(c component, folder string) error {
	if _, err := os.Stat(folder); err == nil {
		return nil
	}
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	// Built beside and renamed, so that a folder in the cache is whole, also with two builds at once.
	temporary, err := os.MkdirTemp(b.Cache, ".building-"+c.name+"-")
	if err != nil {
		return fmt.Errorf("making a folder to build %s in: %w", c.name, err)
	}
	defer os.RemoveAll(temporary)
	fmt.Fprintf(b.Progress, "building %s %s: about %s, once\n", c.name, c.version, c.about)
	started := time.Now()
	if err := b.compile(c, temporary); err != nil {
		return err
	}
	fmt.Fprintf(b.Progress, "built %s in %s\n", c.name, time.Since(started).Round(time.Second))
	if err := os.Chmod(temporary, 0o755); err != nil {
		return fmt.Errorf("storing %s: %w", c.name, err)
	}
	if err := os.Rename(temporary, folder); err != nil {
		if _, found := os.Stat(folder); found == nil {
			return nil // another build was faster
		}
		return fmt.Errorf("storing %s: %w", c.name, err)
	}
	return nil
}

func (b *Builder) compile(c component, into string) error {
	args := []string{
		"-v", "-p", fmt.Sprint(runtime.NumCPU()), "-trimpath", "-ldflags", strings.TrimSpace("-s -w " + c.flags),
	}
	if c.tags != "" {
		args = append(args, "-tags", c.tags)
	}
	if c.module != "" {
		args = append(append([]string{"build"}, args...), "-o", filepath.Join(into, c.results[0]), ".")
	} else {
		args = append([]string{"install"}, args...)
		for _, name := range c.packages {
			args = append(args, name+"@"+c.version)
		}
	}
	// Nice: a person or another job works on the same machine meanwhile.
	command := exec.Command("nice", append([]string{"-n", "10", "go"}, args...)...)
	command.Dir = filepath.Join(b.Source, c.module)
	if c.module == "" {
		command.Dir = into // outside of any module
	}
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off", "GOBIN="+into)
	var last tail
	stderr, err := command.StderrPipe()
	if err != nil {
		return fmt.Errorf("building %s: %w", c.name, err)
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("building %s: %w", c.name, err)
	}
	b.follow(c.name, stderr, &last)
	if err := command.Wait(); err != nil {
		return fmt.Errorf("building %s: %w:\n%s", c.name, err, last.String())
	}
	return nil
}

// follow counts the compiled packages that go names and says now and then how far it is.
func (b *Builder) follow(name string, stderr io.Reader, last *tail) {
	const every = 20 * time.Second
	started, said, packages := time.Now(), time.Now(), 0
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		last.add(lines.Text())
		if !strings.Contains(lines.Text(), " ") {
			packages++
		}
		if time.Since(said) >= every {
			said = time.Now()
			fmt.Fprintf(b.Progress, "  %s: %d packages compiled in %s\n", name, packages,
				time.Since(started).Round(time.Second))
		}
	}
}

func link(c component, folder, bin string) error {
	targets := map[string]string{}
	for _, name := range c.results {
		targets[name] = filepath.Join(folder, name)
	}
	for name, target := range c.links {
		targets[name] = filepath.Join(folder, target)
	}
	for name, target := range targets {
		path := filepath.Join(bin, name)
		if old, err := os.Readlink(path); err == nil && old == target {
			continue
		}
		// Renamed into place: a running test may look for the program at any time.
		next := path + ".new"
		_ = os.Remove(next)
		if err := os.Symlink(target, next); err != nil {
			return fmt.Errorf("linking %s: %w", path, err)
		}
		if err := os.Rename(next, path); err != nil {
			return fmt.Errorf("linking %s: %w", path, err)
		}
	}
	return nil
}

// tail keeps the last lines of an output.
type tail struct{ lines []string }

func (t *tail) add(line string) {
	t.lines = append(t.lines, line)
	if len(t.lines) > 30 {
		t.lines = t.lines[1:]
	}
}

func (t *tail) String() string {
	var buffer bytes.Buffer
	for _, line := range t.lines {
		buffer.WriteString(line + "\n")
	}
	return buffer.String()
}
