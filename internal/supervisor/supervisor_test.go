package supervisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/engine"
)

// KillAll kills every process that the caller may signal, so it is tested by a PID 1 in a process namespace of its own: this
// very program again, told by the environment which scene to play.
const sceneEnv = "UNDERSTUDY_TEST_SCENE"

func TestMain(m *testing.M) {
	if name := os.Getenv(sceneEnv); name != "" {
		if err := play(name); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// scenes are shell scripts that write a line to the pipe $1 when what they are about is there.
var scenes = map[string]string{
	"a child": `echo there >$1; exec sleep 1000`,
	"a tree":  `(sleep 1000 & sleep 1000 & echo there >$1; wait) & wait`,
	// The middle one ends at once; its child is in a session of its own, as a daemon is, and becomes PID 1's.
	"an orphaned grandchild":       `(setsid sh -c 'trap "" TERM; echo there >$1; exec sleep 1000' sh $1 &); exec sleep 1000`,
	"an orphan whose family ended": `(setsid sh -c 'echo there >$1; exec sleep 1000' sh $1 &)`,
	// Each process starts the next one and ends, so that none is there for long.
	"one that forks and ends, quickly": `next() { n=$(($1 + 1)); [ $n -ne 50 ] || echo there >$2; (next $n $2) & }; next 0 $1`,
	"one that is stopped":              `echo there >$1; kill -STOP $$`,
}

func TestKillAllLeavesNothing(t *testing.T) {
	for name := range scenes {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), sceneEnv+"="+name, "TMPDIR="+t.TempDir())
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
			out, err := cmd.CombinedOutput()
			if errors.Is(err, unix.EPERM) {
				t.Skip("a process namespace of its own needs CAP_SYS_ADMIN: run it as root")
			}
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// exits are the ends that the supervisor reported.
type exits struct {
	mu   sync.Mutex
	pids map[int]bool
}

func (e *exits) add(x Exit) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pids[x.PID] = true
}

func (e *exits) has(pid int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pids[pid]
}

// play is PID 1.
func play(name string) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("this is process %d, and killing everything would kill others'", os.Getpid())
	}
	pipe := filepath.Join(os.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		return err
	}
	ended := &exits{pids: map[int]bool{}}
	s := New(ended.add)
	pid, err := s.Start(engine.Process{Path: "/bin/sh", Args: []string{"sh", "-c", scenes[name], "sh", pipe}})
	if err != nil {
		return err
	}
	if err := hear(pipe); err != nil {
		return err
	}
	return killed(s, ended, pid)
}

// hear waits until the scene is set.
func hear(pipe string) error {
	f, err := os.OpenFile(pipe, os.O_RDWR, 0) // for writing too, so that its end never comes
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err == nil && strings.TrimSpace(line) != "there" {
		err = fmt.Errorf("heard %q", line)
	}
	return err
}

// killed kills everything twice, the second time with nothing to kill, and looks what is left.
func killed(s *Supervisor, ended *exits, first int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.KillAll(ctx); err != nil {
		return err
	}
	if !errors.Is(unix.Kill(-1, 0), unix.ESRCH) {
		return errors.New("a process is left")
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		return fmt.Errorf("a child is not reaped (process %d)", pid)
	}
	if !ended.has(first) {
		return fmt.Errorf("nobody was told of the end of process %d", first)
	}
	return s.KillAll(ctx)
}
