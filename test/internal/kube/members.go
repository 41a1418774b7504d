package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

// askTime bounds one question to an agent, with the way to its pod.
const askTime = 3 * time.Second

// membersReady asks every member's agent. The service's status may be older than the last fault: the operator that wrote it
// may be on the very node that was cut off, and the next one is elected only when the lease of the first has run out.
func (s Service) membersReady(ctx context.Context, members []string, primary Primary) (string, error) {
	problems := make([]string, len(members))
	all, asking := errgroup.WithContext(ctx)
	for i, member := range members {
		all.Go(func() error {
			status, err := s.Ask(asking, member)
			problems[i] = notReady(member, status, primary)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return "", err
	}
	if i := slices.IndexFunc(problems, func(p string) bool { return p != "" }); i >= 0 {
		return problems[i], nil
	}
	return "", nil
}

func notReady(member string, s wire.Status, primary Primary) string {
	switch {
	case s.Epoch != failover.Epoch(primary.Epoch):
		return fmt.Sprintf("%s knows epoch %d, and the Lease says %d", member, s.Epoch, primary.Epoch)
	case member == primary.Member && !s.Serving:
		return fmt.Sprintf("%s holds epoch %d and is %s: %s", member, s.Epoch, s.State, s.Message)
	case member != primary.Member && s.State != string(v1alpha1.MemberFollowing):
		return fmt.Sprintf("%s is %s: %s %s", member, s.State, s.Explanation, s.Message)
	}
	return ""
}

// Ask is what a member's agent says of itself.
func (s Service) Ask(ctx context.Context, member string) (wire.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var status wire.Status
	address, stop, err := s.Forward(ctx, s.Namespace, member, names.MetricsPort)
	if err != nil {
		return status, err
	}
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/status", nil)
	if err != nil {
		return status, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err == nil {
		defer answer.Body.Close()
		err = json.NewDecoder(answer.Body).Decode(&status)
	}
	if err != nil {
		return status, fmt.Errorf("asking the agent of %s/%s for its status: %w", s.Namespace, member, err)
	}
	return status, nil
}
