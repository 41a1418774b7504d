// Package identity names processes so that a recycled pid is never mistaken for the process that once had it.
package identity

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is one life of one process: a pid is reused, the pair with its start time within one boot is not.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
	Boot  string `json:"boot"`
}

// Reader reads a /proc file system; tests give it a folder of their own.
type Reader struct{ Root string }

// Proc is the machine's own.
var Proc = Reader{Root: "/proc"}

// BootID names the current boot.
func (r Reader) BootID() (string, error) {
	data, err := os.ReadFile(filepath.Join(r.Root, "sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("reading the boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// Of identifies the process that has the pid now.
func (r Reader) Of(pid int) (Process, error) {
	stat, err := r.Stat(pid)
	if err != nil {
		return Process{}, err
	}
	boot, err := r.BootID()
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Start: stat.Start, Boot: boot}, nil
}

// Alive says whether that very process still runs. A zombie does not.
func (r Reader) Alive(p Process) bool {
	if p.PID <= 0 {
		return false
	}
	boot, err := r.BootID()
	if err != nil || boot != p.Boot {
		return false
	}
	stat, err := r.Stat(p.PID)
	return err == nil && stat.Start == p.Start && stat.State != 'Z' && stat.State != 'X'
}

// Signal sends a signal to that very process and to no other: the pidfd is taken before the identity is checked, so
// the pid cannot be recycled in between.
func (r Reader) Signal(p Process, signal unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return fmt.Errorf("opening process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !r.Alive(p) {
		return fmt.Errorf("process %d: %w", p.PID, unix.ESRCH)
	}
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
		return fmt.Errorf("sending %s to process %d: %w", unix.SignalName(signal), p.PID, err)
	}
	return nil
}

// Stat is the part of /proc/PID/stat that identifies and places a process.
type Stat struct {
	Command string
	State   byte
	Parent  int
	Start   uint64
}

// Stat reads /proc/PID/stat.
func (r Reader) Stat(pid int) (Stat, error) {
	data, err := os.ReadFile(filepath.Join(r.Root, strconv.Itoa(pid), "stat"))
	if err != nil {
		return Stat{}, fmt.Errorf("reading the state of process %d: %w", pid, err)
	}
	return ParseStat(string(data))
}

// ParseStat parses one line of /proc/PID/stat. The command may hold spaces and parentheses, so the last closing one
// ends it.
func ParseStat(line string) (Stat, error) {
	open, closing := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || closing < open {
		return Stat{}, fmt.Errorf("parsing a process's state: no command in %q", line)
	}
	fields := strings.Fields(line[closing+1:])
	const startField = 22 - 3 // the first field after the command is number 3
	if len(fields) <= startField {
		return Stat{}, fmt.Errorf("parsing a process's state: %d fields after the command in %q", len(fields), line)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return Stat{}, fmt.Errorf("parsing a process's parent: %w", err)
	}
	start, err := strconv.ParseUint(fields[startField], 10, 64)
	if err != nil {
		return Stat{}, fmt.Errorf("parsing a process's start time: %w", err)
	}
	return Stat{Command: line[open+1 : closing], State: fields[0][0], Parent: parent, Start: start}, nil
}

// PIDs lists every process.
func (r Reader) PIDs() ([]int, error) {
	dir, err := os.Open(r.Root)
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
