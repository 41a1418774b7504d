// Package postgresql drives PostgreSQL 15 to 18.
//
// The server always starts as a standby that follows nobody and lets nobody in; everything else is an order. What its data is
// to become is on disk, and Process reads it there: see stage.go for the order of things.
package postgresql

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

// Secrets are the passwords. They reach the server through standard input and a file in memory, never an argument.
type Secrets struct {
	// Replication is the members' own; with TLS they have none and show their certificates.
	Replication string
	// Owner of the database that is made with the service.
	Owner string
	// Superuser's, where it may log in.
	Superuser string
	// Again reads them anew; nil: they stay what they are.
	Again func() (Secrets, error)
}

// PostgreSQL drives one server in this pod.
type PostgreSQL struct {
	config  agentconfig.PostgreSQL
	disk    disk
	runDir  string // in memory, this user's alone: configuration, socket, password file
	secrets Secrets

	probing  session // for probes
	orders   session // for orders, so that neither waits for the other
	wal      walSession
	watching atomic.Int64 // the backend of the session that does nothing

	changing atomic.Bool // passwords
	settled  atomic.Bool // the service has data of its own
	imports  atomic.Pointer[agentconfig.Import]
	members  atomic.Pointer[[]string] // all of the service

	mu         sync.Mutex
	proven     map[string]proven // by role
	stage      step              // what the process is that was started last
	life       int               // grows with each process
	major      int
	caughtUp   bool      // this life of the server has replayed all that its files had
	known      place     // where this life was when it was asked last; zero: not yet
	received   uint32    // the timeline that this life was seen to receive last
	lifetime   *lifetime // of this life
	generation int
	// certificates are the files that the server has read.
	certificates string
	inForce      int    // the generation that the server was last seen to run with
	prepared     string // the synchronous set to detach with, should this member be promoted next
	settings     settings
	tuning       tuning // what the user chooses
	door         door   // as pg_hba.conf has it
	upstream     string // the address it is to follow
	paused       *time.Timer
	wroteAt      time.Time
	knockedAt    time.Time
	linkLostAt   time.Time
	linkUpAt     time.Time     // since when each look found it up
	slotsDue     time.Time     // when members that did not come are held WAL for
	quorum       engine.Quorum // in force
	expected     *expected     // a connection to who may be the next primary
	pending      *wish         // what must be done to the data, before anybody was told that it will be lost
}

// New makes the adapter. dir is the data volume, runDir a folder in memory.
func New(config agentconfig.PostgreSQL, dir, runDir string, secrets Secrets) *PostgreSQL {
	wanted := config.Reloadable()
	config.Parameters, config.HBA = nil, nil // they change: see tuning
	p := &PostgreSQL{config: config, disk: disk{dir: dir, wal: config.WALDir, absent: &sync.Map{}}, runDir: runDir, secrets: secrets, lifetime: newLifetime(), tuning: tuning{wanted: wanted, inUse: wanted}}
	p.wal = newWALSession(func(ctx context.Context) (*conn, error) { return p.dialAs(ctx, replicationToo) })
	p.imports.Store(config.Import)
	p.members.Store(&config.Members)
	return p
}

var (
	_ engine.Engine = (*PostgreSQL)(nil)
	_ engine.Keeper = (*PostgreSQL)(nil)

	_ engine.Expecter = (*PostgreSQL)(nil)
	_ engine.Importer = (*PostgreSQL)(nil)
)

// Port clients connect to.
func (p *PostgreSQL) Port() int { return p.config.Port }

// Listens implements engine.Engine: pg_hba.conf is the door, not the port.
func (p *PostgreSQL) Listens() bool { return true }

// Persistent reports whether data outlives the process.
func (p *PostgreSQL) Persistent() bool { return p.config.Persistent }

func (p *PostgreSQL) run(name string) string { return filepath.Join(p.runDir, name) }
func (p *PostgreSQL) socketDir() string      { return p.run("socket") }
func (p *PostgreSQL) data() string           { return p.disk.path(dataDir) }

// serving reports whether the process that was started last is the server.
func (p *PostgreSQL) serving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stage == runServer
}

func (p *PostgreSQL) currentLife() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life
}
