package relay

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

// echo is a successor that answers each line with its own name.
func echo(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					_, _ = io.WriteString(c, name+" "+lines.Text()+"\n")
				}
			}()
		}
	}()
	return l.Addr().String()
}

func listening(t *testing.T) (*Relay, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	r := New([]string{address}, logr.Discard())
	r.Listen()
	t.Cleanup(r.Stop)
	return r, address
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func ask(t *testing.T, c net.Conn, line string) string {
	t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// A client that comes before there is a successor waits and is then answered by it, also after the door is closed.
func TestClientsReachTheSuccessor(t *testing.T) {
	r, address := listening(t)
	early := dial(t, address)
	if _, err := io.WriteString(early, "early\n"); err != nil {
		t.Fatal(err)
	}
	r.Lead(echo(t, "new"))
	answer, err := bufio.NewReader(early).ReadString('\n')
	if err != nil || answer != "new early\n" {
		t.Fatalf("%q %v", answer, err)
	}
	if got := ask(t, dial(t, address), "late"); got != "new late\n" {
		t.Errorf("%q", got)
	}
	r.Stop()
	if got := ask(t, early, "again"); got != "new again\n" {
		t.Errorf("after the door was closed: %q", got)
	}
	if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		_ = c.Close()
		t.Error("the port still accepts after Stop: the engine could not have it")
	}
}

// Where nobody succeeds, a client is refused within a second and a half rather than left hanging.
func TestNobodySucceeds(t *testing.T) {
	_, address := listening(t)
	c := dial(t, address)
	begun := time.Now()
	_, err := c.Read(make([]byte, 1))
	if err == nil || errors.Is(err, io.EOF) || time.Since(begun) > 5*time.Second {
		t.Errorf("%v after %s; want a reset", err, time.Since(begun))
	}
}

// A second change of primary begins anew: nobody is led to the successor of the first.
func TestEachListenStartsWithoutATarget(t *testing.T) {
	r, address := listening(t)
	r.Lead(echo(t, "first"))
	r.Stop()
	r.Listen()
	c := dial(t, address)
	r.Lead(echo(t, "second"))
	if got := ask(t, c, "x"); got != "second x\n" {
		t.Errorf("%q", got)
	}
}

// The end of the successor's connection ends the client's: it must not wait for an answer that never comes.
func TestTheEndIsPassedOn(t *testing.T) {
	r, address := listening(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	r.Lead(l.Addr().String())
	c := dial(t, address)
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	refuse(s)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the client's connection outlives the successor's")
	}
}
