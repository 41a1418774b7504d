package kube

import (
	"context"
	"fmt"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/internal/names"
)

// WatchRoute watches the primary's EndpointSlice: a watch costs the machine that is being measured nothing until there is
// news, which polling does.
func (s Service) WatchRoute(ctx context.Context) (watch.Interface, error) {
	name := names.PrimarySlice(s.Name, "ipv4")
	w, err := s.Watch(ctx, &discoveryv1.EndpointSliceList{}, client.InNamespace(s.Namespace), client.MatchingFields{"metadata.name": name})
	if err != nil {
		return nil, fmt.Errorf("watching EndpointSlice %s/%s: %w", s.Namespace, name, err)
	}
	return w, nil
}

// WaitRouted waits until the watched slice leads to a primary of a later epoch.
func (s Service) WaitRouted(ctx context.Context, w watch.Interface, after int64, within time.Duration) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	last := "no change"
	for {
		select {
		case event, ok := <-w.ResultChan():
			if !ok { // the API server ends watches as it likes
				return s.pollRouted(ctx, after, within)
			}
			slice, ok := event.Object.(*discoveryv1.EndpointSlice)
			if !ok {
				continue
			}
			epoch, addresses := Route(slice)
			if epoch > after && len(addresses) > 0 {
				return nil
			}
			last = fmt.Sprintf("epoch %d with addresses %v", epoch, addresses)
		case <-timer.C:
			return fmt.Errorf("waiting for service %s/%s to lead to a primary after epoch %d: not within %s; its EndpointSlice last "+
				"seen: %s: see kubectl describe rsvc/%s", s.Namespace, s.Name, after, within, last, s.Name)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s Service) pollRouted(ctx context.Context, after int64, within time.Duration) error {
	what := fmt.Sprintf("service %s/%s to lead to a primary after epoch %d", s.Namespace, s.Name, after)
	return Until(ctx, within, what, func(ctx context.Context) (bool, string, error) {
		slice, err := s.Slice(ctx)
		if err != nil {
			return false, "", err
		}
		epoch, addresses := Route(slice)
		return epoch > after && len(addresses) > 0, fmt.Sprintf("epoch %d with addresses %v", epoch, addresses), nil
	})
}
