package render

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/limits"
	"understudy.dev/understudy/hack/cluster/machine"
	"understudy.dev/understudy/hack/cluster/pki"
)

const folder = layout.Folder("/somewhere/.cluster")

func rendered(t *testing.T, change func(*Input)) Files {
	t.Helper()
	in := Input{
		Folder: folder, Fsync: true, Runc: "/usr/sbin/runc", Plugins: "/usr/lib/cni",
		Limits: limits.Limits{CgroupV2: true, LowerOOMScore: true},
	}
	if change != nil {
		change(&in)
	}
	files, err := All(in)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func spec(t *testing.T, files Files, name string) machine.Spec {
	t.Helper()
	var found machine.Spec
	if err := json.Unmarshal(files[folder.Config(name, SpecName)], &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestFingerprintFollowsTheInput(t *testing.T) {
	same := rendered(t, nil).Fingerprint()
	if again := rendered(t, nil).Fingerprint(); again != same {
		t.Error("the same input gave another fingerprint")
	}
	for name, change := range map[string]func(*Input){
		"fsync":  func(in *Input) { in.Fsync = false },
		"cgroup": func(in *Input) { in.Limits.CgroupV2 = false },
		"oom":    func(in *Input) { in.Limits.LowerOOMScore = false },
		"runc":   func(in *Input) { in.Runc = "/bin/runc" },
	} {
		if rendered(t, change).Fingerprint() == same {
			t.Errorf("%s: another input gave the same fingerprint", name)
		}
	}
}

func TestEveryFileNamedIsMade(t *testing.T) {
	files := rendered(t, nil)
	made := map[string]bool{}
	for _, certificate := range pki.Wanted() {
		made[folder.PKI(certificate.Name+".crt")] = true
		made[folder.PKI(certificate.Name+".key")] = true
	}
	for _, name := range []string{pki.ClusterCA, pki.ProxyCA} {
		made[folder.PKI(name+".crt")], made[folder.PKI(name+".key")] = true, true
	}
	made[folder.PKI(pki.ServiceAccountKey+".key")], made[folder.PKI(pki.ServiceAccountKey+".pub")] = true, true
	path := regexp.MustCompile(regexp.QuoteMeta(string(folder)) + `/(config|pki)/[\w./-]+`)
	for file, data := range files {
		for _, named := range path.FindAllString(string(data), -1) {
			if _, found := files[named]; !found && !made[named] && !slices.ContainsFunc(keys(files), func(other string) bool {
				return strings.HasPrefix(other, named+"/")
			}) {
				t.Errorf("%s names %s, which nobody makes", filepath.Base(file), named)
			}
		}
	}
}

func keys(files Files) []string {
	var all []string
	for path := range files {
		all = append(all, path)
	}
	return all
}

func TestYAMLParses(t *testing.T) {
	for path, data := range rendered(t, nil) {
		if filepath.Ext(path) != ".yaml" && !strings.HasSuffix(path, "kubeconfig") {
			continue
		}
		var found map[string]any
		if err := yaml.Unmarshal(data, &found); err != nil || found["kind"] == nil {
			t.Errorf("%s: %v: %s", path, err, data)
		}
	}
}

func TestKubeletFollowsTheLimits(t *testing.T) {
	path := folder.Config("node-1", "kubelet.yaml")
	roomy := string(rendered(t, nil)[path])
	if strings.Contains(roomy, "failCgroupV1") || strings.Contains(roomy, "oomScoreAdj") {
		t.Errorf("a machine without limits is limited:\n%s", roomy)
	}
	tight := string(rendered(t, func(in *Input) { in.Limits = limits.Limits{} })[path])
	if !strings.Contains(tight, "failCgroupV1: false") || !strings.Contains(tight, "oomScoreAdj: 0") {
		t.Errorf("a limited machine is not respected:\n%s", tight)
	}
}

func TestContainerdFollowsTheLimits(t *testing.T) {
	path := folder.Config("node-1", "containerd.toml")
	for lower, want := range map[bool]string{true: "restrict_oom_score_adj = false", false: "restrict_oom_score_adj = true"} {
		text := string(rendered(t, func(in *Input) { in.Limits.LowerOOMScore = lower })[path])
		if !strings.Contains(text, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
}

func TestEtcdKeepsItsPromiseUnlessTold(t *testing.T) {
	for fsync, want := range map[bool]bool{true: false, false: true} {
		files := rendered(t, func(in *Input) { in.Fsync = fsync })
		args := spec(t, files, "control").Programs[0].Args
		if got := slices.Contains(args, "--unsafe-no-fsync"); got != want {
			t.Errorf("fsync %v: etcd runs with %q", fsync, args)
		}
	}
}

func TestNodesShareNothing(t *testing.T) {
	files := rendered(t, nil)
	seen := map[string]string{}
	for _, node := range layout.Nodes() {
		for _, bind := range spec(t, files, node.Name).Binds {
			if other, found := seen[bind.From]; found {
				t.Errorf("%s and %s share %s", node.Name, other, bind.From)
			}
			seen[bind.From] = node.Name
		}
	}
}
