package load

import (
	"context"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgres is a PostgreSQL on the loopback, and a connection to it.
type postgres struct {
	config Config
	conn   *pgx.Conn
}

// postgresServer starts a new cluster with settings, as somebody else than root, as whom it refuses to run.
func postgresServer(t *testing.T, settings ...string) postgres {
	t.Helper()
	programs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(programs) == 0 {
		t.Skip("there is no /usr/lib/postgresql/*/bin/postgres")
	}
	dir, err := os.MkdirTemp("/tmp", "us-load") // t.TempDir is in a folder that only its owner may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		uid, gid := somebody(t)
		attributes.Credential = &syscall.Credential{Uid: uid, Gid: gid}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
	}
	bin, data := filepath.Dir(programs[0]), filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N")
	initdb.SysProcAttr, initdb.Dir = attributes, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("making a cluster: %v\n%s", err, out)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := postgres{config: Config{Address: listener.Addr().String(), Engine: PostgreSQL, User: "postgres", Database: "postgres"}}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	args := []string{"-D", data, "-p", strconv.Itoa(port), "-k", "", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	server := exec.Command(programs[0], args...)
	server.SysProcAttr, server.Dir = attributes, dir
	ctx := started(t, server)
	for p.conn == nil {
		how, err := p.config.WithDefaults().pgx()
		if err != nil {
			t.Fatal(err)
		}
		if p.conn, err = pgx.ConnectConfig(ctx, how); err != nil && ctx.Err() != nil {
			t.Fatalf("starting postgres %v: %v", args, err)
		}
		pause(ctx, 10*time.Millisecond)
	}
	t.Cleanup(func() { _ = p.conn.Close(context.WithoutCancel(t.Context())) })
	return p
}

func somebody(t *testing.T) (uid, gid uint32) {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Fatalf("neither a user postgres nor nobody to run PostgreSQL as: %v", err)
	}
	uid64, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid64, _ := strconv.ParseUint(u.Gid, 10, 32)
	return uint32(uid64), uint32(gid64)
}

// one is the first value of what a query answers.
func (p postgres) one(t *testing.T, sql string, args ...any) (value string) {
	t.Helper()
	if err := p.conn.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func (p postgres) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := p.conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
