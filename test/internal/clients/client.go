package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"understudy.dev/understudy/test/internal/load"
)

// Client is one load client, reached through a port-forward.
type Client struct {
	Pod, Node string
	// Close ends the port-forward.
	Close func()

	address string
}

// NotOn connects to a client that is on none of these nodes. On a cluster of one node there is none: the only client
// is taken and apart is false.
func (s Set) NotOn(ctx context.Context, nodes ...string) (c *Client, apart bool, err error) {
	pods, seen, err := s.ready(ctx)
	if err != nil {
		return nil, false, err
	}
	if len(pods) == 0 {
		return nil, false, fmt.Errorf("looking for a load client: none runs (%s)", seen)
	}
	chosen := pods[0]
	for _, pod := range pods {
		if !slices.Contains(nodes, pod.Spec.NodeName) {
			chosen, apart = pod, true
			break
		}
	}
	address, stop, err := s.Cluster.Forward(ctx, s.Namespace, chosen.Name, port)
	if err != nil {
		return nil, false, err
	}
	return &Client{Pod: chosen.Name, Node: chosen.Spec.NodeName, Close: stop, address: address}, apart, nil
}

// Start begins a round.
func (c *Client) Start(ctx context.Context, id string, config load.Config) error {
	return c.call(ctx, http.MethodPost, "/rounds?id="+id, config, nil)
}

// Progress of a round.
func (c *Client) Progress(ctx context.Context, id string) (p load.Progress, err error) {
	return p, c.call(ctx, http.MethodGet, "/rounds/"+id, nil, &p)
}

// Stop ends a round.
func (c *Client) Stop(ctx context.Context, id string) (r load.Result, err error) {
	return r, c.call(ctx, http.MethodPost, "/rounds/"+id+"/stop", nil, &r)
}

// Verify reads a round's writes back.
func (c *Client) Verify(ctx context.Context, id string) (v load.Verification, err error) {
	return v, c.call(ctx, http.MethodPost, "/rounds/"+id+"/verify", nil, &v)
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.address+path, body)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking load client %s for %s %s: %w", c.Pod, method, path, err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("asking load client %s for %s %s: %w", c.Pod, method, path, err)
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("asking load client %s for %s %s: %s: %s", c.Pod, method, path, answer.Status,
			strings.TrimSpace(string(raw)))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("reading load client %s's answer to %s %s: %w", c.Pod, method, path, err)
	}
	return nil
}
