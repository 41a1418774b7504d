package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// store is a server that keeps keys and can be told to fail.
type store struct {
	net.Listener
	mu   sync.Mutex
	keys map[string]string
	// onSet decides about one write: an answer, or "" to end the connection. It says whether the write is kept.
	onSet func(n int, now time.Time) (answer string, keep bool)
	sets  int
	// onWait says how many replicas confirm; nil: as many as asked for. onGet may find something else than there is.
	onWait func(n int) int
	waits  int
	onGet  func(key, value string) string
}

func serve(t *testing.T, onSet func(int, time.Time) (string, bool)) *store {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &store{Listener: listener, keys: map[string]string{}, onSet: onSet}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go s.talk(c)
		}
	}()
	return s
}

func (s *store) talk(c net.Conn) {
	defer c.Close()
	reader := bufio.NewReader(c)
	var queue [][]string
	multi := false
	for {
		args, err := command(reader)
		if err != nil {
			return
		}
		answer := ""
		switch {
		case args[0] == "MULTI":
			queue, multi, answer = nil, true, ok
		case args[0] == "EXEC":
			answer, multi = s.exec(queue), false
		case multi:
			queue, answer = append(queue, args), "+QUEUED\r\n"
		default:
			answer = s.answer(args)
		}
		if answer == "" {
			return
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// exec carries out a transaction: nobody sees half of it. If one of its answers is lost, all are.
func (s *store) exec(queue [][]string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, lost := fmt.Sprintf("*%d\r\n", len(queue)), false
	for _, args := range queue {
		answer := s.do(args)
		out, lost = out+answer, lost || answer == ""
	}
	if lost {
		return ""
	}
	return out
}

func (s *store) answer(args []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.do(args)
}

func (s *store) do(args []string) string {
	switch args[0] {
	case "GET":
		value := s.keys[args[1]]
		if s.onGet != nil {
			value = s.onGet(args[1], value)
		}
		if value == "" {
			return "$-1\r\n"
		}
		return fmt.Sprintf("$%d\r\n%s\r\n", len(value), value)
	case "INCR":
		n, _ := strconv.Atoi(s.keys[args[1]])
		s.keys[args[1]] = strconv.Itoa(n + 1)
		return fmt.Sprintf(":%d\r\n", n+1)
	case "WAIT":
		if s.waits++; s.onWait != nil {
			return fmt.Sprintf(":%d\r\n", s.onWait(s.waits))
		}
		return ":" + args[1] + "\r\n"
	case "SET":
		s.sets++
		answer, keep := s.onSet(s.sets, time.Now())
		if keep {
			s.keys[args[1]] = args[2]
		}
		return answer
	case "MGET":
		out := fmt.Sprintf("*%d\r\n", len(args)-1)
		for _, key := range args[1:] {
			if v, ok := s.keys[key]; ok {
				out += fmt.Sprintf("$%d\r\n%s\r\n", len(v), v)
			} else {
				out += "$-1\r\n"
			}
		}
		return out
	case "UNLINK":
		for _, key := range args[1:] {
			delete(s.keys, key)
		}
		return ":1\r\n"
	}
	return "+OK\r\n"
}

func command(r *bufio.Reader) ([]string, error) {
	count := 0
	if _, err := fmt.Fscanf(r, "*%d\r\n", &count); err != nil {
		return nil, err
	}
	var args []string
	for range count {
		length := 0
		if _, err := fmt.Fscanf(r, "$%d\r\n", &length); err != nil {
			return nil, err
		}
		buf := make([]byte, length+2)
		if _, err := io.ReadFull(r, buf); err != nil {
			return nil, err
		}
		args = append(args, string(buf[:length]))
	}
	return args, nil
}

const ok = "+OK\r\n"

// run writes until enough writes were acknowledged after the condition holds.
func run(t *testing.T, s *store, until func(Progress) bool) (*Round, Result) {
	t.Helper()
	r := Start("t", Config{Address: s.Addr().String(), Password: "p", IntervalMicroseconds: 1000, RetryMicroseconds: 500})
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !until(r.Progress()) {
		select {
		case <-deadline:
			t.Fatalf("the round did not get there: %+v", r.Progress())
		case <-tick.C:
		}
	}
	return r, r.Stop()
}

func verified(t *testing.T, r *Round) Verification {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := r.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAWriteWithoutAnAnswerIsNotAcknowledgedUntilItIs(t *testing.T) {
	s := serve(t, func(n int, _ time.Time) (string, bool) {
		switch {
		case n == 10:
			return "", true // carried out, and the answer lost
		case n > 10 && n < 15:
			return "-READONLY You can't write against a read only replica.\r\n", false
		}
		return ok, true
	})
	r, result := run(t, s, func(p Progress) bool { return p.Acknowledged >= 30 })
	if result.Acknowledged+result.Unknown > result.Attempted || result.Unknown != 0 {
		t.Errorf("acknowledged %d, unknown %d of %d attempted", result.Acknowledged, result.Unknown, result.Attempted)
	}
	if result.Failures["write: closed"] != 1 || result.Failures["write: READONLY"] != 4 {
		t.Errorf("failures %v, want one write: closed and four write: READONLY", result.Failures)
	}
	if v := verified(t, r); v.Lost != 0 || v.Acknowledged != result.Acknowledged {
		t.Errorf("verified %+v, want %d acknowledged and none lost", v, result.Acknowledged)
	}
	if len(s.keys) != 0 {
		t.Errorf("%d keys are left after the verification", len(s.keys))
	}
}

func TestTheOutageIsTheLargestGapBetweenAcknowledgements(t *testing.T) {
	var down time.Time
	s := serve(t, func(n int, now time.Time) (string, bool) {
		if n == 20 {
			down = now
		}
		if n >= 20 && now.Sub(down) < 80*time.Millisecond {
			return "", false
		}
		return ok, true
	})
	_, result := run(t, s, func(p Progress) bool { return p.Gaps > 0 && p.FlowingMicroseconds > 20_000 })
	if us := result.Outage.Microseconds; us < 80_000 || us > 5_000_000 {
		t.Errorf("outage %d µs, want at least the 80 ms the server refused", us)
	}
	if got := result.Outage.End.Sub(result.Outage.Start).Microseconds(); got != result.Outage.Microseconds {
		t.Errorf("outage from %s to %s is %d µs, reported %d", result.Outage.Start, result.Outage.End, got, result.Outage.Microseconds)
	}
	if result.Open != nil {
		t.Errorf("the round ended well and reports an open gap %+v", *result.Open)
	}
}

func TestALostWriteIsFound(t *testing.T) {
	s := serve(t, func(n int, _ time.Time) (string, bool) { return ok, n != 7 })
	r, _ := run(t, s, func(p Progress) bool { return p.Acknowledged >= 20 })
	v := verified(t, r)
	if v.Lost != 1 || len(v.LostSequence) != 1 || v.LostSequence[0] != 6 {
		t.Errorf("verified %+v, want write 6 lost", v)
	}
}

func TestARoundStoppedInAnOutageSaysSo(t *testing.T) {
	s := serve(t, func(n int, _ time.Time) (string, bool) {
		if n > 5 {
			return "", n == 6
		}
		return ok, true
	})
	r, result := run(t, s, func(p Progress) bool { return p.SinceLastMicroseconds > 30_000 })
	if result.Open == nil || result.Open.Microseconds < 30_000 || result.Unknown != 1 {
		t.Errorf("open %+v, unknown %d: want an open gap of more than 30 ms and one unknown write", result.Open, result.Unknown)
	}
	if v := verified(t, r); v.Lost != 0 || v.UnknownFound != 1 {
		t.Errorf("verified %+v, want the unknown write found and none lost", v)
	}
}

func TestVerifyRefusesARunningRound(t *testing.T) {
	s := serve(t, func(int, time.Time) (string, bool) { return ok, true })
	r := Start("t", Config{Address: s.Addr().String()})
	defer r.Stop()
	if _, err := r.Verify(context.Background()); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("verifying a running round: %v", err)
	}
}

func TestFailuresOfConnectingAreNeverUnknown(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	r := Start("t", Config{Address: address})
	for r.Progress().LastFailure == "" {
		time.Sleep(time.Millisecond)
	}
	if result := r.Stop(); result.Unknown != 0 || result.Failures["connect: refused"] == 0 {
		t.Errorf("unknown %d, failures %s", result.Unknown, strconv.Quote(fmt.Sprint(result.Failures)))
	}
}

// canned is a server that reads a transaction of two commands, answers this, and ends the connection.
func canned(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		reader := bufio.NewReader(c)
		for range 4 {
			if _, err := command(reader); err != nil {
				return
			}
		}
		_, _ = io.WriteString(c, answer)
	}()
	return listener.Addr().String()
}
