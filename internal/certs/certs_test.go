package certs

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"testing"
	"time"
)

var (
	start  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	leaves = []Leaf{
		{Name: "cache-0", DNSNames: []string{"cache-0", "cache-0.cache-members.default.svc"}, Life: LeafLife},
		{Name: "cache-1", DNSNames: []string{"cache-1", "cache-1.cache-members.default.svc"}, Life: LeafLife},
	}
)

func renew(t *testing.T, now time.Time, old State) (State, time.Time) {
	t.Helper()
	out, next, err := Renew(rand.Reader, now, old, "understudy default/cache", leaves)
	if err != nil {
		t.Fatal(err)
	}
	if !next.After(now) {
		t.Fatalf("asks to be called again at %s, which is not after %s", next, now)
	}
	return out, next
}

func leafOf(t *testing.T, s State, name string) *x509.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(s.Members[name+".crt"], s.Members[name+".key"])
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func accepts(s State, leaf *x509.Certificate, host string, usage x509.ExtKeyUsage, now time.Time) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.Members[KeyAuthorityCert])
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

func TestFirst(t *testing.T) {
	s, next := renew(t, start, State{})
	for _, leaf := range leaves {
		cert := leafOf(t, s, leaf.Name)
		for _, host := range leaf.DNSNames {
			for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
				if err := accepts(s, cert, host, usage, start); err != nil {
					t.Errorf("%s as %s: %v", leaf.Name, host, err)
				}
			}
		}
		if cert.Subject.CommonName != leaf.Name {
			t.Errorf("common name %q", cert.Subject.CommonName)
		}
	}
	if want := RenewAt(leafOf(t, s, "cache-0")); !next.Equal(want) {
		t.Errorf("next look at %s, want two thirds of a leaf's life: %s", next, want)
	}
	if _, ok := s.Members[KeyAuthorityKey]; ok {
		t.Error("the authority's key went to the members")
	}
}

func TestNothingDue(t *testing.T) {
	s, _ := renew(t, start, State{})
	again, _ := renew(t, start.Add(50*24*time.Hour), s)
	if !maps.EqualFunc(s.Members, again.Members, bytes.Equal) || !maps.EqualFunc(s.Authority, again.Authority, bytes.Equal) {
		t.Error("something was renewed before its time")
	}
}

func TestLeafRenewed(t *testing.T) {
	s, next := renew(t, start, State{})
	again, later := renew(t, next, s)
	if bytes.Equal(s.Members["cache-0.crt"], again.Members["cache-0.crt"]) {
		t.Error("the leaf was not renewed at two thirds of its life")
	}
	if !bytes.Equal(s.Authority[KeyAuthorityCert], again.Authority[KeyAuthorityCert]) {
		t.Error("the authority was renewed with it")
	}
	if !later.After(next) {
		t.Errorf("next look %s", later)
	}
}

func TestDamagedLeaf(t *testing.T) {
	s, _ := renew(t, start, State{})
	broken := State{Authority: s.Authority, Members: maps.Clone(s.Members)}
	broken.Members["cache-0.key"] = s.Members["cache-1.key"]
	again, _ := renew(t, start, broken)
	leafOf(t, again, "cache-0")
	if !bytes.Equal(again.Members["cache-1.crt"], s.Members["cache-1.crt"]) {
		t.Error("the sound leaf was replaced too")
	}
}

// TestAuthorityRotation: at no moment is there a certificate in use that members do not trust.
func TestAuthorityRotation(t *testing.T) {
	s, _ := renew(t, start, State{})
	for name, lose := range map[string]func(State) State{
		"at two thirds of its life": func(s State) State { return s },
		"its Secret was deleted":    func(s State) State { return State{Members: s.Members} },
	} {
		t.Run(name, func(t *testing.T) {
			now := start.Add(time.Hour)
			old := s
			if name == "at two thirds of its life" {
				now = start.Add(AuthorityLife * 2 / 3)
				old, _ = renew(t, now.Add(-time.Hour), s) // fresh leaves of the old authority
			}
			first, next := renew(t, now, lose(old))
			if bytes.Equal(first.Authority[KeyAuthorityCert], old.Authority[KeyAuthorityCert]) {
				t.Fatal("no new authority")
			}
			if !bytes.Equal(first.Members["cache-0.crt"], old.Members["cache-0.crt"]) {
				t.Error("leaves changed before members could learn of the new authority")
			}
			if err := accepts(first, leafOf(t, old, "cache-0"), "cache-0", x509.ExtKeyUsageServerAuth, now); err != nil {
				t.Errorf("an old leaf is not trusted during the overlap: %v", err)
			}
			second, _ := renew(t, next, first)
			if bytes.Equal(second.Members["cache-0.crt"], old.Members["cache-0.crt"]) {
				t.Errorf("leaves were not renewed after the overlap, at %s", next)
			}
			if err := accepts(first, leafOf(t, second, "cache-0"), "cache-0", x509.ExtKeyUsageServerAuth, next); err != nil {
				t.Errorf("a new leaf is not trusted by who has the bundle of before: %v", err)
			}
			third, _ := renew(t, now.Add(retire+time.Minute), second)
			if len(third.Authority[KeyPreviousCert]) > 0 || bytes.Count(third.Members[KeyAuthorityCert], []byte("BEGIN CERTIFICATE")) != 1 {
				t.Error("the old authority is trusted for ever")
			}
		})
	}
}

func TestOperatorCertificate(t *testing.T) {
	s, _ := renew(t, start, State{})
	pair, err := Issue(rand.Reader, start, Pair{Cert: s.Authority[KeyAuthorityCert], Key: s.Authority[KeyAuthorityKey]}, Leaf{Name: "understudy-operator", Life: OperatorLife})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := Parse(pair.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := accepts(s, cert, "", x509.ExtKeyUsageClientAuth, start); err != nil {
		t.Error(err)
	}
	if !cert.NotAfter.Equal(start.Add(OperatorLife)) {
		t.Errorf("valid until %s", cert.NotAfter)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, raw := range []string{"", "x", "-----BEGIN RSA-----\n-----END RSA-----\n"} {
		if _, err := Parse([]byte(raw)); err == nil {
			t.Errorf("%q was read as a certificate", raw)
		}
	}
}
