package rest

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Layer of an image.
type Layer struct {
	Digest string `json:"digest"`
	Bytes  int64  `json:"bytes"`
}

// Layers reads the sizes of an image's layers from the archive that make images wrote.
func Layers(archive string) ([]Layer, error) {
	file, err := os.Open(archive)
	if err != nil {
		return nil, fmt.Errorf("reading image %s: %w: make images writes it", archive, err)
	}
	defer file.Close()
	sizes := map[string]int64{}
	var manifests []struct {
		Layers []string `json:"Layers"`
	}
	reader := tar.NewReader(file)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading image %s: %w", archive, err)
		}
		sizes[header.Name] = header.Size
		if header.Name == "manifest.json" {
			if err := json.NewDecoder(reader).Decode(&manifests); err != nil {
				return nil, fmt.Errorf("reading the manifest of image %s: %w", archive, err)
			}
		}
	}
	var layers []Layer
	for _, m := range manifests {
		for _, name := range m.Layers {
			digest := strings.TrimPrefix(strings.TrimSuffix(name, ".tar.gz"), "blobs/sha256/")
			layers = append(layers, Layer{Digest: digest, Bytes: sizes[name]})
		}
	}
	if len(layers) == 0 {
		return nil, fmt.Errorf("reading image %s: it has no manifest.json with layers", archive)
	}
	return layers, nil
}
