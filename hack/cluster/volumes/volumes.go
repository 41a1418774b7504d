// Package volumes provides storage on the node that the scheduler chose, removed with its claim: a folder, or, in class disk,
// a file system in a file. Each node runs one, since a mount is seen on its node only.
package volumes

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"understudy.dev/understudy/hack/cluster/kube"
	"understudy.dev/understudy/hack/cluster/layout"
)

const (
	claims   = "/api/v1/persistentvolumeclaims"
	volumes  = "/api/v1/persistentvolumes"
	selected = "volume.kubernetes.io/selected-node"
)

type object = map[string]any

type claim struct {
	Metadata struct {
		Name, Namespace, UID string
		DeletionTimestamp    string
		Annotations          map[string]string
	}
	Spec struct {
		StorageClassName string
		AccessModes      []string
		VolumeName       string
		VolumeMode       string
		Resources        struct{ Requests map[string]string }
	}
}

type volume struct {
	Metadata struct{ Name string }
	Spec     struct {
		StorageClassName              string
		PersistentVolumeReclaimPolicy string
		Local                         struct{ Path string }
	}
	Status struct{ Phase string }
}

// Provider makes and removes volumes.
type Provider struct {
	Folder layout.Folder
	Client *kube.Client
	Node   layout.Machine
}

// Run serves until the context ends.
func (p *Provider) Run(ctx context.Context) error {
	if err := mountAll(p.Folder, p.Node); err != nil {
		return err
	}
	go p.watch(ctx, claims, func(raw json.RawMessage) error {
		var c claim
		if err := json.Unmarshal(raw, &c); err != nil {
			return fmt.Errorf("decoding a claim: %w", err)
		}
		return p.provide(ctx, c)
	})
	p.watch(ctx, volumes, func(raw json.RawMessage) error {
		var v volume
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("decoding a volume: %w", err)
		}
		return p.reclaim(ctx, v)
	})
	return ctx.Err()
}

// watch starts over whenever the stream ends; a watch without a version begins with all that exists.
func (p *Provider) watch(ctx context.Context, path string, handle func(json.RawMessage) error) {
	for ctx.Err() == nil {
		err := p.Client.Watch(ctx, path+"?watch=true", func(event kube.Event) error {
			if event.Type != "ADDED" && event.Type != "MODIFIED" {
				return nil
			}
			return handle(event.Object)
		})
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: trying again in a second\n", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (p *Provider) provide(ctx context.Context, c claim) error {
	if !ours(c.Spec.StorageClassName) || c.Spec.VolumeName != "" || c.Metadata.Annotations[selected] != p.Node.Name ||
		c.Metadata.DeletionTimestamp != "" || c.Spec.VolumeMode == "Block" {
		return nil
	}
	name := c.Spec.StorageClassName + "-" + c.Metadata.UID
	path := p.Folder.Data(p.Node.Name, "volumes", name)
	if c.Spec.StorageClassName == layout.DiskClass {
		if err := makeDisk(p.Folder, p.Node, name, c.Spec.Resources.Requests["storage"]); err != nil {
			return fmt.Errorf("making the disk of volume %s: %w", name, err)
		}
		path = onDisk(p.Folder, p.Node, name)
	}
	// Any user may write: the user that the container will run as is not known here.
	if err := os.MkdirAll(path, 0o777); err != nil {
		return fmt.Errorf("making the folder of volume %s: %w", name, err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return fmt.Errorf("opening the folder of volume %s: %w", name, err)
	}
	err := p.Client.Do(ctx, http.MethodPost, volumes, kube.JSON, body(c, name, path, p.Node.Name), nil)
	if kube.Is(err, http.StatusConflict) {
		return nil
	}
	return err
}

// madeFor finds the node that a volume was made for, and whether it is a disk. The path comes from the API, where anybody
// with the right may have written it: one that leads elsewhere must not be removed.
func (p *Provider) madeFor(v volume) (node layout.Machine, disk bool, err error) {
	for _, node := range layout.Nodes() {
		switch filepath.Clean(v.Spec.Local.Path) {
		case p.Folder.Data(node.Name, "volumes", v.Metadata.Name):
			return node, false, nil
		case onDisk(p.Folder, node, v.Metadata.Name):
			return node, true, nil
		}
	}
	return node, false, fmt.Errorf("its folder %s is not one that was made in %s: remove it by hand", v.Spec.Local.Path, p.Folder.Data(""))
}

func ours(class string) bool { return class == layout.StorageClass || class == layout.DiskClass }

func body(c claim, name, path, node string) object {
	return object{
		"apiVersion": "v1", "kind": "PersistentVolume",
		"metadata": object{"name": name, "annotations": object{"pv.kubernetes.io/provisioned-by": layout.Provisioner}},
		"spec": object{
			"storageClassName":              c.Spec.StorageClassName,
			"accessModes":                   c.Spec.AccessModes,
			"capacity":                      object{"storage": c.Spec.Resources.Requests["storage"]},
			"persistentVolumeReclaimPolicy": "Delete",
			"local":                         object{"path": path},
			"claimRef": object{
				"apiVersion": "v1", "kind": "PersistentVolumeClaim",
				"namespace": c.Metadata.Namespace, "name": c.Metadata.Name, "uid": c.Metadata.UID,
			},
			"nodeAffinity": object{"required": object{"nodeSelectorTerms": []object{{"matchExpressions": []object{{
				"key": "kubernetes.io/hostname", "operator": "In", "values": []string{node},
			}}}}}},
		},
	}
}

func (p *Provider) reclaim(ctx context.Context, v volume) error {
	if !ours(v.Spec.StorageClassName) || v.Status.Phase != "Released" || v.Spec.PersistentVolumeReclaimPolicy != "Delete" {
		return nil
	}
	node, disk, err := p.madeFor(v)
	if err != nil {
		return fmt.Errorf("removing volume %s: %w", v.Metadata.Name, err)
	}
	if node.Name != p.Node.Name {
		return nil
	}
	if disk {
		err = removeDisk(p.Folder, node, v.Metadata.Name)
	} else {
		err = os.RemoveAll(v.Spec.Local.Path)
	}
	if err != nil {
		return fmt.Errorf("removing volume %s: %w", v.Metadata.Name, err)
	}
	err = p.Client.Do(ctx, http.MethodDelete, volumes+"/"+v.Metadata.Name, kube.JSON, nil, nil)
	if kube.Is(err, http.StatusNotFound) {
		return nil
	}
	return err
}
