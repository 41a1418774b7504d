// Package image writes container images whose bytes depend on nothing but their contents.
package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// epoch is the time of every file: what a file says about when it was built would make each build another image.
var epoch = time.Unix(0, 0)

// Entry is one file, folder or link of a layer.
type Entry struct {
	Path     string // absolute
	Mode     fs.FileMode
	UID, GID int
	Data     []byte
	Link     string // target of a symbolic link
}

// Layer packs entries, with the folders above them.
func Layer(entries []Entry) (v1.Layer, error) {
	byPath := map[string]Entry{}
	for _, entry := range entries {
		for folder := path.Dir(entry.Path); folder != "/"; folder = path.Dir(folder) {
			if _, found := byPath[folder]; !found {
				byPath[folder] = Entry{Path: folder, Mode: fs.ModeDir | 0o755}
			}
		}
		byPath[entry.Path] = entry
	}
	var paths []string
	for name := range byPath {
		paths = append(paths, name)
	}
	sort.Strings(paths)
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, name := range paths {
		if err := write(writer, byPath[name]); err != nil {
			return nil, fmt.Errorf("packing %s: %w", name, err)
		}
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("packing a layer: %w", err)
	}
	data := buffer.Bytes()
	// Uncompressed: the images go no further than this machine, and packing costs more than copying.
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}, tarball.WithMediaType(types.DockerUncompressedLayer), tarball.WithCompressionLevel(0))
}

func write(writer *tar.Writer, entry Entry) error {
	header := &tar.Header{
		Name:    strings.TrimPrefix(entry.Path, "/"),
		Mode:    int64(entry.Mode.Perm()),
		Uid:     entry.UID,
		Gid:     entry.GID,
		ModTime: epoch,
		Format:  tar.FormatPAX,
	}
	if entry.Mode&fs.ModeSticky != 0 {
		header.Mode |= 0o1000
	}
	switch {
	case entry.Link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, entry.Link, 0o777
	case entry.Mode.IsDir():
		header.Typeflag = tar.TypeDir
		header.Name += "/"
	default:
		header.Typeflag, header.Size = tar.TypeReg, int64(len(entry.Data))
	}
	if err := writer.WriteHeader(header); err != nil {
		return err
	}
	_, err := writer.Write(entry.Data)
	return err
}

// FromHost copies one file of the machine, following links.
func FromHost(source, target string, mode fs.FileMode) (Entry, error) {
	data, err := os.ReadFile(source)
	if err != nil {
		return Entry{}, fmt.Errorf("reading %s: %w", filepath.Base(target), err)
	}
	return Entry{Path: target, Mode: mode, Data: data}, nil
}
