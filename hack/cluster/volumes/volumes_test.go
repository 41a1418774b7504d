package volumes

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"understudy.dev/understudy/hack/cluster/layout"
)

// A volume's path comes from the API: one that leads elsewhere must not be removed.
func TestReclaimRefusesForeignFolders(t *testing.T) {
	state, outside := t.TempDir(), filepath.Join(t.TempDir(), "local-x")
	if err := os.MkdirAll(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	provider := Provider{Folder: layout.Folder(state)}
	for _, path := range []string{
		outside,
		"/",
		filepath.Join(state, "nodes"),
		filepath.Join(state, "nodes", "node-1", "etcd"),
		filepath.Join(state, "nodes", "..", "..", filepath.Base(filepath.Dir(outside)), "local-x"),
	} {
		var v volume
		v.Metadata.Name = "local-x"
		v.Spec.StorageClassName = layout.StorageClass
		v.Spec.PersistentVolumeReclaimPolicy = "Delete"
		v.Spec.Local.Path = path
		v.Status.Phase = "Released"
		if err := provider.reclaim(context.Background(), v); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error("a folder outside the state was removed")
	}
}
