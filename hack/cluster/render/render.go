// Package render writes the configuration of every program. It is pure: the same folder and limits give the same
// files, so a change of any of them tells that a running cluster is out of date.
package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"

	"sigs.k8s.io/yaml"

	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/limits"
	"understudy.dev/understudy/hack/cluster/machine"
)

// Input is all that configuration depends on.
type Input struct {
	Folder layout.Folder
	Limits limits.Limits
	// Fsync keeps etcd's promise that what it acknowledged survives a power cut.
	Fsync bool
	// Runc is the path of the container runtime.
	Runc string
	// Plugins is the folder of the CNI plugins.
	Plugins string
}

// Files maps absolute paths to contents.
type Files map[string][]byte

// SpecName is the file name of a machine's specification in its configuration folder.
const SpecName = "machine.json"

// All renders the whole cluster.
func All(in Input) (Files, error) {
	files := Files{}
	builder := builder{in: in, files: files}
	builder.control()
	for _, node := range layout.Nodes() {
		builder.node(node)
	}
	builder.kubeconfig(in.Folder.Kubeconfig(), "kubernetes-admin", "admin")
	return files, builder.err
}

// Fingerprint names the contents.
func (f Files) Fingerprint() string {
	var paths []string
	for path := range f {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	hash := sha256.New()
	for _, path := range paths {
		fmt.Fprintf(hash, "%s %d\n%s", path, len(f[path]), f[path])
	}
	return hex.EncodeToString(hash.Sum(nil))
}

type builder struct {
	in    Input
	files Files
	err   error
}

func (b *builder) text(path, text string) { b.files[path] = []byte(text) }

func (b *builder) yaml(path string, value any) {
	data, err := yaml.Marshal(value)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("rendering %s: %w", path, err)
	}
	b.files[path] = data
}

func (b *builder) spec(spec machine.Spec) {
	data, err := json.MarshalIndent(spec, "", "  ")
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("rendering the specification of %s: %w", spec.Name, err)
	}
	b.files[b.in.Folder.Config(spec.Name, SpecName)] = data
}

func (b *builder) program(on layout.Machine, name, needs string, args ...string) machine.Program {
	return machine.Program{
		Name:  name,
		Args:  append([]string{b.in.Folder.Bin(name)}, args...),
		Log:   b.in.Folder.Log(on.Name, name),
		Needs: needs,
	}
}

type object = map[string]any

// kubeconfig embeds nothing: it names the certificates, so that it stays the same when they are made anew.
func (b *builder) kubeconfig(path, user, certificate string) {
	folder := b.in.Folder
	b.yaml(path, object{
		"apiVersion": "v1",
		"kind":       "Config",
		"clusters": []object{{"name": layout.ContextName, "cluster": object{
			"server":                layout.APIURL(),
			"certificate-authority": folder.PKI("ca.crt"),
		}}},
		"users": []object{{"name": user, "user": object{
			"client-certificate": folder.PKI(certificate + ".crt"),
			"client-key":         folder.PKI(certificate + ".key"),
		}}},
		"contexts": []object{{"name": layout.ContextName, "context": object{
			"cluster": layout.ContextName, "user": user,
		}}},
		"current-context": layout.ContextName,
	})
}
