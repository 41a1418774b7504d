// Package certs makes and renews the certificates of one service: an authority of its own, a leaf for each member, and
// short-lived ones for the operator. Its functions are pure: time and randomness are parameters.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
)

const (
	// AuthorityLife is how long a service's authority is valid.
	AuthorityLife = 10 * 365 * 24 * time.Hour
	// LeafLife is how long a member's certificate is valid.
	LeafLife = 90 * 24 * time.Hour
	// OperatorLife is how long a client certificate of the operator is valid.
	OperatorLife = 24 * time.Hour
	// skew lets a machine whose clock is behind accept a new certificate.
	skew = 10 * time.Minute
)

// Pair is a certificate and its key in PEM.
type Pair struct {
	Cert []byte
	Key  []byte
}

// NewAuthority makes a self-signed authority.
func NewAuthority(random io.Reader, now time.Time, name string) (Pair, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(AuthorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return sign(random, template, nil, nil)
}

// Leaf names what a certificate is for.
type Leaf struct {
	Name     string   // common name
	DNSNames []string // subject alternative names
	Life     time.Duration
}

// Issue makes a certificate for both client and server use.
func Issue(random io.Reader, now time.Time, authority Pair, leaf Leaf) (Pair, error) {
	parent, err := tls.X509KeyPair(authority.Cert, authority.Key)
	if err != nil {
		return Pair{}, fmt.Errorf("reading the authority: %w", err)
	}
	key, ok := parent.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return Pair{}, errors.New("reading the authority: its key is not ECDSA")
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: leaf.Name},
		DNSNames:    leaf.DNSNames,
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(leaf.Life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	return sign(random, template, parent.Leaf, key)
}

func sign(random io.Reader, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return Pair{}, fmt.Errorf("making a key: %w", err)
	}
	template.SerialNumber, err = rand.Int(random, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Pair{}, fmt.Errorf("making a serial number: %w", err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(random, template, parent, key.Public(), parentKey)
	if err != nil {
		return Pair{}, fmt.Errorf("signing the certificate of %s: %w", template.Subject.CommonName, err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encoding the key of %s: %w", template.Subject.CommonName, err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}),
	}, nil
}

// Parse reads the first certificate of a PEM.
func Parse(raw []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate found in the PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// RenewAt is when two thirds of a certificate's life are over.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) * 2 / 3)
}

// Issued is when a certificate of ours was made.
func Issued(cert *x509.Certificate) time.Time { return cert.NotBefore.Add(skew) }
