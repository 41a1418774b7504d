// Package guard is the second process beside the agent: it knows one thing, the instant until which the engine may
// write, and at that instant kills the engine whatever the agent does (rule Guard).
package guard

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/failover"
)

// page is the memory that agent and guard share.
type page struct {
	// deadline is the instant at which the engine must be dead; 0: no engine may write, so there is nothing to kill.
	deadline atomic.Int64
	// fired is the instant of the last kill.
	fired atomic.Int64
	// lateness is the largest delay seen between an instant and the guard's own wake-up, in nanoseconds.
	lateness atomic.Int64
	// alive is 1 once the guard sleeps on the page.
	alive atomic.Int64
}

const pageSize = 4096

// newPage makes the memory and the file by which the guard inherits it.
func newPage() (*page, *os.File, error) {
	fd, err := unix.MemfdCreate("understudy-guard", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("making the guard's page: %w", err)
	}
	file := os.NewFile(uintptr(fd), "guard-page")
	if err := file.Truncate(pageSize); err != nil {
		_ = file.Close()
		return nil, nil, fmt.Errorf("making the guard's page: %w", err)
	}
	p, err := mapPage(fd)
	return p, file, err
}

func mapPage(fd int) (*page, error) {
	mem, err := unix.Mmap(fd, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the guard's page: %w", err)
	}
	_ = unix.Mlock(mem) // best effort: RLIMIT_MEMLOCK may forbid it
	return (*page)(unsafe.Pointer(&mem[0])), nil
}

// Now reads CLOCK_BOOTTIME, which goes on while the machine is suspended.
func Now() failover.Instant {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail with a valid clock and pointer
	return failover.Instant(ts.Nano())
}
