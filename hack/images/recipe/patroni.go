package recipe

import (
	"context"
	"io/fs"
	"path/filepath"
	"strings"

	"understudy.dev/understudy/hack/images/deb"
	"understudy.dev/understudy/hack/images/image"
)

// patroni is the image of PostgreSQL with Patroni and etcd beside it, to compare with: the server in it is the same, byte for
// byte.
type patroni struct{ postgres postgres }

const patroniReference = "docker.io/understudy/patroni:3"

// patroniPackages are Patroni, etcd to keep its state in, and what Patroni imports: dependencies are followed to libraries only.
var patroniPackages = []string{
	"patroni", "etcd-server", "python3-etcd", "python3-psycopg2",
	"python3-cdiff", "python3-click", "python3-colorama", "python3-dateutil", "python3-dnspython", "python3-pkg-resources",
	"python3-prettytable", "python3-psutil", "python3-six", "python3-urllib3", "python3-wcwidth", "python3-yaml",
	"python3.11-minimal", "python3.11",
}

const python = "/usr/bin/python3.11"

func (p patroni) make(ctx context.Context, _ Request) (image.Image, error) {
	unpacked, err := p.postgres.unpack(ctx, patroniPackages...)
	if err != nil {
		return image.Image{}, err
	}
	defer unpacked.remove()
	layers, err := p.postgres.layers(unpacked.tree)
	if err != nil {
		return image.Image{}, err
	}
	entries, err := p.layer(unpacked.tree)
	if err != nil {
		return image.Image{}, err
	}
	config := p.postgres.config(unpacked.version)
	config.Cmd = []string{"patroni"}
	return image.New(patroniReference, config, append(layers, entries)...)
}

// layer is Python with its modules, Patroni and etcd.
func (p patroni) layer(tree string) ([]image.Entry, error) {
	programs := []deb.Program{{From: python, To: python}}
	for _, name := range []string{"patroni", "patronictl", "etcd"} {
		programs = append(programs, deb.Program{From: "/usr/bin/" + name, To: "/usr/bin/" + name})
	}
	var files []image.Entry
	for _, folder := range []string{"/usr/lib/python3.11", "/usr/lib/python3"} {
		found, err := copied(tree, folder)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	for _, file := range files {
		// Modules in C need libraries of their own.
		if file.Link == "" && strings.HasSuffix(file.Path, ".so") {
			programs = append(programs, deb.Program{From: file.Path, To: file.Path})
		}
	}
	found, err := deb.Programs(tree, programs...)
	if err != nil {
		return nil, err
	}
	return append(append(files, found...),
		image.Entry{Path: "/usr/bin/python3", Link: filepath.Base(python)},
		image.Entry{Path: "/var/lib/etcd", Mode: fs.ModeDir | 0o700, UID: uid, GID: uid},
	), nil
}
