package load

import (
	"context"
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"understudy.dev/understudy/test/internal/history"
	"understudy.dev/understudy/test/internal/resp"
)

// server is a redis-server on the loopback, and a connection to it.
type server struct {
	address string
	conn    *resp.Conn
}

func redisServer(t *testing.T, args ...string) server {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("there is no redis-server in PATH")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := server{address: listener.Addr().String()}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	all := append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir(),
		"--repl-diskless-sync-delay", "0"}, args...)
	ctx := started(t, exec.Command(program, all...))
	for s.conn == nil {
		if s.conn, err = resp.Dial(ctx, s.address, time.Second, 10*time.Second); err != nil && ctx.Err() != nil {
			t.Fatalf("starting %s %v: %v", program, all, err)
		}
		pause(ctx, time.Millisecond)
	}
	t.Cleanup(s.conn.Close)
	return s
}

// started runs a process until the test's end. The context ends with the process, and after 20 s.
func started(t *testing.T, process *exec.Cmd) context.Context {
	t.Helper()
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	ended := make(chan struct{})
	go func() {
		_ = process.Wait()
		cancel()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = process.Process.Kill()
		<-ended
	})
	return ctx
}

func (s server) do(t *testing.T, args ...string) any {
	t.Helper()
	reply, err := s.conn.Do(args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return reply
}

// replicated is a primary that one replica follows.
func replicated(t *testing.T) (primary, replica server) {
	t.Helper()
	primary = redisServer(t)
	host, port, _ := net.SplitHostPort(primary.address)
	replica = redisServer(t, "--replicaof", host, port)
	primary.do(t, "SET", "first", "1")
	if n := primary.do(t, "WAIT", "1", "9000"); n != int64(1) {
		t.Fatalf("%v replicas have the first write, want 1", n)
	}
	return primary, replica
}

// The primary is replaced at once, as nobody should: what its replica did not confirm may be lost, and nothing else is.
func TestARealServer(t *testing.T) {
	primary, replica := replicated(t)
	r := Record("t", RecordConfig{Config: Config{Address: primary.address, WaitReplicas: 1, IntervalMicroseconds: 1, RetryMicroseconds: 1000}})
	waitFor(t, r, func(p Recorded) bool { return p.Confirmed >= 1000 })
	primary.do(t, "CONFIG", "SET", "min-replicas-to-write", "2")
	waitFor(t, r, func(p Recorded) bool { return p.Failures["write: NOREPLICAS"] > 0 })
	primary.do(t, "CONFIG", "SET", "min-replicas-to-write", "0")
	replica.do(t, "REPLICAOF", "NO", "ONE")
	waitFor(t, r, func(p Recorded) bool { return p.Uncertain >= 8 })
	r.Stop()
	r.config.Address, r.config.WaitReplicas = replica.address, 0
	result := judged(t, r)
	if result.Verdict != history.Ok || result.Uncertain < 8 || result.Reads+result.Swaps < 1000 {
		t.Errorf("%s, want what was confirmed on the new primary and the rest uncertain", result)
	}
	if keys := replica.do(t, "DBSIZE"); keys != int64(1) {
		t.Errorf("%v keys are left, want the first alone", keys)
	}
}

func TestARealServerThatLosesItsKeys(t *testing.T) {
	primary, _ := replicated(t)
	r := Record("t", RecordConfig{Config: Config{Address: primary.address, WaitReplicas: 1, IntervalMicroseconds: 1}})
	waitFor(t, r, func(p Recorded) bool { return p.Confirmed >= 500 })
	primary.do(t, "FLUSHALL")
	r.Stop()
	if result := judged(t, r); result.Verdict != history.Illegal || result.Illegal < 3 {
		t.Errorf("%s, want at least three keys illegal", result)
	}
}
