package postgresql

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// errNoServer says that there is no server to signal.
var errNoServer = errors.New("signalling PostgreSQL: it does not run")

// postmaster is the process that serves the data, or 0. The number alone proves nothing: it may be another process's by now.
func (p *PostgreSQL) postmaster() int {
	raw, err := os.ReadFile(filepath.Join(p.data(), "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return 0
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)) // the server works in its data folder
	if want, e := filepath.EvalSymlinks(p.data()); err != nil || e != nil || cwd != want {
		return 0
	}
	return pid
}

func (p *PostgreSQL) signal(s syscall.Signal) error {
	pid := p.postmaster()
	if pid == 0 {
		return errNoServer
	}
	if err := syscall.Kill(pid, s); err != nil {
		return fmt.Errorf("signalling PostgreSQL (process %d): %w", pid, err)
	}
	return nil
}

// portFree refuses to start a server on a port that somebody has: it would start all the same if it got the port of the other
// address family, and nobody would reach it by this one.
func (p *PostgreSQL) portFree() error {
	l, err := net.Listen("tcp4", ":"+strconv.Itoa(p.config.Port))
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: its port %d is in use: %w", p.config.Port, err)
	}
	return l.Close()
}

// stop ends the server at once; its WAL is what it has.
func (p *PostgreSQL) stop() error { return p.signal(syscall.SIGQUIT) }

// hangUp makes it read its files again when it lets nobody in to be asked.
func (p *PostgreSQL) hangUp() error { return p.signal(syscall.SIGHUP) }

// children of the postmaster, with what each calls itself.
func children(parent int) map[int]string {
	found := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || parentOf(pid) != parent {
			continue
		}
		title, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		found[pid] = strings.TrimRight(string(title), "\x00 ")
	}
	return found
}

func parentOf(pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	after := string(raw)[strings.LastIndexByte(string(raw), ')')+1:]
	fields := strings.Fields(after)
	if len(fields) < 2 || fields[0] == "Z" {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}
