// Package pki makes the cluster's keys and certificates.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Two authorities: the API server trusts the front proxy's to name any user, so it must sign nothing else.
const (
	ClusterCA = "ca"
	ProxyCA   = "front-proxy-ca"
)

// ServiceAccountKey signs the pods' tokens.
const ServiceAccountKey = "service-account"

// Certificate is one that the cluster needs.
type Certificate struct {
	Name      string // file name without suffix
	Authority string
	User      string
	Groups    []string
	Server    bool
	Addresses []string
	Names     []string
}

// Ensure makes what is missing in the folder. It remakes everything when the list it was made from has changed, since
// a part of a trust chain is worth nothing.
func Ensure(folder string, certificates []Certificate) error {
	list := []byte(fmt.Sprintf("%+v\n", certificates))
	mark := filepath.Join(folder, "made-from")
	if old, err := os.ReadFile(mark); err == nil && string(old) == string(list) {
		return nil
	}
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("removing old certificates: %w", err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("making the folder of certificates: %w", err)
	}
	authorities := map[string]*authority{}
	for _, name := range []string{ClusterCA, ProxyCA} {
		made, err := newAuthority(folder, name)
		if err != nil {
			return err
		}
		authorities[name] = made
	}
	for _, certificate := range certificates {
		if err := authorities[certificate.Authority].issue(folder, certificate); err != nil {
			return err
		}
	}
	key, err := newKey(folder, ServiceAccountKey)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encoding the service account key: %w", err)
	}
	if err := writePEM(filepath.Join(folder, ServiceAccountKey+".pub"), "PUBLIC KEY", public); err != nil {
		return err
	}
	// Last, so that a folder left half made is made again.
	if err := os.WriteFile(mark, list, 0o600); err != nil {
		return fmt.Errorf("recording what the certificates were made from: %w", err)
	}
	return nil
}

type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newAuthority(folder, name string) (*authority, error) {
	template, err := template("understudy " + name)
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	key, err := newKey(folder, name)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing certificate authority %s: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading back certificate authority %s: %w", name, err)
	}
	return &authority{certificate, key}, writePEM(filepath.Join(folder, name+".crt"), "CERTIFICATE", der)
}

func (a *authority) issue(folder string, wanted Certificate) error {
	template, err := template(wanted.User)
	if err != nil {
		return err
	}
	template.Subject.Organization = wanted.Groups
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if wanted.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	template.DNSNames = wanted.Names
	for _, address := range wanted.Addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	key, err := newKey(folder, wanted.Name)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("signing certificate %s: %w", wanted.Name, err)
	}
	return writePEM(filepath.Join(folder, wanted.Name+".crt"), "CERTIFICATE", der)
}

func template(user string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("choosing a serial number for %s: %w", user, err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: user},
		NotBefore:    now.Add(-time.Hour), // tolerate a clock that is set back
		NotAfter:     now.AddDate(5, 0, 0),
	}, nil
}

func newKey(folder, name string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making key %s: %w", name, err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding key %s: %w", name, err)
	}
	return key, writePEM(filepath.Join(folder, name+".key"), "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
