package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"understudy.dev/understudy/hack/cluster/layout"
)

// leastDisk is what a file system with a journal needs.
const leastDisk = 16 << 20

func imageOf(folder layout.Folder, node layout.Machine, name string) string {
	return folder.Data(node.Name, "disks", name+".img")
}

// onDisk is the folder that the volume is; it exists only while the disk is mounted, so that nothing is ever written beside it.
func onDisk(folder layout.Folder, node layout.Machine, name string) string {
	return filepath.Join(folder.Disk(node.Name, name), "data")
}

// makeDisk makes and mounts a file system of its own for one volume.
func makeDisk(folder layout.Folder, node layout.Machine, name, size string) error {
	bytes, err := parseSize(size)
	if err != nil {
		return err
	}
	image := imageOf(folder, node, name)
	if _, err := os.Stat(image); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(image), 0o755); err != nil {
			return err
		}
		// Under another name first: an image without a file system would be mounted by the next start.
		if err := format(image+".new", bytes); err != nil {
			return err
		}
		if err := os.Rename(image+".new", image); err != nil {
			return err
		}
	}
	return mountDisk(folder, node, name)
}

func format(image string, bytes int64) error {
	file, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(max(bytes, leastDisk)), file.Close()); err != nil {
		return err
	}
	// After an error it goes read-only; mke2fs' own default is to go on until its journal fails.
	return run("mkfs.ext4", "-q", "-m", "0", "-e", "remount-ro", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
}

// mountDisk mounts an image, once.
func mountDisk(folder layout.Folder, node layout.Machine, name string) error {
	at := folder.Disk(node.Name, name)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	if strings.Contains(string(mounts), " "+at+" ext4 ") {
		return nil
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	return run("mount", "-o", "loop", imageOf(folder, node, name), at)
}

// mountAll mounts the disks that a node had before it was switched off.
func mountAll(folder layout.Folder, node layout.Machine) error {
	images, err := filepath.Glob(imageOf(folder, node, "*"))
	if err != nil {
		return err
	}
	for _, image := range images {
		if err := mountDisk(folder, node, strings.TrimSuffix(filepath.Base(image), ".img")); err != nil {
			return fmt.Errorf("mounting %s: %w", image, err)
		}
	}
	return nil
}

func removeDisk(folder layout.Folder, node layout.Machine, name string) error {
	at := folder.Disk(node.Name, name)
	if err := run("umount", at); err != nil {
		return err
	}
	return errors.Join(os.Remove(at), os.Remove(imageOf(folder, node, name)))
}

// parseSize reads a Kubernetes quantity of whole bytes.
func parseSize(quantity string) (int64, error) {
	for suffix, factor := range map[string]int64{"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "K": 1e3, "M": 1e6, "G": 1e9} {
		if digits, ok := strings.CutSuffix(quantity, suffix); ok {
			n, err := strconv.ParseInt(digits, 10, 32)
			if err != nil {
				return 0, fmt.Errorf("reading size %q: %w", quantity, err)
			}
			return n * factor, nil
		}
	}
	n, err := strconv.ParseInt(quantity, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading size %q: %w", quantity, err)
	}
	return n, nil
}

func run(program string, args ...string) error {
	if output, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("running %s %s: %w: %s", program, strings.Join(args, " "), err, bytes.TrimSpace(output))
	}
	return nil
}
