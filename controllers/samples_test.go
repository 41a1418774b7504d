package controllers

import (
	"os"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// TestSamples: the API server takes each sample as kubectl sends it, read as YAML, where a bare On is a boolean.
func TestSamples(t *testing.T) {
	s := newStage(t)
	files, err := filepath.Glob(filepath.Join("..", "config", "samples", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("samples %v, %v", files, err)
	}
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var obj unstructured.Unstructured
		if err := yaml.Unmarshal(text, &obj.Object); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		obj.SetNamespace(s.key("").Namespace)
		strict := client.WithFieldValidation(api, metav1.FieldValidationStrict)
		if err := strict.Create(t.Context(), &obj, client.DryRunAll); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
