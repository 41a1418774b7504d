package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/hack/cluster/identity"
	"understudy.dev/understudy/hack/cluster/layout"
)

const (
	freeze = 0xC0045877 // FIFREEZE of linux/fs.h
	thaw   = 0xC0045878 // FITHAW
	// filler is the file that fills a disk.
	filler = ".understudy-filler"
)

// Disk makes a volume of class disk hang or lets it go on (stall, resume), fills it to the last byte or gives the space back
// (fill, free), and has its file system find an error, so that it is read-only until it is made anew (readonly). Who writes to a disk
// that hangs waits without an end, and cannot be killed meanwhile.
func Disk(folder layout.Folder, node layout.Machine, process identity.Process, volume, change string) (Report, error) {
	report := Report{Fault: "disk-" + change, Node: node.Name}
	// Mounts of a node are seen through its first process.
	at := filepath.Join("/proc", strconv.Itoa(process.PID), "root", folder.Disk(node.Name, volume))
	report.UnixNano = now()
	err := changeDisk(at, change)
	report.UnixNanoDone = now()
	if err != nil {
		err = fmt.Errorf("%s of volume %s on %s: %w", change, volume, node.Name, err)
	}
	return report, err
}

func changeDisk(at, change string) error {
	// Without its folder this is not the disk but where it is mounted: the machine's own disk must not be frozen.
	if _, err := os.Stat(filepath.Join(at, "data")); err != nil {
		return fmt.Errorf("the disk is not mounted: %w: only volumes of class %s can be changed", err, layout.DiskClass)
	}
	switch change {
	case "stall":
		return control(at, freeze)
	case "resume":
		return control(at, thaw)
	case "fill":
		return fill(filepath.Join(at, filler))
	case "free":
		return os.Remove(filepath.Join(at, filler))
	case "readonly":
		return breakFileSystem(at)
	}
	return fmt.Errorf("%q is nothing that can be done to a disk: use stall, resume, fill, free or readonly", change)
}

// breakFileSystem has the kernel find an error in an ext4 file system (Documentation/ABI/testing/sysfs-fs-ext4, trigger_fs_error).
func breakFileSystem(at string) error {
	var s unix.Stat_t
	if err := unix.Stat(at, &s); err != nil {
		return err
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(s.Dev), unix.Minor(s.Dev)))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(device), "trigger_fs_error"), []byte("understudy test"), 0o200)
}

func control(at string, request uint) error {
	folder, err := os.Open(at)
	if err != nil {
		return err
	}
	defer folder.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, folder.Fd(), uintptr(request), 0); errno != 0 {
		return errno
	}
	return nil
}

// fill writes until nothing more fits.
func fill(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	for size := 1 << 20; size > 0; {
		if _, err := file.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			return err
		}
	}
	return file.Sync()
}
