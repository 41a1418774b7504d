package cluster

import (
	"context"
	"fmt"
	"time"

	"understudy.dev/understudy/hack/cluster/kube"
	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/pki"
)

type node struct {
	Status struct {
		Conditions []struct {
			Type, Status, Reason, Message string
			LastHeartbeatTime             time.Time
		}
	}
}

// ready says whether the node was ready in a report since an instant. The API server goes on calling a node ready for
// most of a minute after it died.
func (n node) ready(since time.Time) (bool, string) {
	for _, condition := range n.Status.Conditions {
		if condition.Type != "Ready" {
			continue
		}
		// Reports have whole seconds.
		if condition.LastHeartbeatTime.Before(since.Truncate(time.Second)) {
			return false, "it has not reported since it was switched on"
		}
		return condition.Status == "True", condition.Reason + ": " + condition.Message
	}
	return false, "it has not reported yet"
}

func waitForNode(ctx context.Context, client *kube.Client, name string, since time.Time) error {
	for {
		why := ""
		var found node
		if err := client.Do(ctx, "GET", "/api/v1/nodes/"+name, "", nil, &found); err != nil {
			why = err.Error()
		} else {
			var ready bool
			if ready, why = found.ready(since); ready {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to be ready: %w: %s", name, ctx.Err(), why)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// WaitReady waits until the API server calls a node ready, from a report since an instant.
func WaitReady(ctx context.Context, folder layout.Folder, node layout.Machine, since time.Time) error {
	client, err := kube.New(folder, pki.ClusterCA, pki.Admin)
	if err != nil {
		return err
	}
	return waitForNode(ctx, client, node.Name, since)
}
