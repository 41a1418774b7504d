package controllers

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

func (s *stage) stalled(name, reason string, words ...string) {
	s.Helper()
	s.condition(name, v1alpha1.ConditionStalled, metav1.ConditionTrue, reason, words...)
	s.condition(name, v1alpha1.ConditionReady, metav1.ConditionFalse, reason)
}

func (s *stage) healthy(name string) {
	s.Helper()
	s.condition(name, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHealthy)
}

func (s *stage) stillAvailable(name string) {
	s.Helper()
	s.condition(name, v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPrimaryServing)
}

// TestUnknownPolicy: a new service waits for it, a running one keeps its terms.
func TestUnknownPolicy(t *testing.T) {
	s := newStage(t)
	svc := redis("cache")
	svc.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: "absent"}
	s.create(svc)
	s.stalled("cache", v1alpha1.ReasonPolicyNotFound, "spec.failoverPolicyRef.name", `"absent"`, "create it")
	if err := api.Get(s.ctx, s.key("cache-primary"), &coordinationv1.Lease{}); err == nil {
		t.Error("a Lease was made under terms nobody chose")
	}
	s.create(&v1alpha1.FailoverPolicy{ObjectMeta: metav1.ObjectMeta{Name: "absent"}, Spec: v1alpha1.FailoverPolicySpec{Mode: v1alpha1.ModeManual}})
	s.exists("cache-primary", &coordinationv1.Lease{})
	s.serve("cache")
	s.healthy("cache")
	s.change("cache", svc, func() { svc.Spec.FailoverPolicyRef.Name = "gone" })
	s.stalled("cache", v1alpha1.ReasonPolicyNotFound, `"gone"`)
	s.stillAvailable("cache")
	if r := s.register("cache"); r.Terms.Mode != failover.ModeManual {
		t.Errorf("the running terms were changed to mode %s", r.Terms.Mode)
	}
}

// TestPolicyFields: a policy that asks for what cannot be done yet says so.
func TestPolicyFields(t *testing.T) {
	s := newStage(t)
	s.create(&v1alpha1.FailoverPolicy{ObjectMeta: metav1.ObjectMeta{Name: "early"}, Spec: v1alpha1.FailoverPolicySpec{Rejoin: v1alpha1.RejoinSpec{Strategy: v1alpha1.RejoinRebuild}}})
	svc := redis("cache")
	svc.Spec.FailoverPolicyRef = &v1alpha1.LocalReference{Name: "early"}
	s.create(svc)
	s.stalled("cache", v1alpha1.ReasonFieldNotSupported, "FailoverPolicy early", "spec.rejoin.strategy Rebuild", "set it to Automatic")
}

// TestImageNotFound: the condition names the field; the agent's own image is the operator's business.
func TestImageNotFound(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	pod := s.pod("cache", 1, func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: names.EngineContainer, State: waiting("ImagePullBackOff")}}
	})
	s.stalled("cache", v1alpha1.ReasonImageNotFound, "spec.template.image", "redis:8", "cache-1", "ImagePullBackOff")
	s.change(pod.Name, pod, func() {})
	pod.Status.ContainerStatuses = nil
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: names.InstallContainer, State: waiting("ErrImageNeverPull")}}
	if err := api.Status().Update(s.ctx, pod); err != nil {
		t.Fatal(err)
	}
	s.stalled("cache", v1alpha1.ReasonImageNotFound, "--agent-image")
}

// TestStuckPodReplaced: a corrected image reaches a pod whose engine never ran, whoever else is away, and only that one.
func TestStuckPodReplaced(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	tr := s.rehearse("cache", quiet)
	stuck := tr.pods["cache-2"]
	s.silent(stuck)
	s.retry(func() error {
		if err := api.Get(s.ctx, s.key("cache-2"), stuck); err != nil {
			return err
		}
		stuck.Status.Conditions = nil
		stuck.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: names.EngineContainer, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}},
		}}
		return api.Status().Update(s.ctx, stuck)
	})
	s.silent(tr.pods["cache-1"])
	s.stalled("cache", v1alpha1.ReasonImageNotFound, "cache-2")
	tr.image("2", "redis:9")
	s.eventually(func() string {
		if err := api.Get(s.ctx, s.key("cache-2"), stuck); err == nil && stuck.DeletionTimestamp == nil {
			return "the stuck pod is still there"
		}
		return ""
	})
	s.eventually(settled)
	for _, name := range []string{"cache-0", "cache-1"} {
		pod := &corev1.Pod{}
		if s.get(name, pod); pod.DeletionTimestamp != nil {
			t.Errorf("%s was deleted while cache-2 is away", name)
		}
	}
}

// TestSuperuserSecret: it is looked at like the owner's, and comes beside it.
func TestSuperuserSecret(t *testing.T) {
	s := newStage(t)
	svc := persistent(s)
	svc.Spec.Engine.PostgreSQL.SuperuserPasswordSecretRef = &v1alpha1.SecretKeyReference{Name: "root"}
	s.create(svc)
	s.stalled("db", v1alpha1.ReasonSecretNotFound, "spec.engine.postgresql.superuserPasswordSecretRef.name", `"root"`)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "root"}, Data: map[string][]byte{"password": []byte("pässword")}}
	s.create(secret)
	s.stalled("db", v1alpha1.ReasonSecretKeyMissing, "spec.engine.postgresql.superuserPasswordSecretRef.key", "printable ASCII")
	s.change("root", secret, func() { secret.Data["password"] = []byte("a secret\n") })
	s.condition("db", v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNotStalled)
	set := &appsv1.StatefulSet{}
	s.exists("db", set)
	for _, v := range set.Spec.Template.Spec.Volumes {
		if v.Name != "secret" {
			continue
		}
		var files []string
		for _, source := range v.Projected.Sources {
			files = append(files, source.Secret.Name+"/"+source.Secret.Items[0].Key+" "+source.Secret.Items[0].Path)
		}
		if fmt.Sprint(files) != "[db-auth/password password root/password superuser-password]" {
			t.Errorf("passwords %q", files)
		}
	}
}

// TestSecrets: missing, without the key, empty, and then right.
func TestSecrets(t *testing.T) {
	s := newStage(t)
	svc := redis("cache")
	svc.Spec.Engine.Redis.PasswordSecretRef = &v1alpha1.SecretKeyReference{Name: "mine", Key: "word"}
	s.create(svc)
	s.stalled("cache", v1alpha1.ReasonSecretNotFound, "spec.engine.redis.passwordSecretRef.name", `"mine"`, "create it")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Data: map[string][]byte{"other": []byte("x")}}
	s.create(secret)
	s.stalled("cache", v1alpha1.ReasonSecretKeyMissing, "spec.engine.redis.passwordSecretRef.key", `"word"`)
	s.change("mine", secret, func() { secret.Data["word"] = []byte{} })
	s.stalled("cache", v1alpha1.ReasonSecretKeyMissing, "is empty")
	s.change("mine", secret, func() { secret.Data["word"] = []byte("secret") })
	s.condition("cache", v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNotStalled)
	s.serve("cache")
	s.healthy("cache")
	if err := api.Delete(s.ctx, secret); err != nil {
		t.Fatal(err)
	}
	s.stalled("cache", v1alpha1.ReasonSecretNotFound)
	s.stillAvailable("cache")
	set := &appsv1.StatefulSet{}
	s.get("cache", set)
	for _, v := range set.Spec.Template.Spec.Volumes {
		if v.Name != "secret" {
			continue
		}
		if from := v.Projected.Sources[0].Secret; from.Name != "mine" || from.Items[0].Key != "word" || from.Items[0].Path != names.PasswordKey {
			t.Errorf("the password comes from %+v", v.Secret)
		}
	}
}

// TestHostNetwork: a pod that a webhook changed is named.
func TestHostNetwork(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	s.pod("cache", 2, func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	s.stalled("cache", v1alpha1.ReasonPodRefused, "cache-2", "hostNetwork", "webhook")
}

// TestNameTaken: an object of somebody else is named and left alone.
func TestNameTaken(t *testing.T) {
	s := newStage(t)
	theirs := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "cache-agent", Annotations: map[string]string{"a": "b"}}}
	s.create(theirs)
	s.create(redis("cache"))
	s.stalled("cache", v1alpha1.ReasonNameTaken, "ServiceAccount cache-agent", "metadata.name")
	s.get("cache-agent", theirs)
	if theirs.Annotations["a"] != "b" || len(theirs.Annotations) != 1 || len(theirs.OwnerReferences) != 0 {
		t.Errorf("somebody else's object was changed: %+v", theirs)
	}
	if err := api.Get(s.ctx, s.key("cache"), &appsv1.StatefulSet{}); err == nil {
		t.Error("pods were made that cannot start")
	}
}

// TestEngines: what this version cannot run, when it is new and when something runs already.
func TestEngines(t *testing.T) {
	s := newStage(t)
	custom, command := redis("mine"), []string{"true"}
	custom.Spec.Engine = v1alpha1.EngineSpec{Custom: &v1alpha1.CustomSpec{Port: 7000, Command: command, Hooks: v1alpha1.CustomHooks{
		Position: command, Promote: command, Follow: command, Health: command,
	}}}
	s.create(custom)
	s.stalled("mine", v1alpha1.ReasonEngineNotSupported, "spec.engine.custom", "use spec.engine.redis")
	if err := api.Get(s.ctx, s.key("mine"), &appsv1.StatefulSet{}); err == nil {
		t.Error("a StatefulSet was made for it")
	}
	svc := redis("cache")
	svc.Spec.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi")}
	s.create(svc)
	s.serve("cache")
	s.healthy("cache")
	s.change("cache", svc, func() {
		svc.Spec.Engine = v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{}}
	})
	s.stalled("cache", v1alpha1.ReasonEngineNotSupported)
	s.stillAvailable("cache")
	s.change("cache", svc, func() {
		svc.Spec.Engine = v1alpha1.EngineSpec{Redis: &v1alpha1.RedisSpec{}}
		svc.Spec.Replication = &v1alpha1.ReplicationSpec{Mode: v1alpha1.Synchronous, Synchronous: &v1alpha1.SynchronousSpec{Quorum: 1}}
	})
	s.eventually(func() string {
		if terms, told := cast.Terms("cache-0"); !told || terms.Quorum != 1 || terms.OnTooFew != failover.StopWriting {
			return fmt.Sprintf("the primary was told (%t) of quorum %d, %q; want 1, Stop", told, terms.Quorum, terms.OnTooFew)
		}
		return ""
	})
	s.stillAvailable("cache")
}

// TestFixedFields: what cannot be changed while it runs stays as it is, and everything else is still carried out.
func TestFixedFields(t *testing.T) {
	s := newStage(t)
	svc := redis("cache")
	s.create(svc)
	s.serve("cache")
	s.healthy("cache")
	s.change("cache", svc, func() {
		svc.Spec.Engine.Redis.Port = 7000
		svc.Spec.Template.NodeSelector = map[string]string{"disk": "fast"}
	})
	s.stalled("cache", v1alpha1.ReasonFieldNotSupported, "spec.engine.redis.port", "6379")
	s.stillAvailable("cache")
	s.eventually(func() string {
		set := &appsv1.StatefulSet{}
		s.get("cache", set)
		if *set.Spec.Replicas != 3 || set.Spec.Template.Spec.NodeSelector["disk"] != "fast" {
			return "the StatefulSet has not the new template or not the old size"
		}
		return ""
	})
	s.change("cache", svc, func() { svc.Spec.Engine.Redis.Port = 6379 })
	s.condition("cache", v1alpha1.ConditionStalled, metav1.ConditionFalse, v1alpha1.ReasonNotStalled)
}

// TestDataFound: data of nobody knows whom is not given to anybody.
func TestDataFound(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	for i := range 3 {
		pod := s.pod("cache", i)
		s.says(pod, func(st *wire.Status) { st.HasData = i == 1 })
	}
	s.stalled("cache", v1alpha1.ReasonDataFound, "cache-1", "metadata.name")
	if r := s.register("cache"); r.Epoch != 0 {
		t.Errorf("epoch %d was granted", r.Epoch)
	}
}

// TestLeaseLost: a Lease that is gone is not made anew from a guess, and what serves goes on.
func TestLeaseLost(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	s.serve("cache")
	s.healthy("cache")
	obj := &coordinationv1.Lease{}
	s.change("cache-primary", obj, func() { obj.Finalizers = nil })
	if err := api.Delete(s.ctx, obj); err != nil {
		t.Fatal(err)
	}
	s.stalled("cache", v1alpha1.ReasonLeaseLost, "Lease cache-primary", "epoch 1")
	if err := api.Get(s.ctx, s.key("cache-primary"), obj); err == nil {
		t.Error("the Lease was made anew")
	}
}

// TestLeaseIsGuarded: the Lease outlives an accident.
func TestLeaseIsGuarded(t *testing.T) {
	s := newStage(t)
	s.create(redis("cache"))
	obj := &coordinationv1.Lease{}
	s.exists("cache-primary", obj)
	if err := api.Delete(s.ctx, obj); err != nil {
		t.Fatal(err)
	}
	s.get("cache-primary", obj)
	if len(obj.Finalizers) != 1 || obj.Finalizers[0] != keys.Finalizer {
		t.Errorf("finalizers %v", obj.Finalizers)
	}
}
