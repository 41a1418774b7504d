// Package controllers lists the controllers of Understudy.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/api/v1alpha1/keys"
	"understudy.dev/understudy/controllers/failover"
	"understudy.dev/understudy/controllers/replicatedservice"
	"understudy.dev/understudy/internal/members"
)

// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;list;watch;create;update;patch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch

// leaderElectionID names the Lease of the operator's own leader election.
const leaderElectionID = "understudy-operator.ha.understudy.dev"

// Config is what the operator's flags say.
type Config struct {
	AgentImage        string
	MetricsAddress    string
	HealthAddress     string
	LeaderElection    bool
	ElectionNamespace string
	// MaxConcurrentFailovers of all services of the cluster; 0: no such limit.
	MaxConcurrentFailovers int
	SkipNameValidation     bool // tests run several operators in one process
}

// Scheme knows every kind the operator handles.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	var all error
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, discoveryv1.AddToScheme, policyv1.AddToScheme,
		rbacv1.AddToScheme, coordinationv1.AddToScheme, eventsv1.AddToScheme, storagev1.AddToScheme, schedulingv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		all = errors.Join(all, add(scheme))
	}
	return scheme, all
}

// NewManager makes the manager with a cache that holds what carries our label, and of other objects little.
func NewManager(cfg *rest.Config, c Config) (ctrl.Manager, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	ours, err := labels.NewRequirement(keys.LabelService, selection.Exists, nil)
	if err != nil {
		return nil, err
	}
	return ctrl.NewManager(cfg, ctrl.Options{
		Scheme:                        scheme,
		Cache:                         cacheOptions(labels.NewSelector().Add(*ours)),
		LeaderElection:                c.LeaderElection,
		LeaderElectionID:              leaderElectionID,
		LeaderElectionNamespace:       c.ElectionNamespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: c.MetricsAddress},
		HealthProbeBindAddress:        c.HealthAddress,
		Controller: config.Controller{
			EnableWarmup:          ptr.To(true),
			ReconciliationTimeout: time.Minute,
			SkipNameValidation:    &c.SkipNameValidation,
		},
	})
}

func cacheOptions(ours labels.Selector) cache.Options {
	byObject := map[client.Object]cache.ByObject{}
	for _, obj := range []client.Object{
		&appsv1.StatefulSet{}, &corev1.Service{}, &corev1.ServiceAccount{}, &corev1.ConfigMap{}, &corev1.Pod{},
		&discoveryv1.EndpointSlice{}, &rbacv1.Role{}, &rbacv1.RoleBinding{},
		&coordinationv1.Lease{}, &corev1.PersistentVolumeClaim{}, &corev1.PersistentVolume{},
	} {
		byObject[obj] = cache.ByObject{Label: ours}
	}
	// Of Secrets only the metadata is watched, and of that only what tells one version from the next.
	byObject[&corev1.Secret{}] = cache.ByObject{Transform: bare}
	// Nodes and budgets are everybody's.
	byObject[&corev1.Node{}] = cache.ByObject{Transform: replicatedservice.BareNode}
	byObject[&policyv1.PodDisruptionBudget{}] = cache.ByObject{Transform: replicatedservice.BareBudget}
	return cache.Options{ByObject: byObject, DefaultTransform: cache.TransformStripManagedFields()}
}

// bare drops labels and annotations too: a cluster may have thousands of Secrets, and some carry whole manifests there.
func bare(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
		m.SetLabels(nil)
		m.SetAnnotations(nil)
		m.SetOwnerReferences(nil)
	}
	return obj, nil
}

// Setup adds every controller, with the given connections to members, to the manager.
func Setup(mgr ctrl.Manager, c Config, m members.Members) error {
	err := (&replicatedservice.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Members: m,
		Recorder: mgr.GetEventRecorder("understudy-operator"), AgentImage: c.AgentImage, Now: time.Now,
		ClusterTurns: replicatedservice.ClusterTurns{Most: c.MaxConcurrentFailovers, Namespace: c.ElectionNamespace},
	}).SetupWithManager(mgr)
	if err != nil {
		return fmt.Errorf("setting up the controller of ReplicatedService: %w", err)
	}
	err = (&failover.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Members: m,
		Recorder: mgr.GetEventRecorder("understudy-operator"), Now: time.Now,
	}).SetupWithManager(mgr)
	if err != nil {
		return fmt.Errorf("setting up the controller of Failover: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	return mgr.AddReadyzCheck("ping", healthz.Ping)
}

// Run builds the operator and runs it until ctx ends.
func Run(ctx context.Context, cfg *rest.Config, c Config) error {
	mgr, err := NewManager(cfg, c)
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	m := members.NewManager(ctrl.Log.WithName("members"))
	if err := mgr.Add(m); err != nil {
		return err
	}
	if err := Setup(mgr, c, m); err != nil {
		return err
	}
	return mgr.Start(ctx)
}
