package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	header  = "{{- /* Generated from %s by go run ./hack/helm generate. */}}\n"
	roleIn  = "config/rbac/role.yaml"
	roleOut = "charts/understudy/templates/clusterrole.yaml"
	crdsIn  = "config/crd/bases"
	crdsOut = "charts/understudy/templates/crds"
)

// wanted is the content of every generated file of the chart by its path below root.
func wanted(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	crds, err := filepath.Glob(filepath.Join(root, crdsIn, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(crds) == 0 {
		return nil, fmt.Errorf("reading %s: no CustomResourceDefinition there: run controller-gen first (make generate)", crdsIn)
	}
	for _, path := range crds {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(path)
		text, err := crdTemplate(crdsIn+"/"+name, raw)
		if err != nil {
			return nil, err
		}
		files[crdsOut+"/"+strings.TrimPrefix(name, "ha.understudy.dev_")] = text
	}
	raw, err := os.ReadFile(filepath.Join(root, roleIn))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading %s: it does not exist: run controller-gen first (make generate)", roleIn)
	}
	if err != nil {
		return nil, err
	}
	files[roleOut], err = roleTemplate(raw)
	return files, err
}

// crdTemplate keeps the definition's text, so that a reader can compare the two by eye.
func crdTemplate(from string, raw []byte) ([]byte, error) {
	const annotations = "\n  annotations:\n"
	text := strings.TrimPrefix(string(raw), "---\n")
	if strings.Count(text[:strings.Index(text, "\nspec:")+1], annotations) != 1 {
		return nil, fmt.Errorf("generating from %s: its metadata has no annotations of its own to add to", from)
	}
	text = escape(text)
	text = strings.Replace(text, annotations, annotations+"    helm.sh/resource-policy: keep\n", 1)
	text = strings.Replace(text, "\nspec:", "\n  labels:\n    {{- include \"understudy.labels\" . | nindent 4 }}\nspec:", 1)
	return []byte(fmt.Sprintf(header, from) + "{{- if .Values.crds.install }}\n" + text + "{{- end }}\n"), nil
}

// escape makes a template that prints the text.
func escape(text string) string {
	return strings.ReplaceAll(text, "{{", `{{ "{{" }}`)
}

type role struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Rules []map[string]any `json:"rules"`
}

// roleTemplate copies the rules; names and labels are the chart's.
func roleTemplate(raw []byte) ([]byte, error) {
	var out bytes.Buffer
	fmt.Fprintf(&out, header, roleIn)
	for i, doc := range documents(raw) {
		var r role
		if err := yaml.Unmarshal(doc, &r); err != nil {
			return nil, fmt.Errorf("reading %s: %w", roleIn, err)
		}
		if r.Kind != "ClusterRole" || r.Metadata.Name != "understudy-operator" || i > 0 {
			return nil, fmt.Errorf("reading %s: found %s %q as object %d: want the ClusterRole understudy-operator alone "+
				"(controller-gen rbac:roleName=understudy-operator, no marker with a namespace)", roleIn, r.Kind, r.Metadata.Name, i+1)
		}
		rules, err := yaml.Marshal(r.Rules)
		if err != nil {
			return nil, err
		}
		out.WriteString("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n" +
			"  name: {{ include \"understudy.fullname\" . }}-operator\n" +
			"  labels:\n    {{- include \"understudy.labels\" . | nindent 4 }}\nrules:\n")
		for _, line := range strings.Split(strings.TrimRight(escape(string(rules)), "\n"), "\n") {
			out.WriteString("  " + line + "\n")
		}
	}
	return out.Bytes(), nil
}

func documents(raw []byte) [][]byte {
	var docs [][]byte
	for doc := range bytes.SplitSeq(append([]byte("\n"), raw...), []byte("\n---\n")) {
		if len(bytes.TrimSpace(doc)) > 0 {
			docs = append(docs, doc)
		}
	}
	return docs
}

func generate(root string) error {
	files, err := wanted(root)
	if err != nil {
		return err
	}
	for path, content := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, content, 0o644); err != nil {
			return err
		}
	}
	return removeOthers(root, files)
}

// removeOthers deletes the templates of definitions that no longer exist.
func removeOthers(root string, files map[string][]byte) error {
	there, err := filepath.Glob(filepath.Join(root, crdsOut, "*.yaml"))
	if err != nil {
		return err
	}
	for _, path := range there {
		if _, ok := files[crdsOut+"/"+filepath.Base(path)]; !ok {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}
