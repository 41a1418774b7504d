// Package apply brings owned objects to their wanted state, with a request only where something differs.
package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// FieldOwner is the operator's name in managedFields.
	FieldOwner = client.FieldOwner("understudy-operator")
	// annotationApplied is a digest of what was applied last, so that a field that is no longer wanted is noticed.
	annotationApplied = "ha.understudy.dev/applied"
)

// TakenError says that an object of a needed name belongs to somebody else.
type TakenError struct {
	Kind, Name string
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s %s exists and was not made by Understudy for this service", e.Kind, e.Name)
}

// LeavingError says that an object of a former service of the same name is not gone yet.
type LeavingError struct {
	Kind, Name string
}

func (e *LeavingError) Error() string {
	return fmt.Sprintf("%s %s of a deleted service of the same name is not gone yet", e.Kind, e.Name)
}

// Applier ensures objects of one owner kind.
type Applier struct {
	Client client.Client // reads from the cache
	Live   client.Reader // reads from the API server
}

// Ensure makes the object as wanted and reports whether it wrote. The object must have a controller reference.
func (a Applier) Ensure(ctx context.Context, want client.Object) (bool, error) {
	desired, err := encode(want)
	if err != nil {
		return false, err
	}
	have, err := a.find(ctx, want)
	if err != nil {
		return false, err
	}
	if have != nil {
		if err := Owned(have, want); err != nil {
			return false, err
		}
		current, err := runtime.DefaultUnstructuredConverter.ToUnstructured(have)
		if err != nil {
			return false, fmt.Errorf("comparing %s: %w", describe(want), err)
		}
		if Covers(current, desired) {
			return false, nil
		}
	}
	u := &unstructured.Unstructured{Object: desired}
	if err := a.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), FieldOwner, client.ForceOwnership); err != nil {
		return false, fmt.Errorf("applying %s: %w", describe(want), err)
	}
	return true, nil
}

// Remove deletes an owned object that is no longer wanted.
func (a Applier) Remove(ctx context.Context, gone client.Object) error {
	have := reflect.New(reflect.TypeOf(gone).Elem()).Interface().(client.Object)
	err := a.Client.Get(ctx, client.ObjectKeyFromObject(gone), have)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if Owned(have, gone) != nil || have.GetDeletionTimestamp() != nil {
		return nil
	}
	uid := have.GetUID()
	err = a.Client.Delete(ctx, have, client.Preconditions{UID: &uid})
	return client.IgnoreNotFound(err)
}

// find looks in the cache and, since the cache sees only objects with our label, then in the API server.
func (a Applier) find(ctx context.Context, want client.Object) (client.Object, error) {
	key := client.ObjectKeyFromObject(want)
	for _, reader := range []client.Reader{a.Client, a.Live} {
		have := reflect.New(reflect.TypeOf(want).Elem()).Interface().(client.Object)
		err := reader.Get(ctx, key, have)
		if err == nil {
			return have, nil
		}
		if !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("reading %s: %w", describe(want), err)
		}
	}
	return nil, nil
}

// Owned returns an error unless have is controlled by the owner that want names.
func Owned(have, want client.Object) error {
	is, should := metav1.GetControllerOf(have), metav1.GetControllerOf(want)
	switch {
	case is != nil && should != nil && is.UID == should.UID:
		return nil
	case is != nil && should != nil && is.Kind == should.Kind && is.Name == should.Name:
		return &LeavingError{Kind: kindOf(want), Name: want.GetName()}
	default:
		return &TakenError{Kind: kindOf(want), Name: want.GetName()}
	}
}

func encode(want client.Object) (map[string]any, error) {
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(want)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", describe(want), err)
	}
	delete(out, "status")
	prune(out)
	raw, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", describe(want), err)
	}
	sum := sha256.Sum256(raw)
	u := unstructured.Unstructured{Object: out}
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationApplied] = hex.EncodeToString(sum[:8])
	u.SetAnnotations(annotations)
	return out, nil
}

// prune removes nulls, empty maps and the status of embedded objects: they ask for nothing.
func prune(m map[string]any) {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case map[string]any:
			prune(v)
			if len(v) == 0 && k != "emptyDir" {
				delete(m, k)
			}
		case []any:
			for _, item := range v {
				if item, ok := item.(map[string]any); ok {
					prune(item)
				}
			}
		}
	}
}

// Covers reports whether everything wanted is there; what the API server or others added does not matter.
func Covers(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		if !ok {
			return false
		}
		for k, v := range want {
			if k == "apiVersion" || k == "kind" {
				continue // a typed object from a cache may lack them
			}
			if !Covers(have[k], v) {
				return false
			}
		}
		return true
	case []any:
		have, ok := have.([]any)
		if !ok || len(have) != len(want) {
			return ok && len(want) == 0 && len(have) == 0 || !ok && len(want) == 0
		}
		for i := range want {
			if !Covers(have[i], want[i]) {
				return false
			}
		}
		return true
	default:
		return reflect.DeepEqual(have, want)
	}
}

func kindOf(obj client.Object) string { return reflect.TypeOf(obj).Elem().Name() }

func describe(obj client.Object) string {
	return fmt.Sprintf("%s %s/%s", kindOf(obj), obj.GetNamespace(), obj.GetName())
}
