//go:build e2e

package e2e

import (
	"context"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"understudy.dev/understudy/test/internal/kube"
)

// guardRoute watches the primary's EndpointSlice and fails the test when it ever names two, or an older epoch (I5, I2).
// The returned function ends the watch and says how many changes it saw.
func guardRoute(t *testing.T, s kube.Service) func() int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w, err := s.WatchRoute(ctx)
	must(t, err)
	done := make(chan int)
	go func() {
		seen, highest := 0, int64(0)
		for event := range w.ResultChan() {
			slice, ok := event.Object.(*discoveryv1.EndpointSlice)
			if !ok {
				continue
			}
			seen++
			epoch, _ := kube.Route(slice)
			var all []string
			for _, e := range slice.Endpoints {
				all = append(all, e.Addresses...)
			}
			if len(all) > 1 {
				t.Errorf("the EndpointSlice named two primaries in epoch %d: %v", epoch, all)
			}
			if epoch < highest {
				t.Errorf("the EndpointSlice went back from epoch %d to %d", highest, epoch)
			}
			highest = max(highest, epoch)
		}
		done <- seen
	}()
	return func() int {
		w.Stop()
		cancel()
		return <-done
	}
}
