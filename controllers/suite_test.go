package controllers

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2/textlogger"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/members"
)

const (
	agentImage = "example.test/understudy:test"
	within     = 20 * time.Second
)

// The whole package shares one API server and one operator whose members are a fake; each test has its own namespace.
var (
	cfg  *rest.Config
	api  client.Client
	cast = &members.Fake{}
)

func TestMain(m *testing.M) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		os.Exit(m.Run()) // needAPI skips each test with a message
	}
	code, err := withOperator(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

func needAPI(t *testing.T) {
	t.Helper()
	if api == nil {
		t.Skip("KUBEBUILDER_ASSETS is not set: `make test-unit` sets it to a folder with etcd and kube-apiserver")
	}
}

func withOperator(run func() int) (int, error) {
	verbosity := textlogger.NewConfig(textlogger.Verbosity(1), textlogger.Output(logFile()))
	ctrl.SetLogger(textlogger.NewLogger(verbosity))
	env := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join("..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
	}
	var err error
	if cfg, err = env.Start(); err != nil {
		return 1, fmt.Errorf("starting etcd and kube-apiserver: %w", err)
	}
	defer func() { _ = env.Stop() }()
	scheme, err := Scheme()
	if err != nil {
		return 1, err
	}
	if api, err = client.New(cfg, client.Options{Scheme: scheme}); err != nil {
		return 1, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	c := Config{AgentImage: agentImage, MetricsAddress: "0", HealthAddress: "0"}
	counted := rest.CopyConfig(cfg)
	counted.Wrap(count)
	mgr, err := NewManager(counted, c)
	if err != nil {
		cancel()
		return 1, err
	}
	if err := Setup(mgr, c, cast); err != nil {
		cancel()
		return 1, err
	}
	go func() { done <- mgr.Start(ctx) }()
	code := run()
	cancel()
	return code, <-done
}

// requests counts what the operator asks of the API server, watches aside.
var (
	requests    atomic.Int64
	lastRequest atomic.Value
	// aboutIn counts those that name a namespace.
	aboutIn sync.Map
)

type counter struct {
	http.RoundTripper
}

func count(next http.RoundTripper) http.RoundTripper { return counter{next} }

func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Query().Get("watch") == "" {
		requests.Add(1)
		if _, in, found := strings.Cut(r.URL.Path, "/namespaces/"); found {
			namespace, _, _ := strings.Cut(in, "/")
			count, _ := aboutIn.LoadOrStore(namespace, &atomic.Int64{})
			count.(*atomic.Int64).Add(1)
		}
		lastRequest.Store(r.Method + " " + r.URL.Path)
	}
	return c.RoundTripper.RoundTrip(r)
}

// requested is how many requests were made about the namespace of a test: services that other tests left are looked at too.
func (s *stage) requested() int64 {
	count, found := aboutIn.Load(s.namespace)
	if !found {
		return 0
	}
	return count.(*atomic.Int64).Load()
}

// forced deletes at once, as no kubelet is there to end a pod.
type forced struct{}

func (forced) ApplyToDelete(o *client.DeleteOptions) { o.GracePeriodSeconds = ptr.To[int64](0) }

func logFile() *os.File {
	if path := os.Getenv("OPERATOR_LOG"); path != "" {
		if f, err := os.Create(path); err == nil {
			return f
		}
	}
	f, _ := os.Open(os.DevNull)
	return f
}

// stage is one test's namespace.
type stage struct {
	*testing.T
	ctx       context.Context
	namespace string
}

func newStage(t *testing.T) *stage {
	needAPI(t)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}
	if err := api.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // what one test left half renewed counts in the budget of the others
		err := api.DeleteAllOf(context.WithoutCancel(t.Context()), &v1alpha1.ReplicatedService{}, client.InNamespace(ns.Name))
		if err != nil {
			t.Errorf("deleting the services of namespace %s: %v", ns.Name, err)
		}
	})
	return &stage{T: t, ctx: t.Context(), namespace: ns.Name}
}

func (s *stage) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: s.namespace, Name: name}
}

func (s *stage) create(objects ...client.Object) {
	s.Helper()
	for _, obj := range objects {
		obj.SetNamespace(s.namespace)
		if err := api.Create(s.ctx, obj); err != nil {
			s.Fatal(err)
		}
	}
}

func (s *stage) get(name string, into client.Object) {
	s.Helper()
	if err := api.Get(s.ctx, s.key(name), into); err != nil {
		s.Fatal(err)
	}
}

// eventually polls until check returns "" and fails with what it said last.
func (s *stage) eventually(check func() string) {
	s.Helper()
	deadline := time.Now().Add(within)
	last := ""
	for time.Now().Before(deadline) {
		if last = check(); last == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.Fatalf("not within %s: %s", within, last)
}

// exists waits for an object.
func (s *stage) exists(name string, into client.Object) {
	s.Helper()
	s.eventually(func() string {
		if err := api.Get(s.ctx, s.key(name), into); err != nil {
			return err.Error()
		}
		return ""
	})
}

// condition waits until a condition of a service has a status and reason, and its message every one of words.
func (s *stage) condition(name, kind string, status metav1.ConditionStatus, reason string, words ...string) {
	s.Helper()
	s.eventually(func() string {
		svc := &v1alpha1.ReplicatedService{}
		if err := api.Get(s.ctx, s.key(name), svc); err != nil {
			return err.Error()
		}
		return differs(svc.Status.Conditions, kind, status, reason, words)
	})
}

func differs(conditions []metav1.Condition, kind string, status metav1.ConditionStatus, reason string, words []string) string {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.Status != status || c.Reason != reason {
		return fmt.Sprintf("want %s=%s (%s), have %+v", kind, status, reason, conditions)
	}
	for _, w := range words {
		if !strings.Contains(c.Message, w) {
			return fmt.Sprintf("message of %s lacks %q: %s", kind, w, c.Message)
		}
	}
	return ""
}

func redis(name string) *v1alpha1.ReplicatedService {
	return &v1alpha1.ReplicatedService{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.ReplicatedServiceSpec{
			Replicas: ptr.To[int32](3),
			Engine:   v1alpha1.EngineSpec{Redis: &v1alpha1.RedisSpec{}},
			Template: v1alpha1.MemberTemplate{Image: "redis:8"},
		},
	}
}
