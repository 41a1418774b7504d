package main

import (
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
	return agent.Room{Volume: volume, Size: int64(s.Blocks) * s.Frsize, Free: int64(s.Bavail) * s.Frsize} //nolint:gosec // no file system has 2^63 bytes
}
