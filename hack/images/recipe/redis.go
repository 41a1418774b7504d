package recipe

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"understudy.dev/understudy/hack/images/deb"
	"understudy.dev/understudy/hack/images/image"
)

// engine is what differs between Redis and its relatives.
type engine struct {
	reference string
	packages  []string
	prefix    string // of the programs' names
	variable  string // the environment variable that tells the version
	source    func() (deb.Source, error)
}

// entrypoint behaves as the official image's does for what Understudy and its tests do with it.
const entrypoint = `#!/bin/sh
# Options, or a configuration file, are for the server. A server with neither is open to its network, as the official
# image's is; Debian's programs are not by default.
set -e
case "${1:-}" in
-* | *.conf) set -- %[1]s "$@" ;;
esac
if [ "$*" = %[1]s ]; then
	set -- %[1]s --protected-mode no
fi
exec "$@"
`

// tools are there for people and hooks that look around in a member.
var tools = map[string][]string{
	"/bin/bash": {"bash"},
	"/bin/dash": {"sh"},
	"/bin/kill": {"kill"},
	"/bin/grep": {"grep"},
	"/bin/sed":  {"sed"},
	"/bin/ps":   {"ps"},
}

var coreutils = []string{
	"cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "echo", "env", "false", "head", "hostname", "id", "ln",
	"ls", "mkdir", "mktemp", "mv", "od", "rm", "rmdir", "seq", "sha256sum", "sleep", "sort", "stat", "sync", "tail",
	"test", "timeout", "touch", "tr", "true", "truncate", "uname", "uniq", "wc",
}

const uid = 999

func (e engine) make(ctx context.Context, _ Request) (image.Image, error) {
	source, err := e.source()
	if err != nil {
		return image.Image{}, err
	}
	tree, err := os.MkdirTemp("", "understudy-images-")
	if err != nil {
		return image.Image{}, fmt.Errorf("making a folder to unpack packages in: %w", err)
	}
	defer os.RemoveAll(tree)
	packages := append([]string{"dash", "bash", "coreutils", "procps", "grep", "sed", "hostname"}, e.packages...)
	if err := source.Extract(ctx, tree, packages...); err != nil {
		return image.Image{}, err
	}
	version, err := source.Version(ctx, e.packages[0])
	if err != nil {
		return image.Image{}, err
	}
	system, err := deb.Programs(tree, e.system()...)
	if err != nil {
		return image.Image{}, err
	}
	server, err := deb.Programs(tree, e.programs()...)
	if err != nil {
		return image.Image{}, err
	}
	server = append(server, e.files()...)
	for _, name := range []string{"sentinel", "check-rdb", "check-aof"} {
		server = append(server, image.Entry{Path: "/usr/local/bin/" + e.prefix + "-" + name, Link: e.prefix + "-server"})
	}
	return image.New(e.reference, v1.Config{
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			e.variable + "=" + version,
		},
		Entrypoint:   []string{"docker-entrypoint.sh"},
		Cmd:          []string{e.prefix + "-server"},
		WorkingDir:   "/data",
		ExposedPorts: map[string]struct{}{"6379/tcp": {}},
		Volumes:      map[string]struct{}{"/data": {}},
	}, system, server)
}

func (e engine) inputs() (string, error) {
	source, err := e.source()
	if err != nil {
		return "", err
	}
	return source.State()
}

func (e engine) system() []deb.Program {
	var all []deb.Program
	for from, names := range tools {
		for _, name := range names {
			all = append(all, deb.Program{From: from, To: "/bin/" + name})
		}
	}
	for _, name := range coreutils {
		all = append(all, deb.Program{From: "/bin/" + name, To: "/bin/" + name})
	}
	return all
}

func (e engine) programs() []deb.Program {
	var all []deb.Program
	for _, name := range []string{"server", "cli", "benchmark"} {
		all = append(all, deb.Program{From: "/usr/bin/" + e.prefix + "-" + name, To: "/usr/local/bin/" + e.prefix + "-" + name})
	}
	return all
}

// users are root, the engine's own and nobody.
func (e engine) users() []image.Entry {
	users := fmt.Sprintf("root:x:0:0:root:/root:/bin/bash\n%s:x:%d:%d::/home/%s:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
		e.prefix, uid, uid, e.prefix)
	groups := fmt.Sprintf("root:x:0:\n%s:x:%d:\nnogroup:x:65534:\n", e.prefix, uid)
	return []image.Entry{
		{Path: "/etc/passwd", Mode: 0o644, Data: []byte(users)},
		{Path: "/etc/group", Mode: 0o644, Data: []byte(groups)},
	}
}

func (e engine) files() []image.Entry {
	return append(e.users(), []image.Entry{
		{Path: "/data", Mode: fs.ModeDir | 0o755, UID: uid, GID: uid},
		{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "/root", Mode: fs.ModeDir | 0o700},
		{Path: "/usr/local/bin/docker-entrypoint.sh", Mode: 0o755, Data: fmt.Appendf(nil, entrypoint, e.prefix+"-server")},
	}...)
}
