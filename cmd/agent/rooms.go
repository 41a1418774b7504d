package main

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/agent"
	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/names"
)

// roomsOf is nil where no volume outlives the pod: what fills the node's disk is the node's matter.
func roomsOf(config agentconfig.Config) func() []agent.Room {
	volumes := map[string]string{}
	if c := config.Redis; c != nil && c.Persistent {
		volumes[names.DataVolume] = names.DataDir
	}
	if c := config.PostgreSQL; c != nil && c.Persistent {
		volumes[names.DataVolume] = names.DataDir
		if c.WALDir != "" {
			volumes[names.WALVolume] = c.WALDir
		}
	}
	if len(volumes) == 0 {
		return nil
	}
	return func() []agent.Room {
		var out []agent.Room
		for volume, dir := range volumes {
			out = append(out, roomOf(volume, dir))
		}
		return out
	}
}

// roomOf asks a file system for what those who are not root may still write. Size is 0 when it does not say.
func roomOf(volume, dir string) agent.Room {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return agent.Room{Volume: volume}
	}
	return agent.Room{Volume: volume, ReadOnly: readOnly(dir), Size: int64(s.Blocks) * s.Frsize, Free: int64(s.Bavail) * s.Frsize} //nolint:gosec // no file system has 2^63 bytes
}

// probeFile is there to be opened: a file system that went read-only by itself after an error of its disk says so to nobody who only asks (statfs and access
// find it writable, seen with ext4 on Linux 6.18), and refuses to open a file for writing. Nothing is written, but for the file's own name once.
const probeFile = ".understudy-probe"

// readOnly reports whether a file system refuses what is written: EROFS, or EIO of one that was shut down. That it is full, or anything else, says nothing of
// that.
func readOnly(dir string) bool {
	fd, err := unix.Open(filepath.Join(dir, probeFile), unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		_ = unix.Close(fd)
	}
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.EIO)
}
