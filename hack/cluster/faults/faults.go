package faults

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/hack/cluster/identity"
	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/machine"
)

// Report is what a fault did and when, on the wall clock that every process of the machine shares.
type Report struct {
	Fault     string `json:"fault"`
	Node      string `json:"node,omitempty"`
	PID       int    `json:"pid,omitempty"`
	Process   string `json:"process,omitempty"`
	Container string `json:"container,omitempty"`
	Signal    string `json:"signal,omitempty"`
	// UnixNano is the instant just before the kernel was asked, UnixNanoDone the one after it had done it.
	UnixNano     int64 `json:"unixNano"`
	UnixNanoDone int64 `json:"unixNanoDone"`
}

// Kill signals the oldest process of that name in a container from the host, or all of them, the oldest first: then none is
// started meanwhile by one that was stopped or killed. The report is about the oldest.
func Kill(nodes map[string]identity.Process, namespace, pod, container, process string, signal unix.Signal, all bool) (Report, error) {
	found, err := FindContainer(nodes, namespace, pod, container)
	if err != nil {
		return Report{}, err
	}
	targets, err := FindProcesses(found, process)
	if err != nil {
		return Report{}, err
	}
	if !all {
		targets = targets[:1]
	}
	report := Report{
		Fault: "kill", Node: found.Node, PID: targets[0].PID, Process: process, Container: found.ID,
		Signal: unix.SignalName(signal),
	}
	report.UnixNano = now()
	err = identity.Proc.Signal(targets[0], signal)
	for _, other := range targets[1:] {
		if otherErr := identity.Proc.Signal(other, signal); otherErr != nil && identity.Proc.Alive(other) {
			err = errors.Join(err, otherErr)
		}
	}
	report.UnixNanoDone = now()
	return report, err
}

// PowerOff kills a node as a cut of power does: first its cable goes dead, so that no goodbye of a dying process gets
// out, then the kernel kills every process of its process namespace with the first one.
func PowerOff(node layout.Machine, process identity.Process) (Report, error) {
	report := Report{Fault: "off", Node: node.Name, PID: process.PID}
	report.UnixNano = now()
	if err := setLink(node, false); err != nil {
		return report, err
	}
	err := identity.Proc.Signal(process, unix.SIGKILL)
	report.UnixNanoDone = now()
	return report, err
}

// Isolate unplugs a node's cable; Rejoin plugs it in.
func Isolate(node layout.Machine) (Report, error) { return cable("isolate", node, false) }

// Rejoin plugs a node's cable in.
func Rejoin(node layout.Machine) (Report, error) { return cable("rejoin", node, true) }

func cable(name string, node layout.Machine, up bool) (Report, error) {
	report := Report{Fault: name, Node: node.Name, UnixNano: now()}
	err := setLink(node, up)
	report.UnixNanoDone = now()
	return report, err
}

// Gone waits until none of the processes runs. The first process alone would not do: its thread that kills the others
// may outlive the one that its state is read from.
func Gone(processes []Process, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for _, process := range processes {
		for identity.Proc.Alive(process.Process) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d (%s) still runs %s after SIGKILL: see /proc/%d/stack for what holds it",
					process.PID, process.Command, limit, process.PID)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return nil
}

func now() int64 {
	var instant unix.Timespec
	// It fails only for a clock that does not exist.
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &instant)
	return instant.Nano()
}

// setLink switches the machine's port at the switch. An ioctl, because a program to do it would take longer to start
// than the fault may take.
func setLink(m layout.Machine, up bool) error {
	return machine.InNetwork(layout.SwitchNamespace, func() error {
		socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("switching the cable of %s: %w", m.Name, err)
		}
		defer unix.Close(socket)
		request, err := unix.NewIfreq(m.Link())
		if err != nil {
			return fmt.Errorf("switching the cable of %s: %w", m.Name, err)
		}
		if err := unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, request); err != nil {
			return fmt.Errorf("reading the state of the cable of %s: %w: run up to lay it again", m.Name, err)
		}
		flags := request.Uint16() &^ unix.IFF_UP
		if up {
			flags |= unix.IFF_UP
		}
		request.SetUint16(flags)
		if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
			return fmt.Errorf("switching the cable of %s: %w", m.Name, err)
		}
		return nil
	})
}

// LinkUp says whether the machine's cable is plugged in.
func LinkUp(m layout.Machine) bool {
	var flags uint16
	err := machine.InNetwork(layout.SwitchNamespace, func() error {
		socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(socket)
		request, err := unix.NewIfreq(m.Link())
		if err != nil {
			return err
		}
		err = unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, request)
		flags = request.Uint16()
		return err
	})
	return err == nil && flags&unix.IFF_UP != 0
}
