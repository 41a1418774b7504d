package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

func verify(root, helm, kubectl string) error {
	files, err := wanted(root)
	if err != nil {
		return err
	}
	var problems []string
	for path, want := range files {
		if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || !bytes.Equal(got, want) {
			problems = append(problems, path+" is stale: run go run ./hack/helm generate")
		}
	}
	there, err := filepath.Glob(filepath.Join(root, crdsOut, "*.yaml"))
	if err != nil {
		return err
	}
	if len(there) != len(files)-1 {
		problems = append(problems, crdsOut+" holds a template without a definition: run go run ./hack/helm generate")
	}
	different, err := compare(root, helm, kubectl)
	if err != nil {
		return err
	}
	problems = append(problems, different...)
	slices.Sort(problems)
	if len(problems) > 0 {
		return fmt.Errorf("chart and config/ are not the same:\n  %s", strings.Join(problems, "\n  "))
	}
	return nil
}

type object map[string]any

// compare renders the chart with its defaults and config/default, and tells what differs.
func compare(root, helm, kubectl string) ([]string, error) {
	program, err := findHelm(root, helm)
	if err != nil {
		return nil, err
	}
	chart := filepath.Join(root, "charts/understudy")
	if _, err := run(program, "lint", "--strict", chart); err != nil {
		return nil, err
	}
	fromChart, err := render(program, "template", "understudy", chart, "--namespace", "understudy-system")
	if err != nil {
		return nil, err
	}
	fromConfig, err := render(kubectl, "kustomize", filepath.Join(root, "config/default"))
	if err != nil {
		return nil, err
	}
	// Helm makes the namespace itself, with --create-namespace.
	delete(fromConfig, "Namespace understudy-system")
	return differences(fromChart, fromConfig), nil
}

func differences(fromChart, fromConfig map[string]object) []string {
	var out []string
	for key, a := range fromChart {
		b, ok := fromConfig[key]
		if !ok {
			out = append(out, key+" is in the chart and not in config/default")
			continue
		}
		for _, path := range differ(strip(a), strip(b), "") {
			out = append(out, fmt.Sprintf("%s: %s differs between the chart and config/default", key, path))
		}
	}
	for key := range fromConfig {
		if _, ok := fromChart[key]; !ok {
			out = append(out, key+" is in config/default and not in the chart")
		}
	}
	return out
}

// strip removes what each tool adds in its own way: labels that select nothing, and Helm's annotation.
func strip(o object) object {
	delete(o, "status")
	if meta, ok := o["metadata"].(map[string]any); ok {
		meta["labels"] = only(meta["labels"], "rbac.authorization.k8s.io/")
		if annotations, ok := meta["annotations"].(map[string]any); ok {
			delete(annotations, "helm.sh/resource-policy")
		}
	}
	if o["kind"] == "Deployment" {
		meta := o["spec"].(map[string]any)["template"].(map[string]any)["metadata"].(map[string]any)
		delete(meta, "labels") // the selector is compared, and the API server checks that it matches
	}
	return o
}

func only(labels any, prefix string) map[string]any {
	out := map[string]any{}
	m, _ := labels.(map[string]any)
	for k, v := range m {
		if strings.HasPrefix(k, prefix) {
			out[k] = v
		}
	}
	return out
}

// differ lists the paths at which two values differ.
func differ(a, b any, path string) []string {
	left, lok := asMap(a)
	right, rok := asMap(b)
	if !lok || !rok {
		if reflect.DeepEqual(a, b) {
			return nil
		}
		return []string{fmt.Sprintf("%s (%v, %v)", path, a, b)}
	}
	var out []string
	for k := range left {
		out = append(out, differ(left[k], right[k], path+"."+k)...)
	}
	for k := range right {
		if _, ok := left[k]; !ok {
			out = append(out, differ(nil, right[k], path+"."+k)...)
		}
	}
	return out
}

func asMap(v any) (map[string]any, bool) {
	if o, ok := v.(object); ok {
		return o, true
	}
	m, ok := v.(map[string]any)
	return m, ok
}

func render(program string, args ...string) (map[string]object, error) {
	raw, err := run(program, args...)
	if err != nil {
		return nil, err
	}
	out := map[string]object{}
	for _, doc := range documents(raw) {
		var o object
		if err := yaml.Unmarshal(doc, &o); err != nil {
			return nil, fmt.Errorf("reading what %s %s printed: %w", program, strings.Join(args, " "), err)
		}
		if o == nil {
			continue
		}
		meta, _ := o["metadata"].(map[string]any)
		out[fmt.Sprintf("%v %v", o["kind"], meta["name"])] = o
	}
	return out, nil
}

func run(program string, args ...string) ([]byte, error) {
	cmd := exec.Command(program, args...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, out, exit.Stderr)
	}
	return out, err
}

func findHelm(root, helm string) (string, error) {
	if helm == "" {
		helm = os.Getenv("HELM")
	}
	if helm != "" {
		return helm, nil
	}
	own := filepath.Join(root, ".cluster/bin/helm")
	if _, err := os.Stat(own); err == nil {
		return filepath.Abs(own)
	}
	path, err := exec.LookPath("helm")
	if err != nil {
		return "", fmt.Errorf("comparing chart and config/default: no helm in $HELM, .cluster/bin or the PATH: " +
			"make cluster-up builds one, or go install helm.sh/helm/v4/cmd/helm@v4.3.1")
	}
	return path, nil
}
