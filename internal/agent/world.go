package agent

import (
	"context"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/turns"
	"understudy.dev/understudy/internal/wire"
)

// World is the time and the concurrency around the loop. Everything that waits goes through it, so that the simulator in
// internal/failover/simulator can play whole services with this very agent on virtual time.
type World interface {
	// Now is CLOCK_BOOTTIME.
	Now() failover.Instant
	// Wall is the wall clock, for records that people read.
	Wall() time.Time
	// WallOffset is the wall clock minus Now; false when the two could not be read close enough together.
	WallOffset() (time.Duration, bool)
	// After runs f on the loop, d later.
	After(d time.Duration, f func())
	// Beside runs work beside the loop and afterwards, on the loop, then. limit is the deadline of work's context; 0: none.
	Beside(limit time.Duration, work func(ctx context.Context), then func())
}

// Kube is the part of the Kubernetes API an agent uses: its one Lease, the one that its policy's services share, and the primary's slices.
type Kube interface {
	// ReadLease reads from the API server's quorum.
	ReadLease(ctx context.Context) (failover.Lease, error)
	// SwapLease writes l if the Lease still has the version that l was read under, and returns it as written.
	SwapLease(ctx context.Context, l failover.Lease) (failover.Lease, error)
	// TakeTurn counts the service among those that fail over at once, in the Lease of that name, where the others leave it a turn; EndTurn takes
	// it out again.
	TakeTurn(ctx context.Context, register string, mine turns.Turn, limits turns.Limits) (turns.Answer, error)
	EndTurn(ctx context.Context, register, service string, epoch int64) error
	Slice(ctx context.Context, name string) (*discoveryv1.EndpointSlice, error)
	UpdateSlice(ctx context.Context, s *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error)
}

// Guard is the process that kills the engine at an instant, whatever the agent does; internal/guard has the real one.
type Guard interface {
	// PID of the running guard, 0 if there is none.
	PID() int
	// Start returns when a guard sleeps; Ended notes that it was reaped.
	Start(binary string) error
	Ended()
	// Arm lets the engine write until the instant; Disarm says that no engine may write.
	Arm(until failover.Instant)
	Disarm()
	// Fired is the instant of the last kill, 0 if there was none; Lateness the largest delay it saw.
	Fired() failover.Instant
	Lateness() time.Duration
}

// Processes are the children of PID 1; internal/supervisor has the real ones.
type Processes interface {
	Start(p engine.Process) (pid int, err error)
	// Kill sends every process but the caller its end, and waits for nothing: what ends may finish the call it is in.
	Kill() error
	// KillAll kills every process but the caller and returns when each child is reaped.
	KillAll(ctx context.Context) error
}

// Store keeps what must outlive the agent's process.
type Store interface {
	// LoadPromise says why when it may have forgotten something.
	LoadPromise(podUID string) (d failover.Durable, why string)
	// SavePromise returns when it is on disk.
	SavePromise(d failover.Durable) error
	LoadData() (DataRecord, error)
	SaveData(d DataRecord) error
	// LoadHistory is for people only, so what is damaged is dropped.
	LoadHistory() []wire.Takeover
	SaveHistory(list []wire.Takeover) error
}

// Mesh keeps one connection of ours to every member and accepts theirs.
type Mesh interface {
	// Members sets whom to keep connections to.
	Members(list []string)
	// Gone finds out whether the process behind a run whose connection ended is gone: its port refuses (proved), or a
	// later boot of the same pod answers (later).
	Gone(run failover.Run, address string, then func(proved bool, later failover.Run))
}

// Relay leads clients that still come to a former primary's address to its successor; internal/relay has the real one.
type Relay interface {
	// Listen takes the engine's port, which nobody has now; Lead says where the successor's engine listens.
	Listen()
	Lead(address string)
	// Stop gives the port back.
	Stop()
}

// Peer is the far end of one connection.
type Peer interface {
	// Send queues a frame; a peer that does not read loses it.
	Send(f wire.Frame)
	// Close says goodbye first, so that the end proves nothing.
	Close(reason string)
	RemoteIP() string
}

// Link is one connection to another member or to the operator.
type Link struct {
	Run      failover.Run // zero: the operator
	Outbound bool
	Peer     Peer
	watches  bool // the operator asked for Status
}
