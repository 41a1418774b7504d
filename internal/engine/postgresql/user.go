package postgresql

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"understudy.dev/understudy/internal/engine"
)

// wrappers are where images have the library that gives a name to a user without one.
var wrappers = []string{"/usr/lib/libnss_wrapper.so", "/usr/lib/*/libnss_wrapper.so", "/usr/lib64/libnss_wrapper.so"}

// recordedNamed is recorded for the programs that insist on the user's having a name: initdb and, also inside pg_rewind, the
// single-user server.
func (p *PostgreSQL) recordedNamed(out string, command []string) (engine.Process, error) {
	named, err := p.named(os.Geteuid())
	if err != nil {
		return engine.Process{}, err
	}
	proc := p.recorded(out, command)
	proc.Env = append(proc.Env, named...)
	return proc, nil
}

// named is the environment in which a user has a name, for a pod may run under any number.
func (p *PostgreSQL) named(uid int) ([]string, error) {
	raw, err := os.ReadFile("/etc/passwd")
	if err == nil && hasName(string(raw), uid) {
		return nil, nil
	}
	for _, pattern := range wrappers {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			passwd, group := p.run("passwd"), p.run("group")
			line := fmt.Sprintf("postgres:x:%d:%d:PostgreSQL:%s:/bin/false\n", uid, os.Getegid(), p.disk.dir)
			if err := writeAtomically(passwd, []byte(line), false); err != nil {
				return nil, err
			}
			if err := writeAtomically(group, []byte(fmt.Sprintf("postgres:x:%d:\n", os.Getegid())), false); err != nil {
				return nil, err
			}
			return []string{"LD_PRELOAD=" + found[0], "NSS_WRAPPER_PASSWD=" + passwd, "NSS_WRAPPER_GROUP=" + group}, nil
		}
	}
	return nil, fmt.Errorf("making or rewinding data: the user %d has no name in /etc/passwd, without which PostgreSQL does nothing, and the image "+
		"has no libnss_wrapper.so: run the pod as the image's own user (999, or 70 in an image of alpine)", uid)
}

// hasName reports whether a passwd file knows a user.
func hasName(passwd string, uid int) bool {
	for _, line := range strings.Split(passwd, "\n") {
		if fields := strings.Split(line, ":"); len(fields) > 2 && fields[2] == strconv.Itoa(uid) {
			return true
		}
	}
	return false
}
