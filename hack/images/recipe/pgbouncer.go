package recipe

import (
	"context"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"understudy.dev/understudy/hack/images/deb"
	"understudy.dev/understudy/hack/images/image"
)

// pgbouncer is a pooler and a shell to write its configuration with.
func pgbouncer(ctx context.Context, _ Request) (image.Image, error) {
	source, err := deb.Host()
	if err != nil {
		return image.Image{}, err
	}
	tree, err := os.MkdirTemp("", "understudy-images-")
	if err != nil {
		return image.Image{}, fmt.Errorf("making a folder to unpack packages in: %w", err)
	}
	defer os.RemoveAll(tree)
	if err := source.Extract(ctx, tree, "dash", "coreutils", "pgbouncer"); err != nil {
		return image.Image{}, err
	}
	entries, err := deb.Programs(tree, deb.Program{From: "/bin/dash", To: "/bin/sh"}, deb.Program{From: "/bin/cat", To: "/bin/cat"},
		deb.Program{From: "/usr/sbin/pgbouncer", To: "/usr/sbin/pgbouncer"})
	if err != nil {
		return image.Image{}, err
	}
	return image.New("docker.io/understudy/pgbouncer:1", v1.Config{
		Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, User: fmt.Sprint(uid), Cmd: []string{"pgbouncer", "/etc/pgbouncer/pgbouncer.ini"},
	}, append(entries, engine{prefix: "postgres"}.users()...))
}
