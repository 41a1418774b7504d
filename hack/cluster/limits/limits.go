// Package limits finds out what this machine allows, so that the same tool runs in a small virtual machine with
// version 1 cgroups and few capabilities as on a laptop with version 2 and all of them.
package limits

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Limits are facts about the machine.
type Limits struct {
	// CgroupV2 says that containers are accounted in the unified hierarchy.
	CgroupV2 bool `json:"cgroupV2"`
	// Hierarchies are the mount points in which containers get cgroups.
	Hierarchies []string `json:"hierarchies"`
	// LowerOOMScore says that a process may make itself less likely to be killed when memory runs out.
	LowerOOMScore bool `json:"lowerOOMScore"`
}

const capSysResource = 24

// Detect reads them from the running system.
func Detect() (Limits, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Limits{}, fmt.Errorf("finding cgroups: %w", err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return Limits{}, fmt.Errorf("finding capabilities: %w", err)
	}
	found := ParseMounts(string(mounts))
	if len(found.Hierarchies) == 0 {
		return Limits{}, fmt.Errorf("no cgroup hierarchy is mounted: mount one on /sys/fs/cgroup and try again")
	}
	found.LowerOOMScore, err = HasCapability(string(status), capSysResource)
	return found, err
}

// ParseMounts finds the cgroup hierarchies in /proc/self/mountinfo. A unified hierarchy beside version 1 ones holds no
// controller, and programs look for version 2 only at /sys/fs/cgroup itself.
func ParseMounts(mountinfo string) Limits {
	var found Limits
	lines := bufio.NewScanner(strings.NewReader(mountinfo))
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 {
			continue
		}
		point, kind := fields[4], strings.Fields(after)
		if len(kind) == 0 {
			continue
		}
		switch {
		case kind[0] == "cgroup2" && point == "/sys/fs/cgroup":
			return Limits{CgroupV2: true, Hierarchies: []string{point}}
		case kind[0] == "cgroup2" && strings.HasPrefix(point, "/sys/fs/cgroup/"):
			// It accounts nothing, but runc makes a group in it too, which somebody has to remove.
			found.Hierarchies = append(found.Hierarchies, point)
		case kind[0] == "cgroup" && strings.HasPrefix(point, "/sys/fs/cgroup/"):
			found.Hierarchies = append(found.Hierarchies, point)
		}
	}
	return found
}

// HasCapability looks for one bit of the effective set in /proc/self/status.
func HasCapability(status string, bit uint) (bool, error) {
	for _, line := range strings.Split(status, "\n") {
		if text, found := strings.CutPrefix(line, "CapEff:"); found {
			set, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
			if err != nil {
				return false, fmt.Errorf("parsing the effective capabilities: %w", err)
			}
			return set&(1<<bit) != 0, nil
		}
	}
	return false, fmt.Errorf("finding the effective capabilities: no CapEff line in /proc/self/status")
}
