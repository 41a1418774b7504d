// Package engine is what the agent needs of the program it supervises. Each adapter lives in a package of its own.
package engine

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Process is what the agent starts as its child.
type Process struct {
	Path  string
	Args  []string // Args[0] is the program's name
	Env   []string
	Dir   string
	Stdin []byte
	// Step: it prepares something and ends by itself; that it ended well is no crash.
	Step bool
	// Gone is closed when it is known to have ended, which may be before the kernel tells its parent; nil: nobody looks out for that.
	Gone <-chan struct{}
}

// Report is what one probe found.
type Report struct {
	// Loading: it answers, but has not read its data yet.
	Loading bool
	// Primary: it accepts writes, or would.
	Primary bool
	Offset  int64
	// Exact: Offset is what it has, also just after it was started on its files.
	Exact bool
	// Redirectable: though it loads, it can be told whom to follow.
	Redirectable bool
	// FollowsEarly: it can be told to follow an engine that is still being promoted, and begins when that is done.
	FollowsEarly bool
	// MustReplace: its data must be replaced before it can follow, as Replace does.
	MustReplace bool
	// Upstream is the address it follows, LinkUp whether the link is live and the first copy complete.
	Upstream string
	LinkUp   bool
	HasData  bool
	// Failing says why it refuses writes, or would, though it answers. Such an engine is not healthy.
	Failing string
	// History names the history that Offset counts in: every primary begins one of its own, and a replica has that of the
	// primary with which it finished synchronising last. Empty: the engine has no such name.
	History string
}

// Quorum says whose acknowledgements a write waits for.
type Quorum struct {
	// Replicas is how many of them; none: it waits for nobody.
	Replicas int
	// Members are the synchronous set: the names that its members give when they follow. An engine that knows only a number,
	// such as Redis, counts whoever follows.
	Members []string
}

// ErrLoading says that an order came while the engine loads its data. It knows of it; the order is to be repeated.
var ErrLoading = errors.New("the engine is still loading its data")

// FollowerName is the name that a member of one pod gives when it follows: a pod made anew is another follower.
func FollowerName(member, podUID string) string {
	return member + "." + podUID[:min(8, len(podUID))]
}

// Equal says that telling an engine b after a would change nothing.
func (a Quorum) Equal(b Quorum) bool {
	return a.Replicas == b.Replicas && slices.Equal(a.Members, b.Members)
}

// Expecter is an engine that prepares for what it may be told soon, so that it then takes less time. Both return at once.
type Expecter interface {
	// Expect names the one that it may be told to follow.
	Expect(next Successor)
	// ExpectPromotion names the quorum that it would be promoted with. The next Detach prepares for that.
	ExpectPromotion(quorum Quorum)
}

// Successor is an engine that may be followed soon.
type Successor struct {
	Address string
	// History that it has all of up to Offset, at least, as everybody has who has that history. Empty: nobody knows.
	History string
	Offset  int64
}

// Importer is an engine that may be configured to begin with data that was brought along.
type Importer interface {
	// Imports names the member on whose volume that data is, or is empty.
	Imports() string
	// Established says that the service has data of its own by now, so that nothing is imported any more. It comes before each Process.
	Established(yes bool)
}

// Engine drives one engine. Every call has the deadline of its context; none retries.
type Engine interface {
	// Process starts it so that nobody outside the pod reaches it. An engine may need several processes one after another
	// until it serves, such as one that makes its files: each ends by itself, and then Process is asked again.
	Process() (Process, error)
	// Persistent reports whether its data outlives its process.
	Persistent() bool
	// Port clients connect to.
	Port() int
	// Listens reports whether its process takes that port when it starts, rather than when it is told whom to serve.
	Listens() bool
	Probe(ctx context.Context) (Report, error)
	// Follow makes it copy and follow the engine at address (host:port), and reachable for readers.
	Follow(ctx context.Context, address string) error
	// Replace begins to replace the data by the primary's, where the reports say that this must be. Its process may end for that.
	// had says what the data is, for people.
	Replace(ctx context.Context, had Had) error
	// Detach makes it follow nobody without accepting writes, and returns only when it has verified that, with the report
	// of the moment after. Before it cuts, it leaves the link at most drain to end by itself: a primary that is dead sends
	// no more, and what it sent may still lie unread in the link's buffer.
	Detach(ctx context.Context, drain time.Duration) (Report, error)
	// Promote makes it accept writes and reachable for clients, and begins its history.
	Promote(ctx context.Context, quorum Quorum) (Report, error)
	// Configure changes what a policy may change while it serves.
	Configure(ctx context.Context, quorum Quorum) error
	// Pause holds back writes for at most d and reports the position they stopped at; Resume lets them go on.
	Pause(ctx context.Context, d time.Duration) (Report, error)
	Resume(ctx context.Context) error
}
