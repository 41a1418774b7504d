// Package kube is the tests' way to a cluster: typed objects, waits with a deadline, port-forwards and exec.
package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
)

// Cluster is one cluster as the user of a kubeconfig sees it.
type Cluster struct {
	client.WithWatch

	Config *rest.Config
	Core   kubernetes.Interface
}

// Connect uses $KUBECONFIG, or ~/.kube/config.
func Connect() (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w: set KUBECONFIG, for the test cluster to .cluster/kubeconfig", err)
	}
	// The tests poll; the default of 5 requests a second would make them wait for themselves.
	config.QPS, config.Burst = 100, 200
	// A forwarded connection that a pod refuses is an error of the one who connects; client-go would print it as well.
	klog.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	return &Cluster{WithWatch: c, Config: config, Core: core}, nil
}

// Until polls until check says done, and says what it last saw when the deadline is over. A check that returns an error
// is asked again: a request may well fail while faults are being made.
func Until(ctx context.Context, within time.Duration, what string, check func(context.Context) (done bool, seen string, err error)) error {
	return UntilEvery(ctx, within, 100*time.Millisecond, what, check)
}

// UntilEvery is Until with another interval.
func UntilEvery(ctx context.Context, within, every time.Duration, what string, check func(context.Context) (bool, string, error)) error {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last := "nothing"
	for {
		done, seen, err := check(ctx)
		switch {
		case done && err == nil:
			return nil
		case err != nil && strings.Contains(err.Error(), "context deadline"):
			// The end of the wait itself says nothing of the cause.
		case err != nil:
			last = err.Error()
		case seen != "":
			last = seen
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.Canceled) {
				return fmt.Errorf("waiting for %s: %w", what, context.Canceled)
			}
			return fmt.Errorf("waiting for %s: not within %s; last seen: %s", what, time.Since(begun).Round(100*time.Millisecond), last)
		case <-ticker.C:
		}
	}
}
