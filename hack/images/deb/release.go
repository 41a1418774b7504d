package deb

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Release reads packages of another release of Debian through a private configuration: from the mirror that this
// machine already uses, and without touching its own lists.
func Release(codename string) (Source, error) {
	own, err := ownCodename()
	if err != nil {
		return Source{}, err
	}
	stanza, err := mirror(own)
	if err != nil {
		return Source{}, err
	}
	folder, err := cacheFolder("apt-" + codename)
	if err != nil {
		return Source{}, err
	}
	for _, name := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o755); err != nil {
			return Source{}, fmt.Errorf("making apt's folder for %s: %w", codename, err)
		}
	}
	files := map[string]string{
		"debian.sources": stanza.render(codename),
		"status":         "", // nothing is installed there
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return Source{}, fmt.Errorf("configuring apt for %s: %w", codename, err)
		}
	}
	cache, err := cacheFolder("debs-" + codename)
	if err != nil {
		return Source{}, err
	}
	lists := filepath.Join(folder, "lists")
	return Source{Cache: cache, Lists: lists, Options: []string{
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(folder, "debian.sources"),
		"-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::State::lists=" + lists,
		"-o", "Dir::State::status=" + filepath.Join(folder, "status"),
		"-o", "Dir::Cache=" + folder,
		"-o", "Dir::Cache::archives=" + filepath.Join(folder, "archives"),
	}}, nil
}

func ownCodename() (string, error) {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("finding this machine's release: %w", err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if name, found := strings.CutPrefix(line, "VERSION_CODENAME="); found {
			return strings.Trim(name, `"`), nil
		}
	}
	return "", fmt.Errorf("finding this machine's release: /etc/os-release has no VERSION_CODENAME")
}

// stanza is where packages come from and whose signature they carry.
type stanza struct{ uri, signedBy string }

func (s stanza) render(codename string) string {
	text := "Types: deb\nURIs: " + s.uri + "\nSuites: " + codename + "\nComponents: main\n"
	if s.signedBy != "" {
		text += "Signed-By: " + s.signedBy + "\n"
	}
	return text
}

// mirror finds the entry of this machine's configuration that its own release comes from.
func mirror(codename string) (stanza, error) {
	var found stanza
	paths, err := filepath.Glob("/etc/apt/sources.list.d/*")
	if err != nil {
		return found, fmt.Errorf("listing apt's sources: %w", err)
	}
	for _, path := range append([]string{"/etc/apt/sources.list"}, paths...) {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // not there, or not for us
		}
		parse := parseList
		if strings.HasSuffix(path, ".sources") {
			parse = parseSources
		}
		if found, ok := parse(string(data), codename); ok {
			return found, nil
		}
	}
	return found, fmt.Errorf("no entry in /etc/apt/sources.list or /etc/apt/sources.list.d has suite %s, "+
		"so it is not known where to get other releases from", codename)
}

// parseSources reads the newer format: paragraphs of fields.
func parseSources(text, codename string) (stanza, bool) {
	for _, paragraph := range strings.Split(text, "\n\n") {
		fields := map[string]string{}
		for _, line := range strings.Split(paragraph, "\n") {
			if name, value, found := strings.Cut(line, ":"); found && !strings.HasPrefix(line, "#") {
				fields[name] = strings.TrimSpace(value)
			}
		}
		uris := strings.Fields(fields["URIs"])
		if len(uris) > 0 && slices.Contains(strings.Fields(fields["Suites"]), codename) {
			return stanza{uris[0], fields["Signed-By"]}, true
		}
	}
	return stanza{}, false
}

// parseList reads the older format: one line each, with options in brackets.
func parseList(text, codename string) (stanza, bool) {
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		rest, found := strings.CutPrefix(line, "deb ")
		if !found {
			continue
		}
		var signedBy string
		if options, after, found := strings.Cut(rest, "]"); found {
			for _, option := range strings.Fields(strings.TrimLeft(options, " [")) {
				if path, found := strings.CutPrefix(option, "signed-by="); found {
					signedBy = path
				}
			}
			rest = after
		}
		fields := strings.Fields(rest)
		if len(fields) >= 2 && fields[1] == codename {
			return stanza{fields[0], signedBy}, true
		}
	}
	return stanza{}, false
}
