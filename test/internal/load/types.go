// Package load writes to a service as a user would and tells what the user saw. The client's pod runs it; the host only
// reads its results.
package load

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Config is what a round writes to, and how.
type Config struct {
	// Address is host:port of the service, the ClusterIP rather than a name if resolving is not to be measured.
	Address string `json:"address,omitempty"`
	// Addresses are set instead of Address where any of several PostgreSQL servers may be the primary, as in a connection
	// string with several hosts: each new connection tries them in order and takes the first that may be written to.
	Addresses []string `json:"addresses,omitempty"`
	// Engine is what answers there: redis, the default, or postgresql; then User and Database are needed too.
	Engine   string `json:"engine,omitempty"`
	User     string `json:"user,omitempty"`
	Database string `json:"database,omitempty"`
	// Sentinels and Master are set instead of Address to find the primary as clients of Redis Sentinel do: ask a
	// sentinel before each new connection.
	Sentinels []string `json:"sentinels,omitempty"`
	Master    string   `json:"master,omitempty"`
	// Password, if the service has one; default: $UNDERSTUDY_PASSWORD of the client.
	Password string `json:"password,omitempty"`
	// IntervalMicroseconds between the starts of two writes while they succeed.
	IntervalMicroseconds int64 `json:"intervalMicroseconds,omitempty"`
	// RetryMicroseconds between the starts of two attempts of one write while they fail: 2 ms, with PostgreSQL 10 ms.
	RetryMicroseconds int64 `json:"retryMicroseconds,omitempty"`
	DialMilliseconds  int64 `json:"dialMilliseconds,omitempty"`
	ReplyMilliseconds int64 `json:"replyMilliseconds,omitempty"`
	// WaitReplicas makes a write count as acknowledged only when WAIT confirmed it with so many replicas.
	WaitReplicas int `json:"waitReplicas,omitempty"`
	// LimitSeconds after which the round stops by itself.
	LimitSeconds int64 `json:"limitSeconds,omitempty"`
}

// WithDefaults fills in what was left out.
func (c Config) WithDefaults() Config {
	fill := func(v *int64, to int64) {
		if *v <= 0 {
			*v = to
		}
	}
	fill(&c.IntervalMicroseconds, 5000)
	if c.Engine == PostgreSQL {
		// Connecting forks a process and proves a password on both sides: more attempts would take the processor from whoever is to
		// take over.
		fill(&c.RetryMicroseconds, 10_000)
	}
	fill(&c.RetryMicroseconds, 2000)
	fill(&c.DialMilliseconds, 100)
	fill(&c.ReplyMilliseconds, 250)
	fill(&c.LimitSeconds, 300)
	return c
}

// Valid says whether there is something to write to.
func (c Config) Valid() error {
	ways := 0
	for _, given := range []bool{c.Address != "", len(c.Addresses) > 0, len(c.Sentinels) > 0} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return errors.New("it needs one of address, addresses and sentinels")
	case len(c.Addresses) > 0 && c.Engine != PostgreSQL:
		return fmt.Errorf("addresses are for engine %s only", PostgreSQL)
	}
	return nil
}

func (c Config) interval() time.Duration {
	return time.Duration(c.IntervalMicroseconds) * time.Microsecond
}
func (c Config) retry() time.Duration     { return time.Duration(c.RetryMicroseconds) * time.Microsecond }
func (c Config) dial() time.Duration      { return time.Duration(c.DialMilliseconds) * time.Millisecond }
func (c Config) reply() time.Duration     { return time.Duration(c.ReplyMilliseconds) * time.Millisecond }
func (c Config) waitMilliseconds() string { return strconv.FormatInt(c.ReplyMilliseconds*4/5, 10) }
func (c Config) limit() time.Duration     { return time.Duration(c.LimitSeconds) * time.Second }

// Gap is the time between two consecutive acknowledged writes: from the instant the reply to one was read to the
// instant the reply to the next was read. Nothing is subtracted, so that a service without a fault shows gaps of one
// interval.
type Gap struct {
	Microseconds int64     `json:"microseconds"`
	Start        time.Time `json:"start"`
	End          time.Time `json:"end"`
}

// Progress is how a round goes at this moment.
type Progress struct {
	Acknowledged int `json:"acknowledged"`
	// SinceLastMicroseconds since the last acknowledged write.
	SinceLastMicroseconds int64 `json:"sinceLastMicroseconds"`
	// FlowingMicroseconds since the end of the last gap that is in Result.Gaps, or since the first write.
	FlowingMicroseconds int64 `json:"flowingMicroseconds"`
	// Gaps seen so far that are in Result.Gaps.
	Gaps int `json:"gaps"`
	// LastFailure is the newest failed attempt's, for people.
	LastFailure string `json:"lastFailure,omitempty"`
}

// Result is what the user saw in a round.
type Result struct {
	ID string `json:"id"`
	// Attempted, Acknowledged and Unknown count writes, each of its own key. A write is acknowledged when the service
	// answered OK, and WAIT confirmed it where that is asked for. It is unknown when it was never acknowledged and at least one attempt ended without an answer after
	// the command had been sent. What is neither was refused, or never sent.
	Attempted    int `json:"attempted"`
	Acknowledged int `json:"acknowledged"`
	Unknown      int `json:"unknown"`
	// Failures counts failed attempts by kind; a write that failed is attempted again until the round stops.
	Failures map[string]int `json:"failures"`
	// Outage is the largest gap.
	Outage Gap `json:"outage"`
	// Gaps are those longer than 20 ms, at most 1000.
	Gaps []Gap `json:"gaps"`
	// Open is the time from the last acknowledged write to the end of the round, if writes failed at that moment.
	Open *Gap `json:"open,omitempty"`
	// Connections made.
	Connections int `json:"connections"`
}

// Verification is what was left of a round's writes afterwards.
type Verification struct {
	Acknowledged int `json:"acknowledged"`
	// Lost counts acknowledged writes whose key is missing or has another value; LostSequence names the first of them.
	Lost         int   `json:"lost"`
	LostSequence []int `json:"lostSequence,omitempty"`
	// UnknownFound counts writes of unknown fate that turned out to be there.
	UnknownFound int `json:"unknownFound"`
}

// listed gaps are longer than this.
const listed = 20 * time.Millisecond

const maxListed = 1000
