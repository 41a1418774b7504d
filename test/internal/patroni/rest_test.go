package patroni

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// answers are Patroni 3.0.2's, shortened.
const (
	clusterAnswer = `{"members": [
		{"name": "p-0", "role": "leader", "state": "running", "host": "10.0.0.1", "port": 5432, "timeline": 2},
		{"name": "p-1", "role": "replica", "state": "running", "host": "10.0.0.2", "port": 5432, "timeline": 2, "lag": 0},
		{"name": "p-2", "role": "sync_standby", "state": "running", "host": "10.0.0.3", "port": 5432, "timeline": 2, "lag": "unknown"}]}`
	serverAnswer = `{"state": "running", "role": "master", "server_version": 150020, "timeline": 2, "replication": [
		{"usename": "replicator", "application_name": "p-2", "state": "streaming", "sync_state": "sync"},
		{"usename": "replicator", "application_name": "p-1", "state": "streaming", "sync_state": "async"}]}`
)

func TestCalls(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		asked = req.Method + " " + req.URL.Path + " " + string(body)
		switch req.URL.Path {
		case "/cluster":
			_, _ = io.WriteString(w, clusterAnswer)
		case "/patroni":
			_, _ = io.WriteString(w, serverAnswer)
		case "/switchover":
			w.WriteHeader(http.StatusPreconditionFailed)
			_, _ = io.WriteString(w, "switchover is not possible: no good candidates have been found")
		}
	}))
	defer server.Close()
	call := func(ctx context.Context, method, path string, in, out any) error {
		return callAt(ctx, "p-0", method, server.URL+path, in, out)
	}
	var status clusterStatus
	if err := call(t.Context(), http.MethodGet, "/cluster", nil, &status); err != nil {
		t.Fatal(err)
	}
	if problem := status.problem(3, true); problem != "" || status.leader() != "p-0" {
		t.Errorf("leader %q, problem %q, want p-0 and none", status.leader(), problem)
	}
	var primary serverStatus
	if err := call(t.Context(), http.MethodGet, "/patroni", nil, &primary); err != nil {
		t.Fatal(err)
	}
	if problem := primary.problem(2); problem != "" {
		t.Errorf("problem %q, want none", problem)
	}
	err := call(t.Context(), http.MethodPost, "/switchover", map[string]string{"leader": "p-0"}, nil)
	if err == nil || !strings.Contains(err.Error(), "no good candidates") {
		t.Errorf("got %v, want what Patroni answered", err)
	}
	if want := `POST /switchover {"leader":"p-0"}`; asked != want {
		t.Errorf("asked %s, want %s", asked, want)
	}
}

func TestProblem(t *testing.T) {
	well := func() []memberStatus {
		return []memberStatus{{"a", "leader", "running", 2}, {"b", "replica", "streaming", 2}, {"c", "sync_standby", "running", 2}}
	}
	for _, c := range []struct {
		name   string
		change func([]memberStatus) []memberStatus
		want   string
	}{
		{"well", func(m []memberStatus) []memberStatus { return m }, ""},
		{"a member is away", func(m []memberStatus) []memberStatus { return m[:2] }, "2 members of 3"},
		{"nobody leads", func(m []memberStatus) []memberStatus { m[0].Role = "replica"; return m }, "0 members hold"},
		{"nobody is synchronous", func(m []memberStatus) []memberStatus { m[2].Role = "replica"; return m }, "0 members are synchronous"},
		{"a server starts", func(m []memberStatus) []memberStatus { m[1].State = "starting"; return m }, "b is starting"},
		{"one is on an old timeline", func(m []memberStatus) []memberStatus { m[1].Timeline = 1; return m }, "2 timelines"},
	} {
		got := clusterStatus{c.change(well())}.problem(3, true)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := (clusterStatus{[]memberStatus{{"a", "leader", "running", 1}, {"b", "replica", "running", 1}}}).problem(2, false); got != "" {
		t.Errorf("asynchronous: %q", got)
	}
}

func TestServerProblem(t *testing.T) {
	streams := []replication{{"b", "streaming"}, {"c", "streaming"}}
	for _, c := range []struct {
		name   string
		status serverStatus
		well   bool
	}{
		{"well", serverStatus{"master", streams}, true},
		{"a later version", serverStatus{"primary", streams}, true},
		{"one catches up", serverStatus{"master", []replication{{"b", "streaming"}, {"c", "catchup"}}}, false},
		{"none streams", serverStatus{"master", nil}, false},
		{"not yet promoted", serverStatus{"replica", streams}, false},
	} {
		if got := c.status.problem(2); (got == "") != c.well {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestRestarted(t *testing.T) {
	for _, c := range []struct {
		counts []int32
		want   bool
	}{{nil, false}, {[]int32{0}, false}, {[]int32{0, 1}, true}} {
		var pod corev1.Pod
		for _, n := range c.counts {
			pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{RestartCount: n})
		}
		if got := restarted(&pod); got != c.want {
			t.Errorf("restarts %v: %t, want %t", c.counts, got, c.want)
		}
	}
}
