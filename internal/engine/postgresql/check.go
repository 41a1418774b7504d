package postgresql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"understudy.dev/understudy/internal/agentconfig"
)

// The image's own server checks a configuration: asked for shared_memory_size, which it must compute, `postgres -C` reads all
// parameters, loads the libraries and compares what depends on each other, and ends without having started. It takes a
// folder for its data and locks it, so it gets one of its own with what it looks at: it can run beside a server.

// Such folders; their files are copies.
const (
	scratchDir = "check"        // of the check before a start
	besideDir  = "check-beside" // of one beside a server
)

var scratchFiles = []string{"PG_VERSION", "global/pg_control", "postgresql.auto.conf"}

// prepareScratch makes a folder from a cluster.
func prepareScratch(dir, cluster string) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Join(dir, "global"), 0o700)); err != nil {
		return fmt.Errorf("preparing the check of PostgreSQL's configuration: %w", err)
	}
	for _, name := range scratchFiles {
		raw, err := readStable(filepath.Join(cluster, name))
		if err != nil {
			return fmt.Errorf("preparing the check of PostgreSQL's configuration: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			return fmt.Errorf("preparing the check of PostgreSQL's configuration: %w", err)
		}
	}
	return nil
}

// readStable reads a file that the server may be writing, until two reads agree; a missing one is empty.
func readStable(path string) (raw []byte, err error) {
	for range 10 {
		before := raw
		if raw, err = os.ReadFile(path); errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		if err != nil || (before != nil && bytes.Equal(before, raw)) {
			break
		}
	}
	return raw, err
}

// checkCommand checks the configuration in a file.
func (p *PostgreSQL) checkCommand(bin, dir, file string) []string {
	args := append([]string{filepath.Join(bin, "postgres"), "-C", "shared_memory_size"}, p.serverArgs(dir)...)
	return append(args, "-c", "config_file="+file)
}

// checkNameOf is where the check of a configuration is recorded: a new pod and a new configuration are checked anew.
func (p *PostgreSQL) checkNameOf(r agentconfig.Reloadable) string {
	return p.run("check-" + digest(p.configurationOf(r)+strings.Join(p.serverArgs(""), "\n")))
}

func (p *PostgreSQL) checkName() string { return p.checkNameOf(p.used()) }

func (p *PostgreSQL) checkedOf(r agentconfig.Reloadable) outcome {
	raw, err := os.ReadFile(p.checkNameOf(r) + ".exit")
	switch {
	case err != nil:
		return unknown
	case strings.TrimSpace(string(raw)) == "0":
		return succeed
	}
	return failed
}

func (p *PostgreSQL) checked() outcome { return p.checkedOf(p.used()) }

// checkBeside checks a configuration while the server runs, and says what is wrong with it. PID 1 reaps every child and tells
// nobody, so it is the server that runs the program and waits for it.
func (p *PostgreSQL) checkBeside(ctx context.Context, c *conn, r agentconfig.Reloadable) (why string, err error) {
	bin, err := p.binDir()
	if err != nil {
		return "", err
	}
	file, out := p.run("candidate.conf"), p.checkNameOf(r)
	if err := errors.Join(prepareScratch(p.run(besideDir), p.data()), writeAtomically(file, []byte(p.configurationOf(r)), false)); err != nil {
		return "", err
	}
	if err := os.Remove(out + ".exit"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("preparing the check of PostgreSQL's configuration: %w", err)
	}
	words := append([]string{"/bin/sh", "-c", record, "understudy-stage", out}, p.checkCommand(bin, p.run(besideDir), file)...)
	for i, w := range words {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	command := "unset PGDATA PGOPTIONS; LC_ALL=C " + strings.Join(words, " ")
	_, err = c.query(ctx, "COPY (SELECT WHERE false) TO PROGRAM "+quoteLiteral(command))
	switch p.checkedOf(r) {
	case succeed:
		return "", nil
	case failed:
		return complaint(saidAll(out)), nil
	}
	return "", fmt.Errorf("checking PostgreSQL's configuration: %w", errors.Join(err, errors.New("it did not come to its end")))
}
