package machine

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Run is the first process of a machine. It returns only when the machine cannot be set up.
func Run(spec Spec) error {
	if os.Getpid() != 1 {
		return errors.New("the machine command is the first process of a machine: up starts it, a person does not")
	}
	if err := mounts(spec); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(spec.Name)); err != nil {
		return fmt.Errorf("naming machine %s: %w", spec.Name, err)
	}
	children := newChildren()
	for _, program := range spec.Programs {
		go keep(children, program)
	}
	children.reap()
	return nil
}

// mounts gives the machine a /proc and a /run of its own, and its folders.
func mounts(spec Spec) error {
	// First private, so that nothing reaches the host; then shared, because pods may ask for mount propagation.
	for _, flags := range []uintptr{unix.MS_REC | unix.MS_PRIVATE, unix.MS_REC | unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", flags, ""); err != nil {
			return fmt.Errorf("separating the mounts of %s: %w", spec.Name, err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc of %s: %w", spec.Name, err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mounting /run of %s: %w", spec.Name, err)
	}
	if err := unix.Mount("", "/run", "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing /run of %s: %w", spec.Name, err)
	}
	for _, bind := range spec.Binds {
		if err := unix.Mount(bind.From, bind.To, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("binding %s to %s of %s: %w", bind.From, bind.To, spec.Name, err)
		}
		if err := unix.Mount("", bind.To, "", unix.MS_SHARED, ""); err != nil {
			return fmt.Errorf("sharing %s of %s: %w", bind.To, spec.Name, err)
		}
	}
	return nil
}

const (
	restartAfter = 500 * time.Millisecond
	logLimit     = 64 << 20
)

// keep runs a program for ever.
func keep(children *children, program Program) {
	for {
		awaitNeeds(program.Needs)
		ended, err := children.start(program)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s starting %s: %v\n", stamp(), program.Name, err)
		} else {
			status := <-ended
			fmt.Fprintf(os.Stderr, "%s %s ended (%s): starting it again\n", stamp(), program.Name, describe(status))
		}
		time.Sleep(restartAfter)
	}
}

func stamp() string { return time.Now().UTC().Format(time.RFC3339Nano) }

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}

// children hands each exit status to whoever started the process. A first process is also given the orphans of all
// others, so it waits for any child, which os/exec cannot share.
type children struct {
	mutex sync.Mutex
	ended map[int]chan unix.WaitStatus
}

func newChildren() *children { return &children{ended: map[int]chan unix.WaitStatus{}} }

func (c *children) start(program Program) (<-chan unix.WaitStatus, error) {
	if err := os.MkdirAll(filepath.Dir(program.Log), 0o755); err != nil {
		return nil, err
	}
	flags := os.O_CREATE | os.O_APPEND | os.O_WRONLY
	if info, err := os.Stat(program.Log); err == nil && info.Size() > logLimit {
		flags |= os.O_TRUNC
	}
	log, err := os.OpenFile(program.Log, flags, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()

	// Held until the child is listed: its end may be reaped before StartProcess returns.
	c.mutex.Lock()
	defer c.mutex.Unlock()
	process, err := os.StartProcess(program.Args[0], program.Args, &os.ProcAttr{
		Dir:   "/",
		Env:   environment(program),
		Files: []*os.File{null, log, log},
	})
	if err != nil {
		return nil, err
	}
	ended := make(chan unix.WaitStatus, 1)
	c.ended[process.Pid] = ended
	return ended, process.Release()
}

// environment is small and fixed, so that the cluster does not depend on the shell that started it. The program's own
// folder comes first: containerd finds its shim there.
func environment(program Program) []string {
	return []string{
		"PATH=" + filepath.Dir(program.Args[0]) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"LANG=C.UTF-8",
	}
}

func (c *children) reap() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	for {
		for {
			var status unix.WaitStatus
			pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
			if err == unix.EINTR {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
			c.mutex.Lock()
			ended, ours := c.ended[pid]
			delete(c.ended, pid)
			c.mutex.Unlock()
			if ours {
				ended <- status
			}
		}
		<-signals
	}
}
