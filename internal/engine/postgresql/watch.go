package postgresql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// watchAgain is the pause after a watching session ended while the server lives on.
	watchAgain = 5 * time.Second
	// refusesWithin is how long after the end of a session the server's socket may take to refuse: the kernel closes a process's files one by one.
	refusesWithin = 20 * time.Millisecond
)

// lifetime is one life of the server as far as its end is concerned.
type lifetime struct {
	gone    context.Context // over once the server is known to have ended
	end     context.CancelFunc
	watched bool
}

func newLifetime() *lifetime {
	l := &lifetime{}
	l.gone, l.end = context.WithCancel(context.Background())
	return l
}

// watch looks out for the end of a life that a session was just had with. When a server's first process is killed, the kernel closes that one's
// files, which ends all others, and tells its parent last: with two processors up to 40 ms later, since a dozen processes end before. A
// session that does nothing hears of it first.
func (p *PostgreSQL) watch(life int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != life || p.lifetime.watched {
		return
	}
	p.lifetime.watched = true
	go p.watchLife(life, p.lifetime.end)
}

func (p *PostgreSQL) watchLife(life int, end func()) {
	for p.currentLife() == life {
		if p.watchOnce() && p.currentLife() == life && p.refuses() {
			end()
			return
		}
		time.Sleep(watchAgain)
	}
}

// watchOnce returns when a session has ended, or is not to be had; false: the server said that itself. It is none of those that a full server keeps for replication,
// and does without then.
func (p *PostgreSQL) watchOnce() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c, err := p.dialAs(ctx, "")
	if err != nil {
		return stateOf(err) == ""
	}
	defer c.close()
	p.watching.Store(int64(c.pg.PID()))
	defer p.watching.Store(0)
	for err == nil {
		err = c.pg.WaitForNotification(context.Background()) // which nobody sends
	}
	return true
}

// refuses reports whether nobody listens on the server's socket, though it is there: its first process has ended. A connection to one that is just
// ending may wait in the queue of a socket that is closed then.
func (p *PostgreSQL) refuses() bool {
	until := time.Now().Add(refusesWithin)
	for time.Now().Before(until) {
		c, err := net.DialTimeout("unix", p.socket(), refusesWithin)
		if err != nil {
			return errors.Is(err, syscall.ECONNREFUSED)
		}
		_ = c.SetReadDeadline(until)
		_, err = c.Read(make([]byte, 1)) // a server waits for the first word of whoever comes
		_ = c.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	}
	return false
}

func (p *PostgreSQL) socket() string {
	return fmt.Sprintf("%s/.s.PGSQL.%d", p.socketDir(), p.config.Port)
}
