package rest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Process is one process of Understudy on this host, in whichever container.
type Process struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	// ResidentKiB is all the memory it has, AnonymousKiB what it does not share with its file: the guard runs the
	// agent's binary, so that the pages of code of the two are the same.
	ResidentKiB  int `json:"residentKiB"`
	AnonymousKiB int `json:"anonymousKiB"`
}

// Processes finds those of the given programs by the base name of their first argument.
func Processes(programs ...string) ([]Process, error) {
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("looking for processes: %w", err)
	}
	var out []Process
	for _, folder := range folders {
		raw, err := os.ReadFile(folder + "/cmdline")
		if err != nil || len(raw) == 0 {
			continue // it ended, or is the kernel's
		}
		first, _, _ := bytes.Cut(raw, []byte{0})
		for _, program := range programs {
			if filepath.Base(string(first)) != program {
				continue
			}
			p := Process{Command: strings.TrimSpace(strings.ReplaceAll(string(raw), "\x00", " "))}
			p.PID, _ = strconv.Atoi(filepath.Base(folder))
			if p.read(folder) {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

func (p *Process) read(folder string) bool {
	status, err := os.ReadFile(folder + "/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch name {
		case "VmRSS":
			p.ResidentKiB = kib
		case "RssAnon":
			p.AnonymousKiB = kib
		}
	}
	return p.ResidentKiB > 0
}
