package engine

import (
	"context"

	"understudy.dev/understudy/internal/agentconfig"
)

// Reconfigurer is an engine that takes in a part of its configuration while it runs.
type Reconfigurer interface {
	// Reconfigure makes the engine run what config says in that part, or refuses it and runs on with what it had. It is called
	// again and again, beside everything else, and costs next to nothing when nothing changed. An error says that nothing could
	// be found out now.
	Reconfigure(ctx context.Context, config agentconfig.Config) (Configuration, error)
}

// Configuration tells how far an engine has come with what it was to take in.
type Configuration struct {
	// Judged is the digest of the one that was judged last: it is in force, or was refused. Empty: none was yet.
	Judged string
	// Refused says why that one was refused, and what to do; empty: it was not.
	Refused string
	// RestartFor names what takes effect only when the engine is started again.
	RestartFor []string
}
