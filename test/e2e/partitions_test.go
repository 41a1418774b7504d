//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/rounds"
)

// nodeIsolated: the primary's node loses its link while all on it runs on. The old primary has stopped before the new one
// starts, by both agents' logs on this machine's one clock, and rejoins as a replica.
func nodeIsolated(t *testing.T, f fixture) {
	needHost(t)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	old, err := f.Service.Primary(t.Context())
	must(t, err)
	mend := cleanup(t, "letting node "+old.Node+" rejoin", func(ctx context.Context) error { return injector.Rejoin(ctx, old.Node) })
	f.fault(t, faults.NodeIsolate)
	mend()
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	f.oneAfterTheOther(t, old.Member)
	f.marked(t)
}

// agentHung: the agent is stopped while its engine runs on and clients hold connections. Its guard kills the engine in time; the
// agent goes on ten seconds later and finds itself replaced.
func agentHung(t *testing.T, f fixture) {
	needHost(t)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	old, err := f.Service.Primary(t.Context())
	must(t, err)
	begun := time.Now()
	resume := cleanup(t, "letting the agent of "+old.Member+" go on", func(ctx context.Context) error { return injector.ResumeAgent(ctx, f.namespace, old.Member) })
	f.fault(t, faults.AgentHang)
	pause(t, 10*time.Second-time.Since(begun)) // as long as the agent is to be stopped
	resume()
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	f.marked(t)
}

// engineHung: the engine answers nobody though its process lives.
func engineHung(t *testing.T, f fixture) {
	needHost(t)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	f.fault(t, faults.EngineHang)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	f.marked(t)
}

// cutFromAPI: a primary that only lost its way to the API server serves on: its majority is of members.
func cutFromAPI(t *testing.T, f fixture) {
	needHost(t)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	old, err := f.Service.Primary(t.Context())
	must(t, err)
	c, _, err := f.Clients.NotOn(t.Context(), old.Node)
	must(t, err)
	defer c.Close()
	config, err := f.LoadConfig(t.Context())
	must(t, err)
	mend := cleanup(t, "mending the way of "+old.Node+" to the API server", func(ctx context.Context) error { return injector.Firewall(ctx, old.Node) })
	const cut = 8 * time.Second // five leases
	result, err := rounds.Measure(t.Context(), c, fmt.Sprintf("e2e-cut-api-%d", time.Now().UnixNano()), rounds.Target{
		Config: config, Within: time.Minute,
		Inject: func(ctx context.Context) error { return injector.Firewall(ctx, old.Node, "api") },
		Over: func(ctx context.Context) error {
			pause(t, cut)
			return nil
		},
	})
	mend()
	must(t, err)
	now, err := f.Service.Primary(t.Context())
	must(t, err)
	if now.Epoch != old.Epoch || now.Member != old.Member {
		t.Errorf("%s in epoch %d became %s in epoch %d: nobody should have taken over", old.Member, old.Epoch, now.Member, now.Epoch)
	}
	if longest := time.Duration(result.Longest().Microseconds) * time.Microsecond; longest > time.Second || result.Verification.Lost > 0 {
		t.Errorf("writes paused for %s and %d were lost while only the way to the API server was cut", longest, result.Verification.Lost)
	}
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
}

// policyEdited: while the primary is cut off, its policy is given a much longer lease. The others wait for what they had
// acknowledged, not for what the policy says now, and the new primary puts the new terms into force.
func policyEdited(t *testing.T, f fixture, policy *v1alpha1.FailoverPolicy) {
	needHost(t)
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	old, err := f.Service.Primary(t.Context())
	must(t, err)
	edit := func(millis int32) {
		must(t, cluster.Get(t.Context(), client.ObjectKeyFromObject(policy), policy))
		patch := client.MergeFrom(policy.DeepCopy())
		policy.Spec.Detection.LeaseDurationMilliseconds = millis
		must(t, cluster.Patch(t.Context(), policy, patch))
	}
	before := policy.Spec.Detection.LeaseDurationMilliseconds
	mend := cleanup(t, "letting node "+old.Node+" rejoin", func(ctx context.Context) error { return injector.Rejoin(ctx, old.Node) })
	must(t, injector.Isolate(t.Context(), old.Node))
	const edited = 60_000
	edit(edited)
	now := f.takenOver(t, old, 15*time.Second)
	mend()
	must(t, f.WaitHealthy(t.Context(), 3*time.Minute))
	f.oneAfterTheOther(t, old.Member)
	must(t, f.Service.WaitLeaseMillis(t.Context(), edited))
	edit(before)
	must(t, f.Service.WaitLeaseMillis(t.Context(), int64(before)))
	if after, err := f.Service.Primary(t.Context()); err != nil || after.Epoch != now.Epoch {
		t.Errorf("an edit of the policy made %s in epoch %d the primary: %v", after.Member, after.Epoch, err)
	}
	f.marked(t)
}

// pause is how long a fault lasts; nothing is waited for by it.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(max(d, 0)):
	case <-t.Context().Done():
	}
}

// cleanup undoes a fault once, at the latest when the test ends.
func cleanup(t *testing.T, what string, undo func(ctx context.Context) error) func() {
	t.Helper()
	done := false
	once := func() {
		if done {
			return
		}
		done = true
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := undo(ctx); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	t.Cleanup(once)
	return once
}

// oneAfterTheOther reads from the agents' logs when the old primary had killed its engine and when the new one began to serve.
func (f fixture) oneAfterTheOther(t *testing.T, old string) {
	t.Helper()
	now, err := f.Service.Primary(t.Context())
	must(t, err)
	fenced := f.logged(t, old, "Fenced", func(l logLine) bool { return true })
	serves := f.logged(t, now.Member, "Serves as primary", func(l logLine) bool { return l.Epoch == now.Epoch })
	if fenced.IsZero() || serves.IsZero() || !fenced.Before(serves) {
		t.Errorf("%s had fenced itself at %s, %s served epoch %d from %s", old, fenced, now.Member, now.Epoch, serves)
	}
	t.Logf("%s had fenced itself %s before %s served", old, serves.Sub(fenced).Round(time.Millisecond), now.Member)
}

type logLine struct {
	Time  time.Time `json:"time"`
	Msg   string    `json:"msg"`
	Epoch int64     `json:"epoch"`
}

// logged is when a member's agent last said something.
func (f fixture) logged(t *testing.T, pod, msg string, ok func(logLine) bool) time.Time {
	t.Helper()
	out, err := kubectl(t, "", "logs", pod, "-n", f.namespace, "-c", "engine")
	if err != nil {
		t.Fatalf("reading the log of %s: %v\n%s", pod, err, out)
	}
	var at time.Time
	for line := range strings.SplitSeq(out, "\n") {
		var l logLine
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == msg && ok(l) {
			at = l.Time
		}
	}
	return at
}
