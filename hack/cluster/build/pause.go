package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"time"
)

// Pause makes the image that every pod's sandbox runs, with the image builder beside this module.
func (b *Builder) Pause(folder string) error {
	source := filepath.Join(b.Source, "..", "images")
	key, err := hashFolder(source)
	if err != nil {
		return err
	}
	cached := filepath.Join(b.Cache, "pause-"+key+".tar")
	if _, err := os.Stat(cached); err != nil {
		if err := b.makePause(source, cached); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("making the folder of images: %w", err)
	}
	data, err := os.ReadFile(cached)
	if err != nil {
		return fmt.Errorf("reading the pause image: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "pause.tar"), data, 0o644); err != nil {
		return fmt.Errorf("storing the pause image: %w", err)
	}
	return nil
}

func (b *Builder) makePause(source, cached string) error {
	started := time.Now()
	fmt.Fprintln(b.Progress, "building the pause image: a few seconds, once")
	temporary, err := os.MkdirTemp(b.Cache, ".building-pause-")
	if err != nil {
		return fmt.Errorf("making a folder to build the pause image in: %w", err)
	}
	defer os.RemoveAll(temporary)
	command := exec.Command("go", "run", ".", "build", "--only", "pause", "--out", temporary)
	command.Dir = source
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("building the pause image: %w:\n%s", err, output)
	}
	fmt.Fprintf(b.Progress, "built the pause image in %s\n", time.Since(started).Round(time.Second))
	return os.Rename(filepath.Join(temporary, "pause.tar"), cached)
}

// hashFolder names what the image builder and the pause program are made from.
func hashFolder(folder string) (string, error) {
	var files []string
	for _, pattern := range []string{"*.go", "*/*.go", "go.mod", "go.sum"} {
		found, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			return "", fmt.Errorf("listing the sources of the images: %w", err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return "", fmt.Errorf("there are no sources in %s: run from a clone of the repository", folder)
	}
	sort.Strings(files)
	hash := sha256.New()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("reading the sources of the images: %w", err)
		}
		fmt.Fprintf(hash, "%s %d\n%s", filepath.Base(file), len(data), data)
	}
	return hex.EncodeToString(hash.Sum(nil))[:12], nil
}
