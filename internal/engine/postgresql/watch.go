package postgresql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

const (
	// watchAgain is the pause after a watching session ended while the server lives on.
	watchAgain = 5 * time.Second
	// refusesWithin is how long after the end of a session the server's socket may take to refuse: the kernel closes a process's files one by one.
	refusesWithin = 20 * time.Millisecond
)

// beginLife ends what is left of the last one, and returns what is closed when the server of this one is known to have ended.
func (p *PostgreSQL) beginLife() (gone <-chan struct{}) {
	ctx, end := context.WithCancel(context.Background())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.endLife != nil {
		p.endLife()
	}
	p.endLife = end
	return ctx.Done()
}

// watch looks out for the end of the server that a session was just had with. When its first process is killed, the kernel closes that one's files,
// which ends all others, and tells its parent last: with two processors up to 40 ms later, since a dozen processes end before. A session that
// does nothing hears of it first.
func (p *PostgreSQL) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watched == p.life || p.endLife == nil {
		return
	}
	p.watched = p.life
	go p.watchLife(p.life, p.endLife)
}

func (p *PostgreSQL) watchLife(life int, gone func()) {
	for {
		// It is none of the connections that a full server keeps for replication, and does without then.
		c, err := p.dialForWatch()
		if err == nil {
			for err == nil {
				err = c.pg.WaitForNotification(context.Background()) // which nobody sends
			}
			c.close()
		}
		if p.currentLife() != life {
			return
		}
		if p.refuses() {
			gone()
			return
		}
		time.Sleep(watchAgain)
	}
}

func (p *PostgreSQL) dialForWatch() (*conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return p.dialAs(ctx, "")
}

// refuses reports whether nobody listens on the server's socket, though it is there: its first process has ended.
func (p *PostgreSQL) refuses() bool {
	path := p.socket()
	for until := time.Now().Add(refusesWithin); ; time.Sleep(time.Millisecond) {
		c, err := net.DialTimeout("unix", path, refusesWithin)
		if err == nil {
			_ = c.Close()
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return true
		}
		if time.Now().After(until) {
			return false
		}
	}
}

func (p *PostgreSQL) socket() string { return fmt.Sprintf("%s/.s.PGSQL.%d", p.socketDir(), p.config.Port) }
