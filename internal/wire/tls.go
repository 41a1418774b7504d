package wire

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Identity reads a certificate, its key and the authorities from a directory, and again when they changed on disk, so
// that a rotation needs no restart.
type Identity struct {
	dir, name string
	mu        sync.Mutex
	stamp     time.Time
	cert      *tls.Certificate
	roots     *x509.CertPool
}

// NewIdentity loads NAME.crt, NAME.key and ca.crt from dir.
func NewIdentity(dir, name string) (*Identity, error) {
	id := &Identity{dir: dir, name: name}
	_, _, err := id.load()
	return id, err
}

func (id *Identity) load() (*tls.Certificate, *x509.CertPool, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	crt := filepath.Join(id.dir, id.name+".crt")
	info, err := os.Stat(crt)
	if err != nil {
		return id.cert, id.roots, fmt.Errorf("reading the certificate of %s: %w", id.name, err)
	}
	if id.cert != nil && info.ModTime().Equal(id.stamp) {
		return id.cert, id.roots, nil
	}
	cert, err := tls.LoadX509KeyPair(crt, filepath.Join(id.dir, id.name+".key"))
	if err != nil {
		return id.cert, id.roots, fmt.Errorf("loading the certificate of %s: %w", id.name, err)
	}
	pem, err := os.ReadFile(filepath.Join(id.dir, "ca.crt"))
	if err != nil {
		return id.cert, id.roots, fmt.Errorf("reading the authorities: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return id.cert, id.roots, fmt.Errorf("reading the authorities: %s holds no certificate", filepath.Join(id.dir, "ca.crt"))
	}
	id.cert, id.roots, id.stamp = &cert, roots, info.ModTime()
	return id.cert, id.roots, nil
}

// Server is the configuration for accepting peers and the operator. A broken new certificate leaves the old one in use.
func (id *Identity) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cert, roots, err := id.load()
			if cert == nil {
				return nil, err
			}
			return ServerConfig(*cert, roots), nil
		},
	}
}

// Client is the configuration for dialling a peer, as of now.
func (id *Identity) Client() (*tls.Config, error) {
	cert, roots, err := id.load()
	if cert == nil {
		return nil, err
	}
	return ClientConfig(*cert, roots), nil
}

// ServerConfig demands a client certificate of the same authority.
func ServerConfig(cert tls.Certificate, roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{cert},
		ClientCAs:              roots,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		SessionTicketsDisabled: true, // each connection proves the certificate anew
	}
}

// ClientConfig verifies the server by the same authority; Dial adds the name.
func ClientConfig(cert tls.Certificate, roots *x509.CertPool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: roots}
}
