package postgresql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

// TestMain runs the tests as somebody else than root, as whom PostgreSQL refuses to run.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		code := m.Run()
		dropTemplate()
		os.Exit(code)
	}
	name := "postgres"
	if _, err := user.Lookup(name); err != nil {
		name = "nobody"
	}
	u, err := user.Lookup(name)
	if err != nil {
		fmt.Println("neither a user postgres nor nobody to run the tests as:", err)
		os.Exit(1)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	// The list of files that go test caches by is in a folder of root's.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return strings.HasPrefix(a, "-test.testlogfile") })
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

const (
	memberPassword = "the members' pass:word\\"
	ownerPassword  = "the owner's"
)

// member runs an adapter as the agent does: one process after another, everything killed between two.
type member struct {
	*PostgreSQL
	t       *testing.T
	name    string
	address string
	log     *os.File

	mu     sync.Mutex
	cmd    *exec.Cmd
	proc   engine.Process
	ended  chan struct{}
	stages []step
	// segments of shared memory that its servers had.
	segments map[int]bool
	lastErr  error
	halt     bool
	// sabotage changes the next processes.
	sabotage func(*engine.Process)
	done     chan struct{} // closed when the loop is over
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// needServer skips a test only where there is no PostgreSQL.
func needServer(t *testing.T) {
	t.Helper()
	if _, err := (&PostgreSQL{}).binDir(); err != nil {
		t.Skip(err)
	}
}

type option func(*agentconfig.PostgreSQL)

// configOf is what the member db-N of three is told.
func configOf(t *testing.T, n int) agentconfig.PostgreSQL {
	t.Helper()
	name := fmt.Sprintf("db-%d", n)
	return agentconfig.PostgreSQL{
		Port: freePort(t), Persistent: true, ApplicationName: name + ".uid" + strconv.Itoa(n), Member: name, Members: []string{"db-0", "db-1", "db-2"},
		Parameters: map[string]string{"shared_buffers": "16MB", "max_connections": "20"}, Database: "app", Owner: `o"wner`,
		HBA: []string{"host all all all scram-sha-256"},
	}
}

// makeMember makes a member db-N of three, which does not run yet.
func makeMember(t *testing.T, n int, options ...option) *member {
	t.Helper()
	needServer(t)
	dir, err := os.MkdirTemp("/tmp", "us-pg") // short, for the socket's name
	if err != nil {
		t.Fatal(err)
	}
	config := configOf(t, n)
	name := config.Member
	for _, o := range options {
		o(&config)
	}
	m := &member{t: t, name: name, segments: map[int]bool{}, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(config.Port))}
	volume := filepath.Join(dir, "volume")
	if err := os.MkdirAll(volume, 0o700); err != nil {
		t.Fatal(err)
	}
	m.PostgreSQL = New(config, volume, filepath.Join(dir, "run"), Secrets{Replication: memberPassword, Owner: ownerPassword})
	if m.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			t.Logf("%s: stages %v, error %v, log:\n%s", name, m.ran(), m.failure(), m.said())
		}
		m.removeSegments()
		_ = os.RemoveAll(dir)
	})
	return m
}

var noise = regexp.MustCompile("starting up|waiting for WAL|not yet accepting|Consistent recovery state has not")

// said is the end of the engine's log, without what every probe of a starting server leaves.
func (m *member) said() string {
	raw, _ := os.ReadFile(m.log.Name())
	var kept []string
	for _, line := range strings.Split(string(raw), "\n") {
		if !noise.MatchString(line) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-25):], "\n")
}

// start starts it, or starts it again after a kill.
func (m *member) start() *member {
	m.mu.Lock()
	m.halt, m.done = false, make(chan struct{})
	done := m.done
	m.mu.Unlock()
	go m.loop(done)
	return m
}

func (m *member) loop(done chan struct{}) {
	defer close(done)
	for m.once() {
	}
}

// once is one life of the engine's process, and reports whether there is to be another.
func (m *member) once() bool {
	proc, err := m.Process()
	m.mu.Lock()
	m.lastErr = err
	if m.halt {
		m.mu.Unlock()
		return false
	}
	if err != nil {
		m.mu.Unlock()
		time.Sleep(20 * time.Millisecond) // the agent's back-off
		return true
	}
	if m.sabotage != nil {
		m.sabotage(&proc)
	}
	cmd := &exec.Cmd{Path: proc.Path, Args: proc.Args, Env: proc.Env, Dir: proc.Dir, Stdin: strings.NewReader(string(proc.Stdin)),
		Stdout: m.log, Stderr: m.log, SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}}
	if err := cmd.Start(); err != nil {
		m.lastErr = err
		m.mu.Unlock()
		return false
	}
	m.cmd, m.proc, m.ended = cmd, proc, make(chan struct{})
	m.stages = append(m.stages, m.stageNow())
	ended := m.ended
	m.mu.Unlock()
	_ = cmd.Wait()
	m.fence()
	close(ended)
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.halt
}

func (m *member) stageNow() step {
	m.PostgreSQL.mu.Lock()
	defer m.PostgreSQL.mu.Unlock()
	return m.stage
}

func (m *member) ran() []step {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]step(nil), m.stages...)
}

func (m *member) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lastErr
}

// fence kills everything that works in the member's volume, as kill(-1) does in its container.
func (m *member) fence() {
	for range 1000 {
		if m.killOnce() == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	m.t.Error("processes could not be killed")
}

func (m *member) killOnce() int {
	n := 0
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		cwd, e2 := os.Readlink("/proc/" + e.Name() + "/cwd")
		if err != nil || e2 != nil || (cwd != m.disk.dir && !strings.HasPrefix(cwd, m.disk.dir+"/")) {
			continue
		}
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			n++
		}
	}
	return n
}

// noteSegments remembers the shared memory of the server that runs. PostgreSQL takes back what a killed server left when it starts on the same data again; the
// tests throw data away, and a machine has room for some thousands of segments.
func (m *member) noteSegments() {
	for _, depth := range []string{"*", "*/*", "*/*/*"} {
		files, _ := filepath.Glob(filepath.Join(m.disk.dir, depth, "postmaster.pid"))
		for _, file := range files {
			raw, _ := os.ReadFile(file)
			lines := strings.Split(string(raw), "\n")
			if len(lines) < 7 {
				continue
			}
			if _, id, ok := strings.Cut(strings.TrimSpace(lines[6]), " "); ok { // its key, and the segment
				if n, err := strconv.Atoi(strings.TrimSpace(id)); err == nil {
					m.mu.Lock()
					m.segments[n] = true
					m.mu.Unlock()
				}
			}
		}
	}
}

// removeSegments gives back what is left of them, once nobody uses it.
func (m *member) removeSegments() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.segments {
		var held unix.SysvShmDesc
		if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &held); err == nil && held.Nattch == 0 {
			_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		}
	}
}

// kill ends the member as a power cut of its node does, for good until start.
func (m *member) kill() {
	m.noteSegments()
	m.mu.Lock()
	m.halt = true
	done := m.done
	m.mu.Unlock()
	if done == nil {
		return
	}
	for {
		m.killOnce()
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// crash kills the engine's processes alone; the next one follows.
func (m *member) crash() {
	m.noteSegments()
	m.killOnce()
}

// until polls until f is true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// report is what a probe says now; ok is false while there is no answer or it loads.
func (m *member) report() (r engine.Report, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r, err := m.Probe(ctx)
	return r, err == nil && !r.Loading
}

func (m *member) running() *member {
	m.t.Helper()
	until(m.t, m.name+" runs", func() bool { _, ok := m.report(); return ok })
	return m
}

// promote makes it primary.
func (m *member) promote(q engine.Quorum) engine.Report {
	m.t.Helper()
	r, err := m.Promote(within(m.t), q)
	if err != nil {
		m.t.Fatal(err)
	}
	if !r.Primary || !r.HasData {
		m.t.Fatalf("promoted: %+v", r)
	}
	return r
}

// follow gives the order, and lets the data be replaced at once where that must be.
func (m *member) follow(ctx context.Context, address string) error {
	if err := m.Follow(ctx, address); err != nil {
		return err
	}
	return m.Replace(ctx, engine.Had{Epoch: 7, Primary: true})
}

// follows gives the order until the link is up, as the agent does.
func (m *member) follows(primary *member) *member {
	m.t.Helper()
	told := 0
	until(m.t, m.name+" follows "+primary.name, func() bool {
		r, ok := m.report()
		if ok && r.LinkUp && r.Upstream == primary.address && !r.Primary {
			return true
		}
		if ok && r.Upstream != primary.address {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if err := m.follow(ctx, primary.address); err != nil {
				m.t.Logf("%s: %v", m.name, err)
			}
			told++
		}
		return false
	})
	return m
}

// reaches waits until it has as much as the primary had.
func (m *member) reaches(offset int64) {
	m.t.Helper()
	until(m.t, m.name+" has everything", func() bool { r, ok := m.report(); return ok && r.Offset >= offset })
}

var errStages = errors.New("other stages")

// wantStages checks which processes ran, but for checks of the configuration.
func (m *member) wantStages(want ...step) {
	m.t.Helper()
	var got []step
	for _, s := range m.ran() {
		if s != runCheck {
			got = append(got, s)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		m.t.Errorf("%v: %v, want %v", errStages, got, want)
	}
}
