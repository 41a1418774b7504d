package image

import (
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is one image and its full name.
type Image struct {
	Reference string
	image     v1.Image
}

// New makes an image of layers.
func New(reference string, config v1.Config, layers ...[]Entry) (Image, error) {
	made := empty.Image
	for _, entries := range layers {
		layer, err := Layer(entries)
		if err != nil {
			return Image{}, err
		}
		if made, err = mutate.AppendLayers(made, layer); err != nil {
			return Image{}, fmt.Errorf("adding a layer to %s: %w", reference, err)
		}
	}
	file, err := made.ConfigFile()
	if err != nil {
		return Image{}, fmt.Errorf("configuring %s: %w", reference, err)
	}
	file = file.DeepCopy()
	file.Config = config
	file.OS, file.Architecture = "linux", architecture()
	file.Created = v1.Time{Time: epoch}
	if made, err = mutate.ConfigFile(made, file); err != nil {
		return Image{}, fmt.Errorf("configuring %s: %w", reference, err)
	}
	return Image{Reference: reference, image: made}, nil
}

// Write writes the archive, unless one of the same image is there. It says whether it wrote.
func Write(path string, i Image) (bool, error) {
	tag, err := name.NewTag(i.Reference, name.StrictValidation)
	if err != nil {
		return false, fmt.Errorf("naming image %s: %w", i.Reference, err)
	}
	if same(path, tag, i.image) {
		return false, nil
	}
	// Renamed into place: another command may be loading the old one.
	if err := tarball.WriteToFile(path+".new", tag, i.image); err != nil {
		return false, fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return false, fmt.Errorf("writing %s: %w", path, err)
	}
	return true, nil
}

func same(path string, tag name.Tag, wanted v1.Image) bool {
	old, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		return false
	}
	had, err := old.ConfigName()
	if err != nil {
		return false
	}
	want, err := wanted.ConfigName()
	return err == nil && had == want
}
