package postgresql

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
)

// authority makes members' certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key = a.newKey()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	raw := a.sign(template, template, a.key)
	var err error
	if a.cert, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	a.write("ca.crt", "CERTIFICATE", raw)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return raw
}

func (a *authority) write(name, kind string, raw []byte) string {
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// of makes the certificate of a name.
func (a *authority) of(name string) *agentconfig.PostgreSQLTLS {
	key := a.newKey()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &agentconfig.PostgreSQLTLS{CertFile: a.write(name+".crt", "CERTIFICATE", a.sign(template, a.cert, key)),
		KeyFile: a.write(name+".key", "PRIVATE KEY", der), CAFile: filepath.Join(a.dir, "ca.crt")}
}

// With TLS, members are known by their certificates: they copy, stream and rewind, and whoever has another one cannot.
func TestMembersAreKnownByTheirCertificates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	with := func(n int, name string) *member {
		m := fromNothing(t, n, func(c *agentconfig.PostgreSQL) { c.TLS = ca.of(name) })
		m.secrets.Replication = ""
		return m.start().running()
	}
	a, b := with(0, "db-0"), with(1, "db-1")
	a.promote(engine.Quorum{})
	a.sql("CREATE TABLE t (n int)")
	b.follows(a)
	if _, err := b.Detach(within(t), 0); err != nil {
		t.Fatal(err)
	}
	a.sql("INSERT INTO t SELECT generate_series(1, 1000)")
	b.promote(engine.Quorum{})
	a.crash()
	until(t, "a is a standby again", func() bool { r, ok := a.report(); return ok && !r.Primary })
	a.follows(b)
	if ran := a.ran(); ran[len(ran)-2] != runRewind {
		t.Errorf("it rejoined by %v", ran)
	}

	b.config.TLS = ca.of("application")
	if c, err := b.dialPrimary(within(t), b.address); err == nil {
		c.close()
		t.Error("who is no member was let in as one")
	}
	b.config.TLS = ca.of("db-2")
	c, err := b.dialPrimary(within(t), b.address)
	if err != nil {
		t.Fatal("a member was not let in:", err)
	}
	c.close()
}

// A member that gives another member's name is thrown out: its certificate says who it is.
func TestBorrowedNamesEnd(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	a := newMember(t, 0, func(c *agentconfig.PostgreSQL) { c.TLS = ca.of("db-0") })
	b := newMember(t, 1, func(c *agentconfig.PostgreSQL) { c.TLS, c.ApplicationName = ca.of("db-1"), "db-2.uid2" })
	a.start().running()
	b.start().running()
	a.promote(engine.Quorum{Replicas: 1, Members: []string{"db-2.uid2"}})
	b.follows(a)
	const senders = "SELECT coalesce(min(pid), 0) FROM pg_stat_replication WHERE application_name = 'db-2.uid2'"
	first := a.admin(senders)
	until(t, "the connection with the borrowed name ends", func() bool { _, _ = a.report(); return a.admin(senders) != first })
}

// A certificate that was renewed is served by the server that runs, with nobody's session ended; one that cannot be read leaves the one before in use.
func TestRenewedCertificateIsServed(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	var config agentconfig.Config
	a := newMember(t, 0, func(c *agentconfig.PostgreSQL) {
		c.TLS = ca.of("db-0")
		config.PostgreSQL = c
	})
	a.start().running()
	a.promote(engine.Quorum{})
	before, started := a.served(), a.admin("SELECT pg_postmaster_start_time()")
	reconfigure := func() {
		if _, err := a.Reconfigure(within(t), config); err != nil {
			t.Fatal(err)
		}
	}
	reconfigure()
	if now := a.served(); now != before {
		t.Errorf("it serves certificate %s and not %s, though nothing was renewed", now, before)
	}
	ca.of("db-0")
	until(t, "the renewed certificate is served", func() bool { reconfigure(); return a.served() != before })
	renewed := a.served()
	if err := os.WriteFile(a.config.TLS.CertFile, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	reconfigure()
	until(t, "the server says that it cannot read it", func() bool { return strings.Contains(a.said(), "SSL configuration was not reloaded") })
	if now := a.served(); now != renewed {
		t.Errorf("it serves certificate %s and not %s", now, renewed)
	}
	if now := a.admin("SELECT pg_postmaster_start_time()"); now != started {
		t.Errorf("it was started again at %s", now)
	}
}

// served is the serial number of the certificate that the server shows.
func (m *member) served() string {
	m.t.Helper()
	c, err := net.Dial("tcp", m.address)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	answer := make([]byte, 1)
	if _, err := c.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // PostgreSQL's request for TLS
		m.t.Fatal(err)
	}
	if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 'S' {
		m.t.Fatalf("asking for TLS: %q, %v", answer, err)
	}
	shown := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // only which one it is, is asked here
	_ = shown.Handshake()                                         // it may refuse who has no certificate, after it showed its own
	certificates := shown.ConnectionState().PeerCertificates
	if len(certificates) == 0 {
		m.t.Fatal("no certificate was shown")
	}
	return certificates[0].SerialNumber.String()
}
