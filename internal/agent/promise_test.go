package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy.dev/understudy/internal/failover"
)

func TestPromiseSurvivesARestart(t *testing.T) {
	file := promiseFile{filepath.Join(t.TempDir(), "promise.json")}
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
	for name, content := range map[string]string{
		"missing": "", "damaged": "{\"podUID\":\"uid\",\"prom", "of another pod": `{"podUID":"other","promise":9}`, "negative": `{"podUID":"uid","promise":-1}`,
	} {
		path := filepath.Join(t.TempDir(), "promise.json")
		if content != "" {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, why := promiseFile{path}.load("uid")
		if !got.Forgotten || got.PodUID != "uid" || why == "" {
			t.Errorf("a promise file that is %s: %+v, %q; want forgotten with a reason", name, got, why)
		}
	}
}

// That something was forgotten must itself survive a second restart within the wait.
func TestForgettingIsDurable(t *testing.T) {
	file := promiseFile{filepath.Join(t.TempDir(), "promise.json")}
	forgot, _ := file.load("uid")
	if err := file.save(forgot); err != nil {
		t.Fatal(err)
	}
	if again, _ := file.load("uid"); !again.Forgotten {
		t.Error("the second start believes that it remembers")
	}
}

func TestFullDiskIsAnError(t *testing.T) {
	file := promiseFile{"/dev/full/promise.json"}
	if err := file.save(failover.Durable{}); err == nil || !strings.Contains(err.Error(), "promise.json") {
		t.Errorf("save = %v, want an error that names the file", err)
	}
}
