package limits

import (
	"reflect"
	"testing"
)

func TestParseMountsOfVersion1(t *testing.T) {
	got := ParseMounts(`25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
26 25 0:23 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
27 25 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
28 25 0:25 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
29 25 0:25 / /elsewhere/cpu rw - cgroup cgroup rw,cpu,cpuacct`)
	want := Limits{Hierarchies: []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/cpu,cpuacct"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseMountsOfVersion2(t *testing.T) {
	got := ParseMounts("26 25 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate")
	if !got.CgroupV2 || len(got.Hierarchies) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestHasCapability(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tx\nCapEff:\t000001fffeffffff\n": false,
		"Name:\tx\nCapEff:\t000001ffffffffff\n": true,
	} {
		got, err := HasCapability(status, capSysResource)
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", status, got, err, want)
		}
	}
	if _, err := HasCapability("Name: x", capSysResource); err == nil {
		t.Error("a status without capabilities gave no error")
	}
}
