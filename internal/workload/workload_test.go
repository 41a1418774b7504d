package workload

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/names"
)

func input(change ...func(*v1alpha1.ReplicatedServiceSpec)) Input {
	svc := &v1alpha1.ReplicatedService{
		ObjectMeta: metav1.ObjectMeta{Name: "cache", Namespace: "default", UID: "uid"},
		Spec: v1alpha1.ReplicatedServiceSpec{
			Replicas: ptr.To[int32](3),
			Engine:   v1alpha1.EngineSpec{Redis: &v1alpha1.RedisSpec{Port: 6379}},
			Template: v1alpha1.MemberTemplate{Image: "redis:8", UserID: 999},
		},
	}
	for _, f := range change {
		f(&svc.Spec)
	}
	return Input{Service: svc, AgentImage: "agent:1", PasswordSecret: "cache-auth", PasswordKey: "password", Evictions: Evictions{One: true}}
}

// TestRestricted: pods pass Kubernetes' strictest pod security level.
func TestRestricted(t *testing.T) {
	pod := StatefulSet(input()).Spec.Template.Spec
	if s := pod.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser != 999 || *s.RunAsGroup != 999 || *s.FSGroup != 999 ||
		s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("pod security %+v", s)
	}
	for _, c := range append(slices.Clone(pod.InitContainers), pod.Containers...) {
		if s := c.SecurityContext; *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("container %s: %+v", c.Name, s)
		}
	}
	if pod.HostNetwork || pod.HostPID || pod.ShareProcessNamespace != nil {
		t.Error("the pod shares what an agent must have for itself")
	}
}

func TestPod(t *testing.T) {
	set := StatefulSet(input())
	pod := set.Spec.Template.Spec
	engine := pod.Containers[0]
	if engine.LivenessProbe != nil || engine.StartupProbe != nil {
		t.Error("a kubelet could kill a member in the middle of a failover")
	}
	if !slices.Equal(engine.Command, []string{names.AgentPath, "run"}) || len(engine.Args) != 0 {
		t.Errorf("PID 1 would not be the agent: %v %v", engine.Command, engine.Args)
	}
	mounts := map[string]bool{}
	for _, m := range engine.VolumeMounts {
		mounts[m.MountPath] = true
	}
	for _, path := range []string{names.BinDir, names.StateDir, names.ConfigDir, names.CertsDir, names.SecretDir, names.DataDir, "/tmp"} {
		if !mounts[path] {
			t.Errorf("nothing is mounted at %s", path)
		}
	}
	if set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType || set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
		t.Errorf("strategy %s, management %s", set.Spec.UpdateStrategy.Type, set.Spec.PodManagementPolicy)
	}
	for k, v := range Selector("cache") {
		if set.Spec.Template.Labels[k] != v {
			t.Errorf("the pods lack %s=%s", k, v)
		}
	}
}

// TestUserLabels: a user's labels are added, and never win over ours.
func TestUserLabels(t *testing.T) {
	in := input(func(s *v1alpha1.ReplicatedServiceSpec) {
		s.Template.Metadata = &v1alpha1.TemplateMetadata{Labels: map[string]string{"team": "a", keys.LabelService: "other"}}
	})
	labels := StatefulSet(in).Spec.Template.Labels
	if labels["team"] != "a" || labels[keys.LabelService] != "cache" {
		t.Errorf("labels %v", labels)
	}
}

func TestStorage(t *testing.T) {
	if claims := StatefulSet(input()).Spec.VolumeClaimTemplates; len(claims) != 0 {
		t.Errorf("claims %v without storage", claims)
	}
	for retention, want := range map[v1alpha1.VolumeRetention]appsv1.PersistentVolumeClaimRetentionPolicyType{
		"": appsv1.RetainPersistentVolumeClaimRetentionPolicyType, v1alpha1.RetainVolumes: appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
		v1alpha1.DeleteVolumes: appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
	} {
		set := StatefulSet(input(func(s *v1alpha1.ReplicatedServiceSpec) {
			s.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi"), Retention: retention}
		}))
		if got := set.Spec.PersistentVolumeClaimRetentionPolicy; got.WhenDeleted != want || got.WhenScaled != want {
			t.Errorf("retention %q: %+v", retention, got)
		}
		if len(set.Spec.VolumeClaimTemplates) != 1 || set.Spec.VolumeClaimTemplates[0].Name != "data" {
			t.Errorf("claims %+v", set.Spec.VolumeClaimTemplates)
		}
		for _, v := range set.Spec.Template.Spec.Volumes {
			if v.Name == "data" {
				t.Error("an empty directory hides the claim")
			}
		}
	}
}

func TestSpread(t *testing.T) {
	for spread, want := range map[v1alpha1.SpreadStrictness]corev1.UnsatisfiableConstraintAction{
		"": corev1.ScheduleAnyway, v1alpha1.SpreadPreferred: corev1.ScheduleAnyway, v1alpha1.SpreadRequired: corev1.DoNotSchedule,
	} {
		in := input(func(s *v1alpha1.ReplicatedServiceSpec) { s.Placement = &v1alpha1.PlacementSpec{Spread: spread} })
		c := StatefulSet(in).Spec.Template.Spec.TopologySpreadConstraints
		if c[0].WhenUnsatisfiable != want || c[1].WhenUnsatisfiable != corev1.ScheduleAnyway {
			t.Errorf("spread %q: %+v", spread, c)
		}
	}
}

// asRead is what an agent reads in a pod of a template, with the objects that its volume names.
func asRead(t *testing.T, in Input) agentconfig.Config {
	t.Helper()
	dir, template := t.TempDir(), StatefulSet(in).Spec.Template
	at := slices.IndexFunc(template.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "config" })
	for _, source := range template.Spec.Volumes[at].Projected.Sources {
		files := map[string]string{}
		if d := source.DownwardAPI; d != nil {
			key := strings.TrimSuffix(strings.TrimPrefix(d.Items[0].FieldRef.FieldPath, "metadata.annotations['"), "']")
			files[d.Items[0].Path] = template.Annotations[key]
		}
		if c := source.ConfigMap; c != nil && c.Name == ConfigMap(in).Name {
			files[c.Items[0].Path] = ConfigMap(in).Data[c.Items[0].Key]
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	config, err := agentconfig.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// TestAgentConfig: what the operator writes is what the agent reads, and a change of it makes pods outdated. It is in the template itself: what is taken back
// takes it along.
func TestAgentConfig(t *testing.T) {
	in := input(func(s *v1alpha1.ReplicatedServiceSpec) {
		s.Engine.Redis.Parameters = map[string]v1alpha1.ParameterValue{"maxmemory": "10mb"}
		s.Template.Metadata = &v1alpha1.TemplateMetadata{Annotations: map[string]string{annotationConfig: "a user's"}}
	})
	if ConfigMap(in) != nil {
		t.Error("what all members read may break the next one that is started again")
	}
	config := asRead(t, in)
	want := agentconfig.Config{Service: "cache", Namespace: "default", ServiceUID: "uid",
		Redis: &agentconfig.Redis{Port: 6379, Parameters: map[string]string{"maxmemory": "10mb"}}}
	if !reflect.DeepEqual(config, want) {
		t.Errorf("config %+v", config)
	}
	if reflect.DeepEqual(StatefulSet(in).Spec.Template.Annotations, StatefulSet(input()).Spec.Template.Annotations) {
		t.Error("nobody would see that pods run with other parameters")
	}
}

func postgresql(change ...func(*v1alpha1.ReplicatedServiceSpec)) Input {
	return input(append([]func(*v1alpha1.ReplicatedServiceSpec){func(s *v1alpha1.ReplicatedServiceSpec) {
		s.Engine = v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{}}
		s.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi")}
	}}, change...)...)
}

// TestWALVolume: the claim, the mount and what the agent is told go together.
func TestWALVolume(t *testing.T) {
	for _, own := range []bool{false, true} {
		in := postgresql(func(s *v1alpha1.ReplicatedServiceSpec) {
			if own {
				s.Storage.WAL = &v1alpha1.WALStorageSpec{Size: resource.MustParse("4Gi"), StorageClassName: ptr.To("fast")}
			}
		})
		set := StatefulSet(in)
		var claims, mounts []string
		for _, c := range set.Spec.VolumeClaimTemplates {
			claims = append(claims, c.Name+" "+ptr.Deref(c.Spec.StorageClassName, "")+" "+c.Spec.Resources.Requests.Storage().String())
		}
		for _, m := range set.Spec.Template.Spec.Containers[0].VolumeMounts {
			if m.MountPath == names.WALDir {
				mounts = append(mounts, m.Name)
			}
		}
		dir := postgresqlConfig(in.Service).WALDir
		if own && (!slices.Equal(claims, []string{"data  1Gi", "wal fast 4Gi"}) || !slices.Equal(mounts, []string{"wal"}) || dir != names.WALDir) ||
			!own && (!slices.Equal(claims, []string{"data  1Gi"}) || len(mounts) != 0 || dir != "") {
			t.Errorf("own volume %t: claims %v, mounts %v, folder %q", own, claims, mounts, dir)
		}
	}
}

func TestCommitLevels(t *testing.T) {
	for level, want := range map[v1alpha1.SynchronousCommit]string{
		"": "", v1alpha1.CommitRemoteFlush: "", v1alpha1.CommitRemoteWrite: "remote_write", v1alpha1.CommitRemoteApply: "remote_apply",
	} {
		in := postgresql(func(s *v1alpha1.ReplicatedServiceSpec) { s.Engine.PostgreSQL.SynchronousCommit = level })
		if got := postgresqlConfig(in.Service).SynchronousCommit; got != want {
			t.Errorf("%q: %q, want %q", level, got, want)
		}
	}
}

// TestReloadable: what the members of PostgreSQL take in while they run makes no pod outdated, and both sides call it alike.
func TestReloadable(t *testing.T) {
	of := func(p v1alpha1.PostgreSQLSpec) Input {
		return input(func(s *v1alpha1.ReplicatedServiceSpec) { s.Engine = v1alpha1.EngineSpec{PostgreSQL: &p} })
	}
	annotations := func(in Input) map[string]string { return StatefulSet(in).Spec.Template.Annotations }
	plain := of(v1alpha1.PostgreSQLSpec{})
	tuned := of(v1alpha1.PostgreSQLSpec{Parameters: map[string]v1alpha1.ParameterValue{"work_mem": "8MB"}, HostBasedAuthentication: []string{"host all all all md5"}})
	if !reflect.DeepEqual(annotations(plain), annotations(tuned)) {
		t.Error("a reload would replace every pod")
	}
	if reflect.DeepEqual(annotations(plain), annotations(of(v1alpha1.PostgreSQLSpec{Port: 6000}))) {
		t.Error("nobody would see that pods have another port")
	}
	config := asRead(t, tuned)
	want, ok := Reloadable(tuned.Service)
	if got := config.PostgreSQL.Reloadable(); !ok || got.Digest() != want.Digest() || got.Parameters["work_mem"] != "8MB" || len(got.HBA) != 1 {
		t.Errorf("the members read %+v, the operator means %+v", got, want)
	}
	if none, _ := Reloadable(plain.Service); none.Digest() == want.Digest() {
		t.Error("a change would not be seen")
	}
	if _, ok := Reloadable(input().Service); ok {
		t.Error("Redis reads its parameters when it starts")
	}
}

// TestRoleIsNarrow: agents may touch their own Lease and slices by name; create has no name, and is for one check only.
func TestRoleIsNarrow(t *testing.T) {
	for _, rule := range Role(input()).Rules {
		if slices.Contains(rule.Verbs, "create") && !slices.Equal(rule.Resources, []string{"endpointslices/restricted"}) {
			t.Errorf("agents may create %v", rule.Resources)
		}
		if !slices.Contains(rule.Verbs, "create") && len(rule.ResourceNames) == 0 {
			t.Errorf("agents may %v every %v", rule.Verbs, rule.Resources)
		}
		if slices.Contains(rule.Verbs, "delete") || slices.Contains(rule.Resources, "secrets") {
			t.Errorf("rule %+v", rule)
		}
	}
}

func TestBudget(t *testing.T) {
	for _, c := range []struct {
		evictions Evictions
		allowed   int
		policy    policyv1.UnhealthyPodEvictionPolicyType
	}{
		{Evictions{One: true, Unready: true}, 1, policyv1.AlwaysAllow},
		{Evictions{Unready: true}, 0, policyv1.AlwaysAllow},
		{Evictions{}, 0, policyv1.IfHealthyBudget},
	} {
		in := input()
		in.Evictions = c.evictions
		b := Budget(in)
		if n := b.Spec.MaxUnavailable.IntValue(); n != c.allowed || *b.Spec.UnhealthyPodEvictionPolicy != c.policy {
			t.Errorf("%+v: maxUnavailable %d, want %d; %s, want %s", c.evictions, n, c.allowed, *b.Spec.UnhealthyPodEvictionPolicy, c.policy)
		}
		if got := EvictionsOf(b); got != c.evictions {
			t.Errorf("%+v is read back as %+v", c.evictions, got)
		}
	}
	if b := Budget(input(func(s *v1alpha1.ReplicatedServiceSpec) { s.Replicas = ptr.To[int32](1) })); b != nil {
		t.Error("one member could never be drained")
	}
}

func TestServices(t *testing.T) {
	if s := PrimaryService(input()); len(s.Spec.Selector) != 0 || s.Spec.Ports[0].Name != "redis" || s.Spec.Ports[0].Port != 6379 {
		t.Errorf("the primary's Service %+v", s.Spec)
	}
	if s := ReplicasService(input()); s != nil {
		t.Error("a Service of the replicas was made though nobody asked")
	}
	if s := MembersService(input()); !s.Spec.PublishNotReadyAddresses || s.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Errorf("the members' Service %+v", s.Spec)
	}
	shaped := input(func(s *v1alpha1.ReplicatedServiceSpec) {
		s.Services = &v1alpha1.ServicesSpec{
			Primary:  &v1alpha1.ServiceShape{Type: corev1.ServiceTypeLoadBalancer, Annotations: map[string]string{"a": "b"}},
			Replicas: &v1alpha1.ServiceShape{},
		}
	})
	if s := PrimaryService(shaped); s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.Annotations["a"] != "b" {
		t.Errorf("a shape was not taken: %+v", s)
	}
	if s := ReplicasService(shaped); s == nil || len(s.Spec.Selector) != 0 || s.Spec.Type != corev1.ServiceTypeClusterIP {
		t.Errorf("the replicas' Service %+v", s)
	}
}

func TestEndpoint(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "cache-0", UID: "u", Labels: map[string]string{corev1.LabelTopologyZone: "z"}}}
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}
	for family, want := range map[corev1.IPFamily]string{corev1.IPv4Protocol: "10.0.0.1", corev1.IPv6Protocol: "fd00::1"} {
		e, ok := Endpoint(pod, family)
		if !ok || !slices.Equal(e.Addresses, []string{want}) || e.TargetRef.UID != "u" || *e.Zone != "z" {
			t.Errorf("%s: %+v", family, e)
		}
	}
	pod.Status.PodIPs = pod.Status.PodIPs[:1]
	if _, ok := Endpoint(pod, corev1.IPv6Protocol); ok {
		t.Error("an address of the wrong family")
	}
}
