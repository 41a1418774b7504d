package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/failover"
)

func TestPromiseSurvivesARestart(t *testing.T) {
	file := promiseFile{filepath.Join(t.TempDir(), "promise")}
	want := failover.Durable{PodUID: "uid", Promise: 7}
	if err := file.save(want); err != nil {
		t.Fatal(err)
	}
	got, why := file.load("uid")
	if why != "" || got.Promise != 7 || got.Forgotten {
		t.Errorf("load = %+v, %q", got, why)
	}
}

func TestWhatCannotBeRememberedIsForgotten(t *testing.T) {
	damage := func(at int64) func(string) error {
		return func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("x"), at)
			}
			return err
		}
	}
	for name, spoil := range map[string]func(path string) error{
		"missing":                    os.Remove,
		"damaged in its newest slot": damage(20),
		"damaged in its older slot":  damage(slotSize + 20),
		"cut short":                  func(path string) error { return os.Truncate(path, slotSize+10) },
		"empty":                      func(path string) error { return os.Truncate(path, 0) },
		"of another pod":             func(path string) error { return promiseFile{path}.save(failover.Durable{PodUID: "other", Promise: 9}) },
	} {
		file := promiseFile{filepath.Join(t.TempDir(), "promise")}
		for _, n := range []failover.Epoch{6, 7} {
			if err := file.save(failover.Durable{PodUID: "uid", Promise: n}); err != nil {
				t.Fatal(err)
			}
		}
		if err := spoil(file.path); err != nil {
			t.Fatal(err)
		}
		got, why := file.load("uid")
		if !got.Forgotten || got.PodUID != "uid" || why == "" {
			t.Errorf("a promise file that is %s: %+v, %q; want forgotten with a reason", name, got, why)
		}
		if err := file.save(got); err != nil {
			t.Errorf("a promise file that is %s cannot be written again: %v", name, err)
		}
	}
}

// That something was forgotten must itself survive a second restart within the wait.
func TestForgettingIsDurable(t *testing.T) {
	file := promiseFile{filepath.Join(t.TempDir(), "promise")}
	forgot, _ := file.load("uid")
	if err := file.save(forgot); err != nil {
		t.Fatal(err)
	}
	if again, _ := file.load("uid"); !again.Forgotten {
		t.Error("the second start believes that it remembers")
	}
}

func TestFullDiskIsAnError(t *testing.T) {
	file := promiseFile{"/dev/full/promise"}
	if err := file.save(failover.Durable{}); err == nil || !strings.Contains(err.Error(), "promise") {
		t.Errorf("save = %v, want an error that names the file", err)
	}
}

// A promise overwrites what it has: a disk that filled up meanwhile does not keep a member from promising, and what does not fit
// is an error that leaves the promise as it was.
func TestPromiseOnADiskThatFilledUp(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	file, note := promiseFile{filepath.Join(dir, "promise")}, filepath.Join(dir, "record.json")
	if err := file.save(failover.Durable{PodUID: "uid", Promise: 7}); err != nil {
		t.Fatal(err)
	}
	if err := writeDurably(note, DataRecord{DataEpoch: 7}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 64<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	if err := file.save(failover.Durable{PodUID: "uid", Promise: 8}); err != nil {
		t.Errorf("promising on a full disk: %v", err)
	}
	if got, why := file.load("uid"); got.Promise != 8 || got.Forgotten {
		t.Errorf("load = %+v, %q", got, why)
	}
	if err := writeDurably(note, DataRecord{DataEpoch: 8}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("noting the data's epoch on a full disk: %v", err)
	}
	if got, err := loadData(note); err != nil || got.DataEpoch != 7 {
		t.Errorf("after that the note says %+v, %v", got, err)
	}
}
