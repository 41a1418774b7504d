// Package rest measures what Understudy costs while nothing happens.
package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Request is one request to the API server, from its audit log.
type Request struct {
	Time      time.Time `json:"time"`
	User      string    `json:"user"`
	Verb      string    `json:"verb"`
	Resource  string    `json:"resource"`
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name,omitempty"`
	Code      int       `json:"code,omitempty"`
}

func (r Request) String() string {
	return fmt.Sprintf("%s %s %s %s/%s by %s", r.Time.Format("15:04:05.000"), r.Verb, r.Resource, r.Namespace, r.Name, r.User)
}

// Count is the answer to: what was asked of the API server at rest?
type Count struct {
	Seconds float64 `json:"seconds"`
	// Requests that count, newest last; none is the goal.
	Requests []Request `json:"requests"`
	// Watches and LeaderElection are left out of Requests, and told so that the rule can be judged.
	Watches        int `json:"watches"`
	LeaderElection int `json:"leaderElection"`
}

// Rule says which requests count: those of Users about objects of Namespaces or of the cluster, so that other services
// that are not at rest do not count. A watch is left out, since it is how news arrive, and so is the leader-election
// Lease in Namespace, which every operator renews.
type Rule struct {
	Log              string
	Users            []string
	Namespaces       []string
	Namespace, Lease string
}

// Watch counts requests for a time.
func (r Rule) Watch(ctx context.Context, span time.Duration) (Count, error) {
	log := r.Log
	count := Count{Requests: []Request{}}
	file, err := os.Open(log)
	if err != nil {
		return count, fmt.Errorf("opening the API server's audit log: %w: the test cluster keeps one in .cluster/audit.log", err)
	}
	defer file.Close()
	if _, err := file.Seek(0, io.SeekEnd); err != nil {
		return count, fmt.Errorf("going to the end of %s: %w", log, err)
	}
	begun := time.Now()
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return count, ctx.Err()
	}
	end := time.Now()
	count.Seconds = end.Sub(begun).Seconds()
	reader := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return count, nil // a line that is being written was begun after the end
		}
		if err != nil {
			return count, fmt.Errorf("reading %s: %w", log, err)
		}
		count.add(line, r, begun, end)
	}
}

type event struct {
	Stage      string `json:"stage"`
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef struct {
		Resource  string `json:"resource"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	Received time.Time `json:"requestReceivedTimestamp"`
}

func (c *Count) add(line []byte, r Rule, begun, end time.Time) {
	var e event
	if json.Unmarshal(line, &e) != nil || !slices.Contains(r.Users, e.User.Username) {
		return
	}
	if e.ObjectRef.Namespace != "" && !slices.Contains(r.Namespaces, e.ObjectRef.Namespace) {
		return
	}
	// One request is logged at several stages; each but a watch has exactly one that is its last.
	if e.Received.Before(begun) || e.Received.After(end) {
		return
	}
	switch {
	case e.Verb == "watch" || strings.Contains(e.RequestURI, "watch=true"):
		if e.Stage == "ResponseStarted" {
			c.Watches++
		}
	case e.Stage != "ResponseComplete" && e.Stage != "Panic":
	case e.ObjectRef.Resource == "leases" && e.ObjectRef.Namespace == r.Namespace && e.ObjectRef.Name == r.Lease:
		c.LeaderElection++
	default:
		resource := e.ObjectRef.Resource
		if resource == "" {
			resource = e.RequestURI
		}
		c.Requests = append(c.Requests, Request{
			Time: e.Received, User: e.User.Username, Verb: e.Verb, Resource: resource,
			Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name, Code: e.ResponseStatus.Code,
		})
	}
}
