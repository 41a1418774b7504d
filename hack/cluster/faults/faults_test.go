package faults

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"understudy.dev/understudy/hack/cluster/identity"
)

func TestInnermostPID(t *testing.T) {
	for status, want := range map[string]int{
		"Name:\tx\nNSpid:\t812\t40\t1\nOther:\t2\n": 1,
		"NSpid:\t812\n": 812,
		"NSpid:\n":      0,
		"Name:\tx\n":    0,
	} {
		if got := parseInnermost(status); got != want {
			t.Errorf("%q: got %d, want %d", status, got, want)
		}
	}
}

func TestMatchCgroup(t *testing.T) {
	for cgroups, want := range map[string]bool{
		"4:memory:/understudy/node-1/kubepods/burstable/podx/abc\n3:cpu:/\n": true,
		"0::/understudy/node-1/kubepods/podx/abc\n":                          true,
		"0::/kubepods.slice/cri-containerd-abc.scope\n":                      true,
		"0::/understudy/node-1/kubepods/podx/abcd\n":                         false,
		"0::/\n": false,
		"":       false,
	} {
		if got := matchCgroup(cgroups, "abc"); got != want {
			t.Errorf("%q: got %v, want %v", cgroups, got, want)
		}
	}
}

func TestParseBundle(t *testing.T) {
	container, ok := parseBundle([]byte(`{"annotations":{"io.kubernetes.cri.container-type":"container",
		"io.kubernetes.cri.container-name":"redis","io.kubernetes.cri.sandbox-namespace":"shop",
		"io.kubernetes.cri.sandbox-name":"cart-0","io.kubernetes.cri.sandbox-uid":"u"}}`))
	if want := (Container{Name: "redis", Namespace: "shop", Pod: "cart-0", UID: "u"}); !ok || container != want {
		t.Errorf("got %+v, %v", container, ok)
	}
	for _, other := range []string{`{"annotations":{"io.kubernetes.cri.container-type":"sandbox"}}`, `{}`, `{`} {
		if container, ok := parseBundle([]byte(other)); ok {
			t.Errorf("%s: got %+v", other, container)
		}
	}
}

func TestTreeHasTheWholeFamily(t *testing.T) {
	child := exec.Command("sh", "-c", "sleep 60 & wait")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Wait() })
	root, err := identity.Proc.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	// The grandchild is a copy of the shell until it has become sleep.
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		tree, err := Tree(root)
		if err != nil {
			t.Fatal(err)
		}
		commands = nil
		for _, process := range tree {
			commands = append(commands, process.Command)
		}
		if slices.Contains(commands, "sleep") {
			for _, process := range tree[1:] {
				_ = identity.Proc.Signal(process.Process, 9)
			}
			return
		}
	}
	t.Errorf("the grandchild is missing: %v", commands)
}
