package apply

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func TestCovers(t *testing.T) {
	type m = map[string]any
	for name, c := range map[string]struct {
		have, want any
		covers     bool
	}{
		"equal":                    {m{"a": int64(1)}, m{"a": int64(1)}, true},
		"more than asked for":      {m{"a": int64(1), "b": "default"}, m{"a": int64(1)}, true},
		"another value":            {m{"a": int64(2)}, m{"a": int64(1)}, false},
		"missing":                  {m{}, m{"a": int64(1)}, false},
		"a list is whole":          {m{"a": []any{"x", "y"}}, m{"a": []any{"x"}}, false},
		"defaults inside a list":   {m{"a": []any{m{"n": "x", "d": "default"}}}, m{"a": []any{m{"n": "x"}}}, true},
		"an empty list and none":   {m{}, m{"a": []any{}}, true},
		"an empty list and some":   {m{"a": []any{"x"}}, m{"a": []any{}}, false},
		"kind and version aside":   {m{"a": "b"}, m{"kind": "X", "apiVersion": "v1", "a": "b"}, true},
		"a map where a string was": {m{"a": "x"}, m{"a": m{"b": "c"}}, false},
	} {
		if got := Covers(c.have, c.want); got != c.covers {
			t.Errorf("%s: covers is %t", name, got)
		}
	}
}

func ownedBy(kind, name string, uid types.UID) *corev1.ConfigMap {
	out := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}
	if kind != "" {
		out.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: name, UID: uid, Controller: ptr.To(true)}}
	}
	return out
}

func TestOwned(t *testing.T) {
	want := ownedBy("ReplicatedService", "cache", "new")
	if err := Owned(ownedBy("ReplicatedService", "cache", "new"), want); err != nil {
		t.Errorf("our own: %v", err)
	}
	var leaving *LeavingError
	if err := Owned(ownedBy("ReplicatedService", "cache", "old"), want); !errors.As(err, &leaving) {
		t.Errorf("of a deleted service of the same name: %v", err)
	}
	for name, have := range map[string]*corev1.ConfigMap{
		"nobody's": ownedBy("", "", ""), "another service's": ownedBy("ReplicatedService", "other", "x"), "a chart's": ownedBy("Release", "cache", "x"),
	} {
		var taken *TakenError
		if err := Owned(have, want); !errors.As(err, &taken) || taken.Kind != "ConfigMap" || taken.Name != "x" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDigestNoticesRemoval: a field that is no longer wanted makes another digest, or it would stay for ever.
func TestDigestNoticesRemoval(t *testing.T) {
	with := ownedBy("", "", "")
	with.Data = map[string]string{"a": "1", "b": "2"}
	without := ownedBy("", "", "")
	without.Data = map[string]string{"a": "1"}
	first, err := encode(with)
	if err != nil {
		t.Fatal(err)
	}
	second, err := encode(without)
	if err != nil {
		t.Fatal(err)
	}
	if Covers(first, second) {
		t.Error("an object with a field too many passes for what is wanted")
	}
	again, err := encode(without)
	if err != nil || !Covers(second, again) {
		t.Errorf("the same object differs from itself (%v)", err)
	}
}
