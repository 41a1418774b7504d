package machine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/hack/cluster/identity"
)

// NamespaceFolder is where iproute2 keeps named network namespaces.
const NamespaceFolder = "/run/netns"

// InNetwork calls f on a thread that is in the named network namespace; what f starts inherits it. The thread is given
// up afterwards: one that failed to come back must not be used for anything else.
func InNetwork(namespace string, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		path := filepath.Join(NamespaceFolder, namespace)
		file, err := os.Open(path)
		if err != nil {
			result <- fmt.Errorf("entering network namespace %s: %w: run up to make it again", namespace, err)
			return
		}
		defer file.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("entering network namespace %s: %w", namespace, err)
			return
		}
		result <- f()
	}()
	return <-result
}

// Start starts the first process of a machine in new process, mount and host name namespaces.
func Start(executable, spec, namespace, log string) (identity.Process, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return identity.Process{}, fmt.Errorf("making the folder of logs: %w", err)
	}
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return identity.Process{}, fmt.Errorf("opening the machine's log: %w", err)
	}
	defer output.Close()
	command := exec.Command(executable, "machine", spec)
	command.Dir = "/"
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true, // the terminal's signals are not for it
	}
	if err := InNetwork(namespace, command.Start); err != nil {
		return identity.Process{}, fmt.Errorf("starting the machine of %s: %w", spec, err)
	}
	process, err := identity.Proc.Of(command.Process.Pid)
	if err != nil {
		return identity.Process{}, fmt.Errorf("identifying the machine of %s: %w", spec, err)
	}
	// Nobody waits for it here: it outlives this command, and the system's own first process reaps it.
	return process, command.Process.Release()
}
