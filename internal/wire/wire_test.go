package wire

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"understudy.dev/understudy/internal/failover"
)

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return authority{cert, key, pool}
}

func (a authority) issue(t *testing.T, name string, notAfter time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func hello(member, service string) Hello {
	return Hello{ServiceUID: service, Run: failover.Run{Member: member, PodUID: "u", BootID: "b"}}
}

// meet lets a client and a server of given certificates and hellos shake hands.
func meet(t *testing.T, ca authority, clientCert tls.Certificate, clientHello Hello) (*Conn, *Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	type result struct {
		c   *Conn
		err error
	}
	accepted := make(chan result, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			accepted <- result{nil, err}
			return
		}
		c, err := Accept(context.Background(), raw, ServerConfig(ca.issue(t, "a-0", time.Now().Add(time.Hour)), ca.pool), hello("a-0", "svc"))
		accepted <- result{c, err}
	}()
	client, dialErr := Dial(context.Background(), l.Addr().String(), "a-0", ClientConfig(clientCert, ca.pool), clientHello)
	server := <-accepted
	if server.err != nil {
		return client, nil, server.err
	}
	return client, server.c, dialErr
}

func TestFramesTravel(t *testing.T) {
	ca := newAuthority(t)
	client, server, err := meet(t, ca, ca.issue(t, "a-1", time.Now().Add(time.Hour)), hello("a-1", "svc"))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Send(Frame{Heartbeat: &failover.Heartbeat{Epoch: 4}}); err != nil {
		t.Fatal(err)
	}
	if f, err := server.Receive(); err != nil || f.Heartbeat == nil || f.Heartbeat.Epoch != 4 {
		t.Errorf("got %+v, %v", f, err)
	}
	client.Close("done")
	if f, err := server.Receive(); err != nil || f.Goodbye == nil {
		t.Errorf("no goodbye before the end: %+v, %v", f, err)
	}
	if _, err := server.Receive(); !EndedByPeer(err) {
		t.Errorf("the end is %v, want an end of file", err)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	hour := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		cert  tls.Certificate
		hello Hello
		want  string
	}{
		"foreign authority":     {foreign.issue(t, "a-1", hour), hello("a-1", "svc"), "certificate"},
		"expired certificate":   {ca.issue(t, "a-1", time.Now().Add(-time.Minute)), hello("a-1", "svc"), "expired"},
		"another member's name": {ca.issue(t, "a-1", hour), hello("a-2", "svc"), "its certificate says"},
		"another service":       {ca.issue(t, "a-1", hour), hello("a-1", "other"), "service UID"},
	} {
		_, _, err := meet(t, ca, c.cert, c.hello)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v, want %q in it", name, err, c.want)
		}
	}
}

func TestGarbageIsRefused(t *testing.T) {
	ca := newAuthority(t)
	for name, body := range map[string][]byte{
		"a frame over the limit": binary.BigEndian.AppendUint32(nil, MaxFrame+1),
		"no JSON":                append(binary.BigEndian.AppendUint32(nil, 3), "{]x"...),
	} {
		client, server, err := meet(t, ca, ca.issue(t, "a-1", time.Now().Add(time.Hour)), hello("a-1", "svc"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.tls.Write(body); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Receive(); err == nil || EndedByPeer(err) {
			t.Errorf("%s: err = %v, want a refusal", name, err)
		}
	}
}
