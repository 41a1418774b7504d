package deb

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"understudy.dev/understudy/hack/images/image"
)

// Program copies one program out of an unpacked tree, under a path of its own.
type Program struct{ From, To string }

// Programs collects programs and every shared library that one of them needs, from an unpacked tree. Libraries are
// looked for in the tree and not on this machine, whose own may be of another release.
func Programs(tree string, programs ...Program) ([]image.Entry, error) {
	c := collector{tree: tree, seen: map[string]bool{}}
	for _, program := range programs {
		if err := c.add(program.From, program.To); err != nil {
			return nil, err
		}
	}
	return c.entries, nil
}

type collector struct {
	tree    string
	seen    map[string]bool
	entries []image.Entry
}

func (c *collector) add(from, to string) error {
	if c.seen[to] {
		return nil
	}
	c.seen[to] = true
	path, err := c.resolve(from)
	if err != nil {
		return fmt.Errorf("finding %s in the packages: %w", from, err)
	}
	entry, err := image.FromHost(path, to, 0o755)
	if err != nil {
		return err
	}
	c.entries = append(c.entries, entry)
	needed, interpreter, err := dependencies(path)
	if err != nil {
		return fmt.Errorf("finding the libraries of %s: %w", from, err)
	}
	if interpreter != "" {
		if err := c.add(interpreter, interpreter); err != nil {
			return err
		}
	}
	for _, name := range needed {
		library, err := c.library(name)
		if err != nil {
			return fmt.Errorf("%s needs it: %w", from, err)
		}
		// One folder, where every loader looks, whichever of /lib and /usr/lib the release uses.
		if err := c.add(library, filepath.Join("/usr/lib", filepath.Base(filepath.Dir(library)), name)); err != nil {
			return err
		}
	}
	return nil
}

// resolve follows links inside the tree, with and without the merged /usr.
func (c *collector) resolve(path string) (string, error) {
	for range 16 {
		info, err := os.Lstat(filepath.Join(c.tree, path))
		if errors.Is(err, fs.ErrNotExist) {
			if other, found := strings.CutPrefix(path, "/usr"); found {
				info, err = os.Lstat(filepath.Join(c.tree, other))
				path = other
			} else {
				path = "/usr" + path
				info, err = os.Lstat(filepath.Join(c.tree, path))
			}
		}
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			return filepath.Join(c.tree, path), nil
		}
		target, err := os.Readlink(filepath.Join(c.tree, path))
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return "", fmt.Errorf("%s is a circle of links", path)
}

func (c *collector) library(name string) (string, error) {
	for _, pattern := range []string{"usr/lib/*-linux-gnu*/", "lib/*-linux-gnu*/", "lib64/", "usr/lib64/", "usr/lib/", "lib/"} {
		found, err := filepath.Glob(filepath.Join(c.tree, pattern, name))
		if err != nil {
			return "", fmt.Errorf("looking for library %s: %w", name, err)
		}
		if len(found) > 0 {
			return strings.TrimPrefix(found[0], c.tree), nil
		}
	}
	return "", fmt.Errorf("library %s is in none of the packages", name)
}

func dependencies(path string) (needed []string, interpreter string, err error) {
	file, err := elf.Open(path)
	var format *elf.FormatError
	if errors.As(err, &format) {
		return nil, "", nil // a script
	}
	if err != nil {
		return nil, "", err
	}
	defer file.Close()
	if needed, err = file.ImportedLibraries(); err != nil {
		return nil, "", err
	}
	for _, segment := range file.Progs {
		if segment.Type != elf.PT_INTERP {
			continue
		}
		data := make([]byte, segment.Filesz)
		if _, err := segment.ReadAt(data, 0); err != nil {
			return nil, "", err
		}
		interpreter = strings.TrimRight(string(data), "\x00")
	}
	return needed, interpreter, nil
}
