// Package kube is the little of a Kubernetes client that the tool needs. The real one would triple the time to compile
// the tool, which is what everybody waits for first.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"understudy.dev/understudy/hack/cluster/layout"
)

// Client speaks to one API server as one user.
type Client struct {
	server string
	http   *http.Client
}

// StatusError is an answer other than success.
type StatusError struct {
	Method, Path string
	Code         int
	Message      string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: the API server answered %d: %s", e.Method, e.Path, e.Code, e.Message)
}

// Is says whether the error is an answer with that code.
func Is(err error, code int) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == code
}

// New makes a client that presents the named certificate.
func New(folder layout.Folder, authority, certificate string) (*Client, error) {
	pem, err := os.ReadFile(folder.PKI(authority + ".crt"))
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's certificate authority: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(folder.PKI(certificate+".crt"), folder.PKI(certificate+".key"))
	if err != nil {
		return nil, fmt.Errorf("reading certificate %s: %w", certificate, err)
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 5 * time.Second,
		ForceAttemptHTTP2:   true,
	}
	return &Client{server: layout.APIURL(), http: &http.Client{Transport: transport}}, nil
}

// Content types of the requests.
const (
	JSON  = "application/json"
	Apply = "application/apply-patch+yaml"
	Merge = "application/merge-patch+json"
)

// Do sends one request and decodes the answer into out, unless it is nil.
func (c *Client) Do(ctx context.Context, method, path, contentType string, in, out any) error {
	body, err := c.open(ctx, method, path, contentType, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, body)
		return err
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("%s %s: decoding the answer: %w", method, path, err)
	}
	return nil
}

// Get reads text, such as /readyz.
func (c *Client) Get(ctx context.Context, path string) (string, error) {
	body, err := c.open(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return "", err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return string(data), err
}

// Event is one line of a watch.
type Event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// Watch hands events to handle until the stream ends, which the API server makes it do after some minutes.
func (c *Client) Watch(ctx context.Context, path string, handle func(Event) error) error {
	body, err := c.open(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	decoder := json.NewDecoder(body)
	for {
		var event Event
		if err := decoder.Decode(&event); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("watching %s: %w", path, err)
		}
		if err := handle(event); err != nil {
			return err
		}
	}
}

func (c *Client) open(ctx context.Context, method, path, contentType string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: encoding the request: %w", method, path, err)
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.server+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Accept", JSON)
	request.Header.Set("User-Agent", "understudy-cluster")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the API server: %w", err)
	}
	if answer.StatusCode < 300 {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(data, &status) != nil || status.Message == "" {
		status.Message = string(bytes.TrimSpace(data))
	}
	return nil, &StatusError{Method: method, Path: path, Code: answer.StatusCode, Message: status.Message}
}
