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

	"understudy.dev/understudy/test/internal/history"
	"understudy.dev/understudy/test/internal/history/serial"
	"understudy.dev/understudy/test/internal/jsonl"
	"understudy.dev/understudy/test/internal/load"
)

// Client is one load client, reached through a port-forward.
type Client struct {
	Pod, Node string
	// Close ends the port-forward.
	Close func()

	address string
}

// At is a client that is reached at host:port, without a port-forward.
func At(address string) *Client {
	return &Client{Pod: address, Close: func() {}, address: address}
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

// Record begins a recording.
func (c *Client) Record(ctx context.Context, id string, config load.RecordConfig) error {
	return c.call(ctx, http.MethodPost, "/recordings?id="+id, config, nil)
}

// Recorded says how a recording goes.
func (c *Client) Recorded(ctx context.Context, id string) (r load.Recorded, err error) {
	err = c.call(ctx, http.MethodGet, "/recordings/"+id, nil, &r)
	return r, err
}

// History ends a recording of Redis, reads every key once more, and returns what the clients saw.
func (c *Client) History(ctx context.Context, id string) ([]history.Op, load.Recorded, error) {
	return ended[history.Op](ctx, c, id)
}

// Transactions ends a recording of PostgreSQL, reads every list once more, and returns what the clients saw.
func (c *Client) Transactions(ctx context.Context, id string) ([]serial.Txn, load.Recorded, error) {
	return ended[serial.Txn](ctx, c, id)
}

func ended[T any](ctx context.Context, c *Client, id string) ([]T, load.Recorded, error) {
	var seen load.Recorded
	if err := c.call(ctx, http.MethodPost, "/recordings/"+id+"/stop", nil, &seen); err != nil {
		return nil, seen, err
	}
	path := "/recordings/" + id + "/history"
	raw, err := c.ask(ctx, http.MethodPost, path, nil)
	if err != nil {
		return nil, seen, err
	}
	items, err := jsonl.Read[T](bytes.NewReader(raw))
	if err != nil {
		return nil, seen, fmt.Errorf("reading load client %s's answer to POST %s: %w", c.Pod, path, err)
	}
	return items, seen, nil
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	raw, err := c.ask(ctx, method, path, in)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("reading load client %s's answer to %s %s: %w", c.Pod, method, path, err)
	}
	return nil
}

func (c *Client) ask(ctx context.Context, method, path string, in any) ([]byte, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.address+path, body)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking load client %s for %s %s: %w", c.Pod, method, path, err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("asking load client %s for %s %s: %w", c.Pod, method, path, err)
	}
	if answer.StatusCode >= 300 {
		return nil, fmt.Errorf("asking load client %s for %s %s: %s: %s", c.Pod, method, path, answer.Status,
			strings.TrimSpace(string(raw)))
	}
	return raw, nil
}
