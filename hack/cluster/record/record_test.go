package record

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"understudy.dev/understudy/hack/cluster/identity"
	"understudy.dev/understudy/hack/cluster/layout"
)

func TestSaveAndLoad(t *testing.T) {
	folder := layout.Folder(filepath.Join(t.TempDir(), "clone", ".cluster"))
	store := Store{Root: filepath.Join(t.TempDir(), "run")}
	if _, err := store.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("an empty store gave %v", err)
	}
	want := &Record{
		Folder:   folder,
		Machines: map[string]identity.Process{"node-1": {PID: 1, Start: 2, Boot: "b"}},
		Off:      map[string]bool{"node-2": true},
		Isolated: map[string]bool{},
		Settings: map[string]string{"/proc/sys/a": "1"},
	}
	if err := store.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := store.Load()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	copied, err := LoadFolder(folder)
	if err != nil || !reflect.DeepEqual(copied, want) {
		t.Errorf("the folder's copy is %+v, %v", copied, err)
	}
	for range 2 { // the second time there is nothing left to remove
		if err := store.Remove(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamagedStateIsAnErrorThatSaysWhatToDo(t *testing.T) {
	store := Store{Root: t.TempDir()}
	if err := os.WriteFile(store.path(), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Load(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
