package postgresql

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"understudy.dev/understudy/internal/engine"
)

// spoil changes the processes of one program.
func (m *member) spoil(program string, change func(args []string) []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sabotage = func(proc *engine.Process) {
		if len(proc.Args) > 5 && strings.HasSuffix(proc.Args[5], program) {
			proc.Args = slices.Concat(proc.Args[:5], change(proc.Args[5:]))
		}
	}
}

func (m *member) mend() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sabotage = nil
}

// renew makes the pod anew: its volume stays, and the name it follows by is another.
func (m *member) renew() *member {
	m.kill()
	m.config.ApplicationName = m.name + ".anew"
	return m.start()
}

// givesUp waits until a member is told in vain to follow.
func givesUp(t *testing.T, m *member, primary *member) error {
	t.Helper()
	var last error
	until(t, "it gives up", func() bool {
		if _, ok := m.report(); !ok {
			return false
		}
		last = m.follow(within(t), primary.address)
		return engine.StuckFor(last) == engine.RejoinFailed
	})
	return last
}

func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// A copy that cannot be made is given up after some attempts, says why, and leaves the data as it was. The next pod tries as often.
func TestCopyThatCannotBeMade(t *testing.T) {
	t.Parallel()
	a, b := newMember(t, 0).start().running(), newMember(t, 1).start().running()
	a.promote(engine.Quorum{})
	b.spoil("pg_basebackup", func(args []string) []string {
		for i, arg := range args {
			args[i] = strings.Replace(arg, "--pgdata="+b.disk.path(copyDir), "--pgdata=/proc/none", 1)
		}
		return args
	})
	err := givesUp(t, b, a)
	wantWords(t, err, "rejoining the primary at "+a.address, "5 base backups", "/proc/none")
	if tried := new(RejoinError); !errors.As(err, &tried) || tried.Address != a.address {
		t.Errorf("%+v", tried)
	}
	tries := func() (n int) {
		for _, st := range b.ran() {
			if st == runCopy {
				n++
			}
		}
		return n
	}
	if n := tries(); n != maxAttempts {
		t.Errorf("%d copies were tried: %v", n, b.ran())
	}
	until(t, "it runs with what it had, which is nothing", func() bool {
		r, ok := b.report()
		return ok && !r.HasData
	})
	b.kill()
	b.start().running()
	if err := b.Follow(within(t), a.address); engine.StuckFor(err) != engine.RejoinFailed {
		t.Errorf("the same pod tries again: %v", err)
	}
	b.renew().running()
	wantWords(t, givesUp(t, b, a), "5 base backups")
	if n := tries(); n != 2*maxAttempts {
		t.Errorf("two pods tried %d copies", n)
	}
	b.mend()
	b.config.ApplicationName = b.name + ".third"
	b.kill()
	b.start().running().follows(a)
}

// Torn data is never served: when the attempts are over nothing is started any more, until a new pod tries again.
func TestTornDataThatCannotBeCopiedOver(t *testing.T) {
	t.Parallel()
	a, b := newMember(t, 0).start().running(), newMember(t, 1).start().running()
	a.promote(engine.Quorum{})
	b.kill()
	r, _ := a.report()
	system, _, _ := strings.Cut(r.History, "/")
	w := wish{Kind: wishCopy, Address: a.address, System: system, Pod: b.config.ApplicationName, Attempts: 1, Rewinds: 1, Reason: "pg_rewind: no"}
	if err := errors.Join(writeDurably(b.disk.note(tornFile), nil), saveJSON(b.disk.note(wishFile), w)); err != nil {
		t.Fatal(err)
	}
	b.spoil("pg_basebackup", func([]string) []string { return []string{"/bin/sh", "-c", "echo the network is down; exit 1"} })
	b.start()
	until(t, "it gives up", func() bool { return engine.StuckFor(b.failure()) == engine.RejoinFailed })
	wantWords(t, b.failure(), a.address, "1 rewind and 4 base backups", "pg_basebackup: the network is down")
	if ran := b.ran(); ran[len(ran)-1] != runCopy {
		t.Errorf("torn data was served: %v", ran)
	}
	const other = "127.0.0.1:1"
	if err := b.Follow(within(t), other); !errors.Is(err, engine.ErrLoading) { // it hears of another primary
		t.Error(err)
	}
	until(t, "it gives that one up too", func() bool { err := b.failure(); return err != nil && strings.Contains(err.Error(), other) })
	wantWords(t, b.failure(), "5 base backups")
	if err := b.Follow(within(t), a.address); !errors.Is(err, engine.ErrLoading) {
		t.Error(err)
	}
	b.mend()
	b.renew().running().follows(a)
}

// What a program says that fails in the same way again is the same, so that nothing is written for the time in it.
func TestWhatIsSaidHasNoTime(t *testing.T) {
	out := t.TempDir() + "/x"
	for _, stamp := range []string{"2026-11-24 19:58:43.481 GMT [31051] ", "2026-11-24 20:00:00.000 UTC [7] "} {
		if err := writeAtomically(out+".log", []byte(stamp+"FATAL:  no\n"+stamp+"HINT:  ask\n"), false); err != nil {
			t.Fatal(err)
		}
		if got := saidBy(out); got != "FATAL:  no; HINT:  ask" {
			t.Errorf("%q", got)
		}
	}
}

// The volume has no room for a copy: that is what people are told, and the data stays.
func TestCopyOnAFullVolume(t *testing.T) {
	t.Parallel()
	inOwnMounts := []string{"unshare", "-rm", "sh", "-c"}
	if out, err := exec.Command(inOwnMounts[0], append(inOwnMounts[1:], "mount -t tmpfs tmpfs /mnt")...).CombinedOutput(); err != nil {
		t.Skipf("needs the right to mount: %v: %s", err, out)
	}
	a, b := newMember(t, 0).start().running(), newMember(t, 1).start().running()
	a.promote(engine.Quorum{})
	b.spoil("pg_basebackup", func(args []string) []string {
		small := "mkdir " + b.disk.path(copyDir) + " && mount -t tmpfs -o size=8m tmpfs " + b.disk.path(copyDir) + ` && exec "$@"`
		return slices.Concat(inOwnMounts, []string{small, "sh"}, args)
	})
	wantWords(t, givesUp(t, b, a), "has no room for a copy beside the data", noSpace)
	b.mend()
	b.renew().running().follows(a)
}

func TestComplaintOfAFullVolume(t *testing.T) {
	d := disk{dir: t.TempDir()}
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	for log, full := range map[string]bool{
		"pg_basebackup: error: could not write to file \"x\": No space left on device\na\nb\nc\nd\n":                             true,
		"pg_basebackup: error: could not get COPY data stream: ERROR:  could not write to file \"y\": No space left on device\n": false,
		"pg_basebackup: error: connection refused\n":                                                                             false,
	} {
		if err := writeAtomically(d.note("copy.log"), []byte(log), false); err != nil {
			t.Fatal(err)
		}
		if got := d.complaint("copy"); strings.HasPrefix(got, "the volume has no room") != full || (!full && got+"\n" != log) {
			t.Errorf("%q became %q", log, got)
		}
	}
}
