package identity

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const fields = " 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 10 18446744073709551615"

func TestParseStatSurvivesOddCommands(t *testing.T) {
	for _, command := range []string{"etcd", "a b", "x) S 1 (y", ""} {
		stat, err := ParseStat("42 (" + command + ") S" + fields)
		if err != nil {
			t.Fatalf("%q: %v", command, err)
		}
		if stat.Command != command || stat.State != 'S' || stat.Parent != 1 || stat.Start != 98765 {
			t.Errorf("%q: got %+v", command, stat)
		}
	}
}

func TestParseStatRefusesNonsense(t *testing.T) {
	for _, line := range []string{"", "42", "42 (a", "42 (a) S 1 2", "42 (a) S x" + fields[2:]} {
		if stat, err := ParseStat(line); err == nil {
			t.Errorf("%q: got %+v, want an error", line, stat)
		}
	}
}

func TestAliveNeedsSamePIDStartAndBoot(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("sys/kernel/random/boot_id", "boot-a\n")
	write("42/stat", "42 (etcd) S"+fields)
	write("43/stat", "43 (etcd) Z"+fields)
	proc := Reader{Root: root}
	for _, test := range []struct {
		process Process
		alive   bool
	}{
		{Process{PID: 42, Start: 98765, Boot: "boot-a"}, true},
		{Process{PID: 42, Start: 98766, Boot: "boot-a"}, false},
		{Process{PID: 42, Start: 98765, Boot: "boot-b"}, false},
		{Process{PID: 43, Start: 98765, Boot: "boot-a"}, false},
		{Process{PID: 44, Start: 98765, Boot: "boot-a"}, false},
		{Process{}, false},
	} {
		if got := proc.Alive(test.process); got != test.alive {
			t.Errorf("%+v: alive %v, want %v", test.process, got, test.alive)
		}
	}
}

func TestSignalReachesOnlyTheSameLife(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	process, err := Proc.Of(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	other := process
	other.Start++
	if err := Proc.Signal(other, unix.SIGKILL); err == nil {
		t.Error("another life with the same pid was signalled")
	}
	if !Proc.Alive(process) {
		t.Fatal("the process died of a signal meant for another life")
	}
	if err := Proc.Signal(process, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if Proc.Alive(process) {
		t.Error("a reaped process counts as alive")
	}
}
