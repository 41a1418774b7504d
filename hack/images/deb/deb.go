// Package deb takes programs out of Debian's packages without installing them.
package deb

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Source is where packages come from: the machine's own configuration, or a private one for another release.
type Source struct {
	// Options are added to every apt command.
	Options []string
	// Cache keeps downloaded packages.
	Cache string
	// Lists is the folder of apt's package lists.
	Lists string
}

// Host is the machine's own configuration.
func Host() (Source, error) {
	cache, err := cacheFolder("debs")
	if err != nil {
		return Source{}, err
	}
	return Source{Cache: cache, Lists: "/var/lib/apt/lists"}, nil
}

// State changes when the lists do, and with them perhaps what would be downloaded. To ask apt takes seconds.
func (s Source) State() (string, error) {
	entries, err := os.ReadDir(s.Lists)
	if err != nil {
		return "", fmt.Errorf("listing apt's package lists: %w", err)
	}
	var state strings.Builder
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			fmt.Fprintf(&state, "%s %d %d\n", info.Name(), info.Size(), info.ModTime().UnixNano())
		}
	}
	return state.String(), nil
}

func cacheFolder(name string) (string, error) {
	base := os.Getenv("XDG_CACHE_HOME")
	if !filepath.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding the folder for the cache: %w: set XDG_CACHE_HOME", err)
		}
		base = filepath.Join(home, ".cache")
	}
	folder := filepath.Join(base, "understudy", name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("making the cache: %w", err)
	}
	return folder, nil
}

// Extract unpacks packages, and the libraries that they need, into a folder.
func (s Source) Extract(ctx context.Context, into string, names ...string) error {
	closure, err := s.closure(ctx, names)
	if err != nil {
		return err
	}
	files, err := s.download(ctx, closure)
	if err != nil {
		return err
	}
	for _, file := range files {
		if output, err := exec.CommandContext(ctx, "dpkg", "-x", file, into).CombinedOutput(); err != nil {
			return fmt.Errorf("unpacking %s: %w: %s", filepath.Base(file), err, output)
		}
	}
	return nil
}

// closure follows dependencies to libraries only: what else a package depends on sets up a whole system.
func (s Source) closure(ctx context.Context, names []string) ([]string, error) {
	if err := s.ensureLists(ctx, names[0]); err != nil {
		return nil, err
	}
	all, next := slices.Clone(names), names
	for len(next) > 0 {
		output, err := s.apt(ctx, "", "apt-cache", append([]string{
			"depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances",
		}, next...)...)
		if err != nil {
			return nil, err
		}
		next = nil
		for _, name := range parseDepends(output) {
			if isLibrary(name) && !slices.Contains(all, name) {
				all, next = append(all, name), append(next, name)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

func isLibrary(name string) bool {
	return strings.HasPrefix(name, "lib") || strings.HasPrefix(name, "zlib")
}

// parseDepends reads what apt-cache depends prints. Virtual packages stand in angle brackets, followed by what provides
// them; of alternatives, marked by a bar, the last is as good as the first here.
func parseDepends(output string) []string {
	var names []string
	for _, line := range strings.Split(output, "\n") {
		kind, name, found := strings.Cut(strings.TrimSpace(line), ": ")
		kind = strings.TrimPrefix(kind, "|")
		if found && (kind == "Depends" || kind == "PreDepends") && !strings.HasPrefix(name, "<") {
			name, _, _ = strings.Cut(name, ":")
			names = append(names, name)
		}
	}
	return names
}

func (s Source) ensureLists(ctx context.Context, name string) error {
	if output, err := s.apt(ctx, "", "apt-cache", "show", name); err == nil && output != "" {
		return nil
	}
	_, err := s.apt(ctx, "", "apt-get", "update", "-q")
	return err
}

// download fetches what the cache lacks. The file names hold the versions.
func (s Source) download(ctx context.Context, names []string) ([]string, error) {
	files, missing, err := s.wanted(ctx, names)
	if err != nil {
		return nil, err
	}
	if len(missing) == 0 {
		return files, nil
	}
	if _, err := s.apt(ctx, s.Cache, "apt-get", append([]string{"download", "-q"}, missing...)...); err != nil {
		// The lists name versions that the mirror has replaced since.
		if _, updateErr := s.apt(ctx, "", "apt-get", "update", "-q"); updateErr != nil {
			return nil, fmt.Errorf("%w; and then: %w", err, updateErr)
		}
		if files, missing, err = s.wanted(ctx, names); err != nil {
			return nil, err
		}
		if _, err := s.apt(ctx, s.Cache, "apt-get", append([]string{"download", "-q"}, missing...)...); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// wanted lists the files of packages, and the packages whose file is not in the cache.
func (s Source) wanted(ctx context.Context, names []string) (files, missing []string, err error) {
	output, err := s.apt(ctx, "", "apt-get", append([]string{"download", "--print-uris", "-q"}, names...)...)
	if err != nil {
		return nil, nil, err
	}
	for _, line := range strings.Split(strings.TrimSpace(output), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		file := filepath.Join(s.Cache, fields[1])
		files = append(files, file)
		if _, err := os.Stat(file); err != nil {
			name, _, _ := strings.Cut(fields[1], "_")
			missing = append(missing, name)
		}
	}
	if len(files) == 0 {
		return nil, nil, fmt.Errorf("apt-get names no file for packages %s", strings.Join(names, ", "))
	}
	return files, missing, nil
}

// Version is the version that would be downloaded.
func (s Source) Version(ctx context.Context, name string) (string, error) {
	if err := s.ensureLists(ctx, name); err != nil {
		return "", err
	}
	output, err := s.apt(ctx, "", "apt-cache", "show", "--no-all-versions", name)
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(output, "\n") {
		if version, found := strings.CutPrefix(line, "Version: "); found {
			return upstream(version), nil
		}
	}
	return "", fmt.Errorf("package %s has no version", name)
}

// upstream cuts off what Debian adds to a version: the epoch before the colon and the revision after the last dash.
func upstream(version string) string {
	if _, after, found := strings.Cut(version, ":"); found {
		version = after
	}
	if last := strings.LastIndexByte(version, '-'); last > 0 {
		version = version[:last]
	}
	version, _, _ = strings.Cut(version, "+")
	return version
}

func (s Source) apt(ctx context.Context, folder, program string, args ...string) (string, error) {
	// The cache may be in root's home, which apt's own unprivileged user cannot write to.
	options := append([]string{"-o", "APT::Sandbox::User=root"}, s.Options...)
	command := exec.CommandContext(ctx, program, append(options, args...)...)
	command.Dir = folder
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	var failure strings.Builder
	command.Stderr = &failure
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("running %s %s: %w: %s", program, strings.Join(args, " "), err,
			strings.TrimSpace(failure.String()))
	}
	return string(output), nil
}
