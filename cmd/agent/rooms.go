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

// roomOf asks a file system for what those who are not root may still write, and whether it takes that. Size is 0 when it does not say.
func roomOf(volume, dir string) agent.Room {
	room := agent.Room{Volume: volume, Writes: writes(probe(dir))}
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) == nil {
		room.Size, room.Free = int64(s.Blocks)*s.Frsize, int64(s.Bavail)*s.Frsize //nolint:gosec // no file system has 2^63 bytes
	}
	return room
}

// probeFile is there to be opened: a file system that went read-only by itself after an error of its disk says so to nobody who only asks (statfs and access
// find it writable, seen with ext4 on Linux 6.18), and refuses to open a file for writing. Nothing is written, but for the file's own name once.
const probeFile = ".understudy-probe"

func probe(dir string) error {
	path := filepath.Join(dir, probeFile)
	const flags = unix.O_WRONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW
	fd, err := unix.Open(path, flags, 0)
	if errors.Is(err, unix.ENOENT) { // only then: what may create waits for a file system that is frozen
		fd, err = unix.Open(path, flags|unix.O_CREAT, 0o600)
	}
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

// writes is what the probe's answer says: EROFS, or EIO of a file system that was shut down, refuse. That it is full, or anything else, says nothing of that.
func writes(err error) agent.Writes {
	switch {
	case err == nil:
		return agent.WritesTaken
	case errors.Is(err, unix.EROFS) || errors.Is(err, unix.EIO):
		return agent.WritesRefused
	}
	return agent.WritesUnknown
}
