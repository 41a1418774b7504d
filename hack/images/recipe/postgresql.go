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
	source, err := p.source()
	if err != nil {
		return image.Image{}, err
	}
	tree, err := os.MkdirTemp("", "understudy-images-")
	if err != nil {
		return image.Image{}, fmt.Errorf("making a folder to unpack packages in: %w", err)
	}
	defer os.RemoveAll(tree)
	server, client := "postgresql-"+p.major, "postgresql-client-"+p.major
	packages := []string{"dash", "bash", "coreutils", "procps", "grep", "sed", "hostname", "tzdata", "libc-bin", server, client}
	if err := source.Extract(ctx, tree, packages...); err != nil {
		return image.Image{}, err
	}
	version, err := source.Version(ctx, server)
	if err != nil {
		return image.Image{}, err
	}
	system, err := deb.Programs(tree, engine{}.system()...)
	if err != nil {
		return image.Image{}, err
	}
	programs, err := p.programs(tree)
	if err != nil {
		return image.Image{}, err
	}
	entries, err := deb.Programs(tree, programs...)
	if err != nil {
		return image.Image{}, err
	}
	for _, folder := range []string{"/usr/share/postgresql/" + p.major, "/usr/share/zoneinfo", "/usr/lib/locale"} {
		files, err := copied(tree, folder)
		if err != nil {
			return image.Image{}, err
		}
		entries = append(entries, files...)
	}
	return image.New(p.reference(), v1.Config{
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" + p.bin(),
			"LANG=C.UTF-8", "PG_MAJOR=" + p.major, "PG_VERSION=" + version, "PGDATA=" + pgData,
		},
		Cmd:          []string{"postgres"},
		ExposedPorts: map[string]struct{}{"5432/tcp": {}},
		Volumes:      map[string]struct{}{pgData: {}},
	}, system, append(entries, p.files()...))
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
