// Package redis drives Redis 7 or newer, or Valkey.
package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

// nowhere is the upstream of a detached engine: it stays a replica, so it refuses writes and keeps its data and its
// replication history, but nothing answers there. REPLICAOF NO ONE would make it accept writes.
const nowhere = "127.0.0.1:1"

// Redis drives one server on this pod's loopback address.
type Redis struct {
	config   agentconfig.Redis
	dir      string
	password string

	mu   sync.Mutex
	conn redis.Conn // for probes

	ordering sync.Mutex
	orders   redis.Conn // for orders, so that neither waits for the other
}

// probeCommand asks for all that a Report tells.
var probeCommand = []any{"INFO", "replication", "keyspace", "persistence"}

// New makes the adapter. The password is never written to disk, to an argument or to a log.
func New(config agentconfig.Redis, dir, password string) *Redis {
	return &Redis{config: config, dir: dir, password: password}
}

var _ engine.Engine = (*Redis)(nil)

// Port clients connect to.
func (r *Redis) Port() int { return r.config.Port }

// Listens implements engine.Engine: until it is told whom to serve, it listens on the loopback address only.
func (r *Redis) Listens() bool { return false }

// Persistent reports whether data outlives the process.
func (r *Redis) Persistent() bool { return r.config.Persistent }

// Process starts the server on the loopback address only, configured through its standard input.
func (r *Redis) Process() (engine.Process, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return engine.Process{Path: path, Args: []string{name, "-"}, Dir: r.dir, Stdin: []byte(r.configuration())}, nil
		}
	}
	return engine.Process{}, errors.New("looking for the engine: neither redis-server nor valkey-server is in the image's PATH: check spec.template.image")
}

// configuration is redis.conf: our defaults, what the user set, and last what must be ours.
func (r *Redis) configuration() string {
	lines := map[string]string{
		"appendonly":                  "no",
		"save":                        `""`,
		"repl-diskless-sync-delay":    "0",        // a replica should not wait for others to join its copy
		"repl-backlog-size":           "16777216", // so that a re-follow after a failover copies only what is missing
		"tcp-keepalive":               "60",
		"shutdown-on-sigterm":         "default",
		"stop-writes-on-bgsave-error": "yes",
	}
	if r.config.Persistent {
		lines["appendonly"], lines["appendfsync"] = "yes", "everysec"
	}
	for k, v := range r.config.Parameters {
		lines[k] = oneLine(v)
	}
	for k, v := range map[string]string{
		"bind": "127.0.0.1", "port": strconv.Itoa(r.config.Port), "dir": r.dir, "protected-mode": "no",
		"daemonize": "no", "replica-read-only": "yes", "replica-serve-stale-data": "yes",
		"requirepass": quoteBytes(r.password), "masterauth": quoteBytes(r.password),
	} {
		lines[k] = v
	}
	if r.config.Persistent { // a volume without a log would come back empty under the name of its data
		lines["appendonly"] = "yes"
	}
	if r.config.Persistent && r.config.Synchronous { // what a quorum confirmed outlives a power cut
		lines["appendfsync"] = "always"
	}
	keys := make([]string, 0, len(lines))
	for k := range lines {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s %s\n", k, lines[k])
	}
	return b.String()
}

// oneLine keeps a value on its line. Directives with several arguments (save, client-output-buffer-limit, …) need their
// spaces as separators, so only control characters and an empty value are changed.
func oneLine(value string) string {
	if value == "" {
		return `""`
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' {
			return ' '
		}
		return c
	}, value)
}

// quoteBytes writes any bytes as one quoted argument of redis.conf.
func quoteBytes(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		fmt.Fprintf(&b, `\x%02x`, s[i])
	}
	b.WriteByte('"')
	return b.String()
}

func (r *Redis) dial(ctx context.Context) (redis.Conn, error) {
	opts := []redis.DialOption{redis.DialPassword(r.password), redis.DialConnectTimeout(time.Second)}
	c, err := redis.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.config.Port)), opts...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the engine: %w", err)
	}
	return c, nil
}

// order sends commands in one go and returns their replies; the first error is the order's. It keeps its connection.
func (r *Redis) order(ctx context.Context, commands ...[]any) ([]any, error) {
	r.ordering.Lock()
	defer r.ordering.Unlock()
	replies, err := r.tryOrder(ctx, commands)
	if err != nil && r.orders != nil && r.orders.Err() != nil { // the connection is broken, not the order
		_ = r.orders.Close()
		r.orders = nil
		replies, err = r.tryOrder(ctx, commands)
	}
	return replies, err
}

func (r *Redis) tryOrder(ctx context.Context, commands [][]any) ([]any, error) {
	if r.orders == nil {
		c, err := r.dial(ctx)
		if err != nil {
			return nil, err
		}
		r.orders = c
	}
	for _, c := range commands {
		if err := r.orders.Send(c[0].(string), c[1:]...); err != nil {
			return nil, fmt.Errorf("engine command %s: %w", c[0], err)
		}
	}
	if err := r.orders.Flush(); err != nil {
		return nil, fmt.Errorf("engine command %s: %w", commands[0][0], err)
	}
	replies := make([]any, len(commands))
	var first error
	for i, c := range commands {
		reply, err := redis.ReceiveContext(r.orders, ctx)
		if err != nil && first == nil {
			first = fmt.Errorf("engine command %s: %w", c[0], err)
		}
		replies[i] = reply
	}
	return replies, first
}

// Probe asks for role, position and link. It keeps its connection.
func (r *Redis) Probe(ctx context.Context) (engine.Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		c, err := r.dial(ctx)
		if err != nil {
			return engine.Report{}, err
		}
		r.conn = c
	}
	raw, err := redis.String(redis.DoContext(r.conn, ctx, "INFO", probeCommand[1:]...))
	if err != nil {
		_ = r.conn.Close()
		r.conn = nil
		if strings.HasPrefix(err.Error(), "LOADING") {
			return engine.Report{Loading: true}, nil
		}
		return engine.Report{}, fmt.Errorf("engine command INFO: %w", err)
	}
	return parse(raw), nil
}

// parse reads the fields of INFO.
func parse(raw string) engine.Report {
	f := map[string]string{}
	for _, line := range strings.Split(raw, "\n") {
		if k, v, ok := strings.Cut(strings.TrimRight(line, "\r"), ":"); ok {
			f[k] = v
		}
	}
	rep := engine.Report{Loading: f["loading"] == "1", Primary: f["role"] == "master", History: f["master_replid"]}
	// Redis has no write of its own that could be tried without changing users' data or waiting behind a pause; but it tells how
	// its newest real one went.
	if f["aof_last_write_status"] == "err" {
		rep.Failing = "the engine cannot write its log, so it refuses writes: look for space and errors on the volume"
	}
	for k := range f {
		if len(k) > 2 && strings.HasPrefix(k, "db") && strings.Contains(f[k], "keys=") {
			rep.HasData = true
		}
	}
	offset := f["master_repl_offset"]
	if !rep.Primary {
		offset = f["slave_repl_offset"]
		rep.Upstream = net.JoinHostPort(f["master_host"], f["master_port"])
		rep.LinkUp = f["master_link_status"] == "up" && f["master_sync_in_progress"] == "0"
	}
	rep.Offset, _ = strconv.ParseInt(offset, 10, 64)
	return rep
}

// everywhere makes the server reachable from outside the pod.
var everywhere = []any{"CONFIG", "SET", "bind", "* -::*"}

// Follow points the server at its new primary. A partial resynchronisation follows when the history allows it.
func (r *Redis) Follow(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("following %q: %w", address, err)
	}
	_, err = r.order(ctx, []any{"REPLICAOF", host, port}, everywhere)
	return err
}

// Replace implements engine.Engine: a Redis that follows copies what it must by itself.
func (r *Redis) Replace(context.Context, engine.Had) error { return nil }

// Detach cuts the link and verifies that it is cut.
func (r *Redis) Detach(ctx context.Context, drain time.Duration) (engine.Report, error) {
	r.drain(ctx, drain)
	host, port, _ := net.SplitHostPort(nowhere)
	replies, err := r.order(ctx, []any{"REPLICAOF", host, port}, probeCommand)
	if err != nil {
		return engine.Report{}, err
	}
	raw, err := redis.String(replies[1], nil)
	if err != nil {
		return engine.Report{}, fmt.Errorf("reading the engine's state after the cut: %w", err)
	}
	rep := parse(raw)
	if rep.Primary || rep.LinkUp || rep.Upstream != nowhere {
		return rep, fmt.Errorf("cutting the replication link: the engine still reports upstream %s, link up %t", rep.Upstream, rep.LinkUp)
	}
	return rep, nil
}

// drain returns when the link has ended, which the server notices after it has read everything, or when d is over.
func (r *Redis) drain(ctx context.Context, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		replies, err := r.order(ctx, probeCommand)
		if err != nil {
			return
		}
		if raw, err := redis.String(replies[0], nil); err != nil || !parse(raw).LinkUp {
			return
		}
	}
}

// Promote makes the server accept writes. The order matters: the limit first, the door last. It is sent once, on a
// connection that just answered: tried again, it could reach the next engine, which is empty and may be nobody's primary.
func (r *Redis) Promote(ctx context.Context, quorum engine.Quorum) (engine.Report, error) {
	if _, err := r.order(ctx, []any{"PING"}); err != nil {
		return engine.Report{}, err
	}
	r.ordering.Lock()
	defer r.ordering.Unlock()
	if r.orders == nil {
		return engine.Report{}, errors.New("promoting the engine: its connection ended meanwhile")
	}
	replies, err := r.tryOrder(ctx, [][]any{minReplicasCommand(quorum.Replicas), {"REPLICAOF", "NO", "ONE"}, everywhere, probeCommand})
	if err != nil {
		return engine.Report{}, err
	}
	raw, err := redis.String(replies[3], nil)
	if err != nil {
		return engine.Report{}, fmt.Errorf("reading the engine's state after the promotion: %w", err)
	}
	return parse(raw), nil
}

func minReplicasCommand(n int) []any { return []any{"CONFIG", "SET", "min-replicas-to-write", n} }

// Configure changes what a policy may change.
func (r *Redis) Configure(ctx context.Context, quorum engine.Quorum) error {
	_, err := r.order(ctx, minReplicasCommand(quorum.Replicas))
	return err
}

// Pause holds back writes; clients wait.
func (r *Redis) Pause(ctx context.Context, d time.Duration) (engine.Report, error) {
	replies, err := r.order(ctx, []any{"CLIENT", "PAUSE", d.Milliseconds(), "WRITE"}, probeCommand)
	if err != nil {
		return engine.Report{}, err
	}
	raw, err := redis.String(replies[1], nil)
	return parse(raw), err
}

// Resume lets writes go on.
func (r *Redis) Resume(ctx context.Context) error {
	_, err := r.order(ctx, []any{"CLIENT", "UNPAUSE"})
	return err
}
