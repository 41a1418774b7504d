package patroni

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// clusterStatus is what Patroni's GET /cluster tells.
type clusterStatus struct {
	Members []memberStatus `json:"members"`
}

type memberStatus struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	State    string `json:"state"`
	Timeline int    `json:"timeline"`
}

const (
	roleLeader = "leader"
	roleSync   = "sync_standby"
)

// leader is the member that holds the lock, or nobody.
func (c clusterStatus) leader() string {
	for _, m := range c.Members {
		if m.Role == roleLeader {
			return m.Name
		}
	}
	return ""
}

// problem says what is missing until the next fault may come; empty: nothing.
func (c clusterStatus) problem(want int, synchronous bool) string {
	roles, timelines := map[string]int{}, map[int]bool{}
	for _, m := range c.Members {
		roles[m.Role]++
		timelines[m.Timeline] = true
		// Later versions say that a replica streams.
		if m.State != "running" && m.State != "streaming" {
			return fmt.Sprintf("%s is %s", m.Name, m.State)
		}
	}
	switch {
	case len(c.Members) != want:
		return fmt.Sprintf("there are %d members of %d", len(c.Members), want)
	case roles[roleLeader] != 1:
		return fmt.Sprintf("%d members hold the lock", roles[roleLeader])
	case synchronous && roles[roleSync] != 1:
		return fmt.Sprintf("%d members are synchronous", roles[roleSync])
	case len(timelines) != 1:
		return fmt.Sprintf("the members are on %d timelines", len(timelines))
	}
	return ""
}

// serverStatus is what GET /patroni tells of the leader's own server.
type serverStatus struct {
	Role        string        `json:"role"`
	Replication []replication `json:"replication"`
}

type replication struct {
	Name  string `json:"application_name"`
	State string `json:"state"`
}

// problem says how the server falls short; empty: it is the primary and so many replicas stream from it.
func (s serverStatus) problem(replicas int) string {
	streaming := 0
	for _, r := range s.Replication {
		if r.State == "streaming" {
			streaming++
		}
	}
	switch {
	case s.Role != "master" && s.Role != "primary":
		return fmt.Sprintf("the server of whoever holds the lock is a %s", s.Role)
	case streaming < replicas:
		return fmt.Sprintf("%d of %d replicas stream", streaming, replicas)
	}
	return ""
}

// cluster asks one member how all are.
func (p Peer) cluster(ctx context.Context, pod string) (c clusterStatus, err error) {
	return c, p.call(ctx, pod, http.MethodGet, "/cluster", nil, &c)
}

func (p Peer) server(ctx context.Context, pod string) (s serverStatus, err error) {
	return s, p.call(ctx, pod, http.MethodGet, "/patroni", nil, &s)
}

// switchover asks the leader to hand over to the synchronous replica, and returns when it did.
func (p Peer) switchover(ctx context.Context, leader string) error {
	return p.call(ctx, leader, http.MethodPost, "/switchover", map[string]string{"leader": leader}, nil)
}

// call makes one request to a member's REST interface.
func (p Peer) call(ctx context.Context, pod, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	address, stop, err := p.Cluster.Forward(ctx, p.Namespace, pod, restPort)
	if err != nil {
		return err
	}
	defer stop()
	return callAt(ctx, pod, method, "http://"+address+path, in, out)
}

func callAt(ctx context.Context, pod, method, url string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("asking Patroni in %s: %w", pod, err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return fmt.Errorf("asking Patroni in %s: %w", pod, err)
	}
	// The next request goes through another forwarded port.
	req.Close = true
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking Patroni in %s for %s %s: %w", pod, method, req.URL.Path, err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("asking Patroni in %s for %s %s: %w", pod, method, req.URL.Path, err)
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("asking Patroni in %s for %s %s: %s: %s", pod, method, req.URL.Path, answer.Status, strings.TrimSpace(string(raw)))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("reading what Patroni in %s answered to %s %s: %w", pod, method, req.URL.Path, err)
	}
	return nil
}
