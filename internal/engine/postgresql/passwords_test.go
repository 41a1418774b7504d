package postgresql

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

// logIn tries a role's password, with TLS or without.
func (m *member) logIn(role, password, sslmode string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := pgconn.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d dbname=app sslmode=%s", m.config.Port, sslmode))
	if err != nil {
		return err
	}
	c.User, c.Password = role, password
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err == nil {
		err = conn.Close(ctx)
	}
	return err
}

// vault holds the Secrets that a kubelet would keep in files.
type vault struct {
	mu sync.Mutex
	s  Secrets
}

func (v *vault) read() (Secrets, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.s, nil
}

func (v *vault) put(owner, root string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.s.Owner, v.s.Superuser = owner, root
}

func (m *member) letsIn(role, password string) {
	m.t.Helper()
	until(m.t, role+" logs in with "+password, func() bool {
		_, _ = m.report() // as the agent's probes
		return m.logIn(role, password, "require") == nil
	})
}

// Passwords follow their Secrets, on whoever is primary; the superuser needs TLS, and nothing of it is in the log.
func TestPasswordsFollowTheirSecrets(t *testing.T) {
	t.Parallel()
	ca, v := newAuthority(t), &vault{s: Secrets{Owner: ownerPassword, Superuser: "root's first"}}
	with := func(n int) *member {
		m := newMember(t, n, func(c *agentconfig.PostgreSQL) {
			c.TLS, c.SuperuserLogin, c.HBA = ca.of(c.Member), true, []string{"hostssl all all all scram-sha-256"}
			c.Parameters["log_statement"], c.Parameters["log_min_duration_statement"] = "all", "0"
		})
		m.secrets.Again = v.read
		return m.start().running()
	}
	a, b := with(0), with(1)
	a.promote(engine.Quorum{})
	a.letsIn(superuser, "root's first")
	a.letsIn(a.config.Owner, ownerPassword)
	for what, err := range map[string]error{
		"without TLS":             a.logIn(superuser, "root's first", "disable"),
		"with the owner's":        a.logIn(superuser, ownerPassword, "require"),
		"the owner with the root": a.logIn(a.config.Owner, "root's first", "require"),
	} {
		if err == nil {
			t.Errorf("%s: it was let in", what)
		}
	}
	b.follows(a)

	v.put("owner's second", "root's second")
	a.letsIn(superuser, "root's second")
	a.letsIn(a.config.Owner, "owner's second")
	if a.logIn(superuser, "root's first", "require") == nil || a.logIn(a.config.Owner, ownerPassword, "require") == nil {
		t.Error("an old password is still good")
	}
	v.put("owner's second", "dräußen") // cannot be one: the old one stays
	r, _ := a.report()
	b.reaches(r.Offset)

	// The next primary looks by itself, also at what somebody changed by SQL, and while that is locked its probes go on.
	v.put("owner's third", "root's third")
	if _, err := b.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	b.promote(engine.Quorum{})
	b.letsIn(superuser, "root's third")
	c, err := b.dial(within(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	lock := "BEGIN; ALTER ROLE " + quoteName(b.config.Owner) + " PASSWORD 'by hand'"
	if _, err := c.query(within(t), lock); err != nil {
		t.Fatal(err)
	}
	v.put("owner's fourth", "root's third")
	until(t, "the change waits for the lock", func() bool {
		if r, ok := b.report(); !ok || !r.Primary {
			t.Fatalf("a probe that nobody waits for: %+v, %t", r, ok)
		}
		return b.admin("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'understudy-agent'") != "0"
	})
	if _, err := c.query(within(t), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	b.letsIn(b.config.Owner, "owner's fourth")
	for _, m := range []*member{a, b} {
		raw, err := os.ReadFile(m.log.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"root's", "owner's second", "owner's fourth", "SCRAM-SHA-256$"} {
			if strings.Contains(string(raw), secret) {
				t.Errorf("the log of %s holds %q", m.name, secret)
			}
		}
	}
}

// Without the wish nobody logs in as superuser, whatever password it has.
func TestNoSuperuserOverTheNetwork(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	m := newMember(t, 0, func(c *agentconfig.PostgreSQL) { c.TLS = ca.of("db-0") }).start().running()
	m.promote(engine.Quorum{})
	c, err := m.dial(within(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if _, err := c.query(within(t), "ALTER ROLE postgres PASSWORD 'known'"); err != nil {
		t.Fatal(err)
	}
	if err := m.logIn(superuser, "known", "require"); err == nil || !strings.Contains(err.Error(), "pg_hba.conf rejects") {
		t.Errorf("a superuser from the network: %v", err)
	}
}

func TestVerifies(t *testing.T) {
	v, err := verifier("it", "pass")
	if err != nil || !verifies(v, "pass") || verifies(v, "Pass") || verifies(v+"x", "pass") {
		t.Errorf("%q, %v", v, err)
	}
	for _, bad := range []string{"", "md5abc", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:AAAA$a:b", "SCRAM-SHA-256$99999999999:AAAA$a:b", "SCRAM-SHA-256$4096:!$a:b"} {
		if verifies(bad, "pass") {
			t.Errorf("%q verifies", bad)
		}
	}
}
