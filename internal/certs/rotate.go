package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"time"
)

const (
	// Overlap is how long members learn of a new authority before anything but a missing or expired certificate is
	// signed by it: kubelets bring a changed Secret into running pods within about two minutes.
	Overlap = time.Hour
	// retire is how long after its successor was made an authority stays trusted, at least.
	retire = 24 * time.Hour
)

// The keys of the two Secrets.
const (
	KeyAuthorityCert = "ca.crt"
	KeyAuthorityKey  = "ca.key"
	KeyPreviousCert  = "previous.crt"
)

// State is the content of a service's two Secrets: the authority's, which only the operator reads, and the members'.
type State struct {
	Authority map[string][]byte
	Members   map[string][]byte
}

// Renew returns the state wanted at now, the same content where nothing is due, and when to look again.
func Renew(random io.Reader, now time.Time, old State, name string, leaves []Leaf) (State, time.Time, error) {
	authority, err := renewAuthority(random, now, old, name)
	if err != nil {
		return State{}, time.Time{}, err
	}
	pair := Pair{Cert: authority[KeyAuthorityCert], Key: authority[KeyAuthorityKey]}
	current, err := Parse(pair.Cert)
	if err != nil {
		return State{}, time.Time{}, fmt.Errorf("reading the authority: %w", err)
	}
	next := RenewAt(current)
	settled := Issued(current).Add(Overlap)
	members := map[string][]byte{}
	foreign := false
	for _, leaf := range leaves {
		have := Pair{Cert: old.Members[leaf.Name+".crt"], Key: old.Members[leaf.Name+".key"]}
		pool := trust(authority)
		cert := usable(now, have, leaf, pool)
		ours := cert != nil && cert.CheckSignatureFrom(current) == nil
		if cert == nil || !now.Before(RenewAt(cert)) || (!ours && !now.Before(settled)) {
			if have, err = Issue(random, now, pair, leaf); err != nil {
				return State{}, time.Time{}, err
			}
			if cert, err = Parse(have.Cert); err != nil {
				return State{}, time.Time{}, err
			}
			ours = true
		}
		if !ours {
			foreign = true
			next = earliest(next, settled)
		}
		members[leaf.Name+".crt"], members[leaf.Name+".key"] = have.Cert, have.Key
		next = earliest(next, RenewAt(cert))
	}
	if len(authority[KeyPreviousCert]) > 0 && !foreign {
		if gone := Issued(current).Add(retire); now.Before(gone) {
			next = earliest(next, gone)
		} else {
			authority = maps.Clone(authority)
			delete(authority, KeyPreviousCert)
		}
	}
	members[KeyAuthorityCert] = append(bytes.Clone(pair.Cert), authority[KeyPreviousCert]...)
	return State{Authority: authority, Members: members}, next, nil
}

// renewAuthority keeps the authority, or makes a new one and keeps the old one's certificate trusted for the overlap.
// When the authority's Secret was lost, what the members trust at present takes the old one's place.
func renewAuthority(random io.Reader, now time.Time, old State, name string) (map[string][]byte, error) {
	have := Pair{Cert: old.Authority[KeyAuthorityCert], Key: old.Authority[KeyAuthorityKey]}
	if pair, err := tls.X509KeyPair(have.Cert, have.Key); err == nil && now.Before(RenewAt(pair.Leaf)) {
		return old.Authority, nil
	}
	fresh, err := NewAuthority(random, now, name)
	if err != nil {
		return nil, err
	}
	previous := have.Cert
	if _, err := Parse(previous); err != nil {
		previous = old.Members[KeyAuthorityCert]
	}
	out := map[string][]byte{KeyAuthorityCert: fresh.Cert, KeyAuthorityKey: fresh.Key}
	if len(previous) > 0 {
		out[KeyPreviousCert] = previous
	}
	return out, nil
}

func trust(authority map[string][]byte) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority[KeyAuthorityCert])
	pool.AppendCertsFromPEM(authority[KeyPreviousCert])
	return pool
}

// usable returns the certificate of a pair if it fits its key, its names and a trusted authority at now.
func usable(now time.Time, have Pair, leaf Leaf, pool *x509.CertPool) *x509.Certificate {
	pair, err := tls.X509KeyPair(have.Cert, have.Key)
	if err != nil || pair.Leaf.Subject.CommonName != leaf.Name {
		return nil
	}
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	for _, host := range leaf.DNSNames {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: pool, CurrentTime: now, KeyUsages: usage}); err != nil {
			return nil
		}
	}
	return pair.Leaf
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
