package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"understudy.dev/understudy/internal/names"
)

// install copies this binary, so that an init container without a shell can do it.
func install(dir string) error {
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("installing the agent: %w", err)
	}
	defer func() { _ = in.Close() }()
	path := filepath.Join(dir, "understudy-agent")
	out, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755) //nolint:gosec // other users run it
	if err != nil {
		return fmt.Errorf("installing the agent: %w", err)
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("installing the agent as %s: %w", path, err)
	}
	return nil
}

// status asks this pod's agent.
func status() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	url := "http://127.0.0.1:" + strconv.Itoa(names.MetricsPort) + "/status"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking the agent of this pod: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

// crash rehearses a fault from inside the pod, for clusters whose nodes cannot be reached.
func crash(what string) error {
	switch what {
	case "agent":
		// SIGKILL does not reach PID 1 from inside its namespace; SIGQUIT makes the Go runtime exit at once.
		return syscall.Kill(1, syscall.SIGQUIT)
	case "engine":
		return crashEngine()
	}
	return fmt.Errorf("crash %q: it is either engine or agent", what)
}

// crashEngine kills the children of PID 1 that are not this program.
func crashEngine() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("looking for the engine: %w", err)
	}
	self, _ := os.Readlink("/proc/1/exe")
	killed := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 || parent(pid) != 1 {
			continue
		}
		if exe, _ := os.Readlink("/proc/" + e.Name() + "/exe"); exe == self {
			continue // the guard
		}
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	if killed == 0 {
		return errors.New("crashing the engine: no process of it was found")
	}
	return nil
}

func parent(pid int) int {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	after := string(raw)[strings.LastIndexByte(string(raw), ')')+1:]
	fields := strings.Fields(after)
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}
