package recipe

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"understudy.dev/understudy/hack/images/image"
)

// unprivileged is the user of our own programs; the number is the usual one of images without a user list.
const unprivileged = "65532:65532"

func pause(ctx context.Context, _ Request) (image.Image, error) {
	entry, err := program(ctx, ".", "./pause", "/pause")
	if err != nil {
		return image.Image{}, err
	}
	return image.New("docker.io/understudy/pause:1", v1.Config{
		User: unprivileged, Entrypoint: []string{"/pause"},
	}, []image.Entry{entry})
}

// program compiles one of our programs into a static binary.
func program(ctx context.Context, folder, source, target string) (image.Entry, error) {
	if info, err := os.Stat(filepath.Join(folder, source)); err != nil || !info.IsDir() {
		return image.Entry{}, fmt.Errorf("package %s does not exist in %s: it is the source of %s", source, folder, target)
	}
	temporary, err := os.MkdirTemp("", "understudy-images-")
	if err != nil {
		return image.Entry{}, fmt.Errorf("making a folder to build %s in: %w", source, err)
	}
	defer os.RemoveAll(temporary)
	binary := filepath.Join(temporary, "binary")
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, source)
	command.Dir = folder
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	if output, err := command.CombinedOutput(); err != nil {
		return image.Entry{}, fmt.Errorf("building package %s in %s: %w:\n%s", source, folder, err, output)
	}
	return image.FromHost(binary, target, 0o755)
}

func understudy(ctx context.Context, r Request) (image.Image, error) {
	agent, err := program(ctx, r.Repository, "./cmd/agent", "/understudy-agent")
	if err != nil {
		return image.Image{}, err
	}
	manager, err := program(ctx, r.Repository, ".", "/manager")
	if err != nil {
		return image.Image{}, err
	}
	return image.New("docker.io/understudy/understudy:"+r.Tag, v1.Config{
		User: unprivileged, Entrypoint: []string{"/manager"}, WorkingDir: "/",
	}, []image.Entry{agent}, []image.Entry{manager})
}

func client(ctx context.Context, r Request) (image.Image, error) {
	entry, err := program(ctx, r.Repository, "./test/client", "/client")
	if err != nil {
		return image.Image{}, err
	}
	return image.New("docker.io/understudy/client:"+r.Tag, v1.Config{
		User: unprivileged, Entrypoint: []string{"/client"}, WorkingDir: "/",
	}, []image.Entry{entry})
}
