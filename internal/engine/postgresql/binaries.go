package postgresql

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const oldest, newest = 15, 18

// versionMark is what `postgres --version` prints, as it stands in the binary: a process cannot be run to be asked.
var versionMark = regexp.MustCompile(`postgres \(PostgreSQL\) (\d+)`)

// binDir finds the folder of postgres and its tools.
func (p *PostgreSQL) binDir() (string, error) {
	if dir := p.config.BinDir; dir != "" {
		if exists(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
		return "", fmt.Errorf("looking for PostgreSQL: %s has no program postgres: correct the folder or the image", dir)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		return "", fmt.Errorf("looking for PostgreSQL: the image has no program postgres in PATH or in /usr/lib/postgresql/*/bin: use "+
			"an image of PostgreSQL %d to %d, such as the official one: check spec.template.image", oldest, newest)
	}
	slices.SortFunc(found, func(a, b string) int { return majorOfPath(b) - majorOfPath(a) })
	return filepath.Dir(found[0]), nil
}

func majorOfPath(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// majorOf reads a server's major version out of its binary.
func majorOf(bin string) (int, error) {
	path := filepath.Join(bin, "postgres")
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("reading PostgreSQL's version: %w", err)
	}
	at := bytes.Index(raw, []byte("postgres (PostgreSQL) "))
	if at < 0 {
		return 0, fmt.Errorf("reading PostgreSQL's version: %s names none: it is no server of PostgreSQL", path)
	}
	m := versionMark.FindSubmatch(raw[at:min(len(raw), at+64)])
	if m == nil {
		return 0, fmt.Errorf("reading PostgreSQL's version: %s names none: it is no server of PostgreSQL", path)
	}
	return strconv.Atoi(string(m[1]))
}

// checkVersions refuses a server that is not supported, or that cannot read the data.
func (p *PostgreSQL) checkVersions(bin string) error {
	if p.major == 0 {
		major, err := majorOf(bin)
		if err != nil {
			return err
		}
		p.major = major
	}
	if p.major < oldest || p.major > newest {
		return fmt.Errorf("starting PostgreSQL: the image has version %d: versions %d to %d are supported", p.major, oldest, newest)
	}
	raw, err := os.ReadFile(filepath.Join(p.data(), "PG_VERSION"))
	if err != nil {
		return nil // no data yet
	}
	if have := strings.TrimSpace(string(raw)); have != strconv.Itoa(p.major) {
		return fmt.Errorf("starting PostgreSQL: the data in %s is of version %s and the image has version %d, which cannot read it: use "+
			"an image of version %s; to move to another, dump and restore, or pg_upgrade, into a new service", p.data(), have, p.major, have)
	}
	return nil
}
