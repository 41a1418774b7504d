package agent

import (
	"context"
	"time"
)

// lane runs jobs one after the other beside the loop: the disk is one, the engine another. A job that hangs holds up its
// own lane and nothing else.
type lane struct {
	world World
	busy  bool
	queue []func()
	limit int
	gen   int // grows with reset; jobs of before neither report nor hold up what comes after
}

// work is what a job does beside the loop; its context ends with the lane's limit for it.
type work = func(ctx context.Context)

// do runs job beside the loop and then, on the loop, then. It reports false when too many jobs wait.
func (l *lane) do(limit time.Duration, job work, then func()) bool {
	return l.decide(limit, func() (work, func()) { return job, then })
}

// decide runs f on the loop when its turn comes; f returns the work that still has to be done beside the loop, or nil,
// and what follows on the loop.
func (l *lane) decide(limit time.Duration, f func() (job work, then func())) bool {
	return l.enqueue(func() {
		job, then := f()
		if job == nil {
			then()
			l.next()
			return
		}
		gen := l.gen
		l.world.Beside(limit, job, func() {
			if gen != l.gen {
				return
			}
			then()
			l.next()
		})
	})
}

func (l *lane) enqueue(start func()) bool {
	if !l.busy {
		l.busy = true
		start()
		return true
	}
	if len(l.queue) >= l.limit {
		return false
	}
	l.queue = append(l.queue, start)
	return true
}

func (l *lane) next() {
	if len(l.queue) == 0 {
		l.busy = false
		return
	}
	start := l.queue[0]
	l.queue = l.queue[1:]
	start()
}

// clear drops what waits.
func (l *lane) clear() { l.queue = nil }

// reset forgets the job under way too.
func (l *lane) reset() {
	l.queue, l.busy = nil, false
	l.gen++
}
