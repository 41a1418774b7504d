package recipe

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"understudy.dev/understudy/hack/images/deb"
	"understudy.dev/understudy/hack/images/image"
)

// postgres makes an image laid out as the official Debian based one is: the programs of one major version, user postgres with
// number 999, data in /var/lib/postgresql/data.
type postgres struct {
	major  string
	source func() (deb.Source, error)
}

// unwanted extensions need libraries that are larger than the server, or a security module of the kernel.
var unwanted = []string{"llvmjit.so", "sepgsql.so", "pgxml.so"}

func (p postgres) reference() string { return "docker.io/library/postgres:" + p.major }

func (p postgres) make(ctx context.Context, _ Request) (image.Image, error) {
	unpacked, err := p.unpack(ctx)
	if err != nil {
		return image.Image{}, err
	}
	defer unpacked.remove()
	layers, err := p.layers(unpacked.tree)
	if err != nil {
		return image.Image{}, err
	}
	return image.New(p.reference(), p.config(unpacked.version), layers...)
}

// unpacked are packages in a folder of their own.
type unpacked struct {
	tree    string
	version string // of the server
}

func (u unpacked) remove() { os.RemoveAll(u.tree) }

// unpack takes the server's packages, and more, apart.
func (p postgres) unpack(ctx context.Context, more ...string) (u unpacked, err error) {
	source, err := p.source()
	if err != nil {
		return u, err
	}
	server, client := "postgresql-"+p.major, "postgresql-client-"+p.major
	if u.version, err = source.Version(ctx, server); err != nil {
		return u, err
	}
	if u.tree, err = os.MkdirTemp("", "understudy-images-"); err != nil {
		return u, fmt.Errorf("making a folder to unpack packages in: %w", err)
	}
	packages := []string{"dash", "bash", "coreutils", "procps", "grep", "sed", "hostname", "tzdata", "libc-bin", server, client}
	if err := source.Extract(ctx, u.tree, append(packages, more...)...); err != nil {
		u.remove()
		return u, err
	}
	return u, nil
}

// layers are the small tools of every image, and the server.
func (p postgres) layers(tree string) ([][]image.Entry, error) {
	system, err := deb.Programs(tree, engine{}.system()...)
	if err != nil {
		return nil, err
	}
	programs, err := p.programs(tree)
	if err != nil {
		return nil, err
	}
	entries, err := deb.Programs(tree, programs...)
	if err != nil {
		return nil, err
	}
	for _, folder := range []string{"/usr/share/postgresql/" + p.major, "/usr/share/zoneinfo", "/usr/lib/locale"} {
		files, err := copied(tree, folder)
		if err != nil {
			return nil, err
		}
		entries = append(entries, files...)
	}
	return [][]image.Entry{system, append(entries, p.files()...)}, nil
}

func (p postgres) config(version string) v1.Config {
	return v1.Config{
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" + p.bin(),
			"LANG=C.UTF-8", "PG_MAJOR=" + p.major, "PG_VERSION=" + version, "PGDATA=" + pgData,
		},
		Cmd:          []string{"postgres"},
		ExposedPorts: map[string]struct{}{"5432/tcp": {}},
		Volumes:      map[string]struct{}{pgData: {}},
	}
}

const pgData = "/var/lib/postgresql/data"

func (p postgres) bin() string { return "/usr/lib/postgresql/" + p.major + "/bin" }

// programs are the version's own and the modules that the server loads.
func (p postgres) programs(tree string) ([]deb.Program, error) {
	var all []deb.Program
	for _, folder := range []string{p.bin(), "/usr/lib/postgresql/" + p.major + "/lib"} {
		files, err := os.ReadDir(filepath.Join(tree, folder))
		if err != nil {
			return nil, fmt.Errorf("listing the programs of PostgreSQL %s: %w", p.major, err)
		}
		for _, file := range files {
			if file.IsDir() || slices.Contains(unwanted, file.Name()) || strings.HasSuffix(file.Name(), ".bc") {
				continue
			}
			path := filepath.Join(folder, file.Name())
			all = append(all, deb.Program{From: path, To: path})
		}
	}
	return all, nil
}

// copied are the plain files below a folder of the tree.
func copied(tree, folder string) ([]image.Entry, error) {
	var all []image.Entry
	root := filepath.Join(tree, folder)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		target := filepath.Join(folder, strings.TrimPrefix(path, root))
		if entry.Type()&fs.ModeSymlink != 0 {
			link, err := os.Readlink(path)
			all = append(all, image.Entry{Path: target, Link: link})
			return err
		}
		file, err := image.FromHost(path, target, 0o644)
		all = append(all, file)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("copying %s: %w", folder, err)
	}
	return all, nil
}

func (p postgres) inputs() (string, error) {
	source, err := p.source()
	if err != nil {
		return "", err
	}
	return source.State()
}

func (p postgres) files() []image.Entry {
	return append(engine{prefix: "postgres"}.users(),
		image.Entry{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		image.Entry{Path: "/root", Mode: fs.ModeDir | 0o700},
		image.Entry{Path: "/var/run/postgresql", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		image.Entry{Path: pgData, Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	)
}
