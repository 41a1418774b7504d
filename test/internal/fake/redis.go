// Package fake is a server that speaks Redis' protocol to the tests of what speaks it to services, and can be told to fail.
package fake

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// OK is the answer to a write that is carried out.
const OK = "+OK\r\n"

// Redis is a server that keeps keys and can be told to fail.
type Redis struct {
	Address string
	// Keys that are there.
	Keys map[string]string
	// OnSet decides about one write: an answer, or "" to end the connection. It says whether the write is kept.
	OnSet func(n int, now time.Time) (answer string, keep bool)
	// OnWait says how many replicas confirm; nil: as many as asked for. OnGet may find something else than there is.
	OnWait func(n int) int
	OnGet  func(key, value string) string
	// Replica: it says that it is one.
	Replica bool

	// mu is held while the functions above are called.
	mu          sync.Mutex
	sets, waits int
}

// Serve begins to serve; the test's end ends it.
func Serve(t testing.TB, onSet func(n int, now time.Time) (answer string, keep bool)) *Redis {
	t.Helper()
	s := &Redis{Keys: map[string]string{}, OnSet: onSet}
	listener := listen(t)
	s.Address = listener.Addr().String()
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

func (s *Redis) talk(c net.Conn) {
	defer func() { _ = c.Close() }()
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
			queue, multi, answer = nil, true, OK
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
func (s *Redis) exec(queue [][]string) string {
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

func (s *Redis) answer(args []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.do(args)
}

func (s *Redis) do(args []string) string {
	switch args[0] {
	case "GET":
		value := s.Keys[args[1]]
		if s.OnGet != nil {
			value = s.OnGet(args[1], value)
		}
		if value == "" {
			return "$-1\r\n"
		}
		return fmt.Sprintf("$%d\r\n%s\r\n", len(value), value)
	case "INCR":
		n, _ := strconv.Atoi(s.Keys[args[1]])
		s.Keys[args[1]] = strconv.Itoa(n + 1)
		return fmt.Sprintf(":%d\r\n", n+1)
	case "WAIT":
		if s.waits++; s.OnWait != nil {
			return fmt.Sprintf(":%d\r\n", s.OnWait(s.waits))
		}
		return ":" + args[1] + "\r\n"
	case "SET":
		s.sets++
		answer, keep := s.OnSet(s.sets, time.Now())
		if keep {
			s.Keys[args[1]] = args[2]
		}
		return answer
	case "ROLE":
		if s.Replica {
			return "*1\r\n$5\r\nslave\r\n"
		}
		return "*1\r\n$6\r\nmaster\r\n"
	case "MGET":
		out := fmt.Sprintf("*%d\r\n", len(args)-1)
		for _, key := range args[1:] {
			if v, ok := s.Keys[key]; ok {
				out += fmt.Sprintf("$%d\r\n%s\r\n", len(v), v)
			} else {
				out += "$-1\r\n"
			}
		}
		return out
	case "UNLINK":
		for _, key := range args[1:] {
			delete(s.Keys, key)
		}
		return ":1\r\n"
	}
	return OK
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

// Canned is a server that reads a transaction of two commands, answers this, and ends the connection.
func Canned(t testing.TB, answer string) string {
	t.Helper()
	listener := listen(t)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
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

func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}
