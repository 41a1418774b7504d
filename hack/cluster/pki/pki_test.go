package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"understudy.dev/understudy/hack/cluster/layout"
)

func TestEveryCertificateFitsItsKeyAndAuthority(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "pki")
	if err := Ensure(folder, Wanted()); err != nil {
		t.Fatal(err)
	}
	for _, wanted := range Wanted() {
		pair, err := tls.LoadX509KeyPair(filepath.Join(folder, wanted.Name+".crt"), filepath.Join(folder, wanted.Name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		pem, err := os.ReadFile(filepath.Join(folder, wanted.Authority+".crt"))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{
			Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}); err != nil {
			t.Errorf("%s: %v", wanted.Name, err)
		}
		if pair.Leaf.Subject.CommonName != wanted.User {
			t.Errorf("%s is of %s", wanted.Name, pair.Leaf.Subject.CommonName)
		}
		if wanted.Name == APIServer {
			for _, host := range []string{layout.Control().Address, layout.ServiceOfAPI, "kubernetes.default.svc"} {
				if err := pair.Leaf.VerifyHostname(host); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestEnsureKeepsWhatFitsAndRemakesWhatDoesNot(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "pki")
	read := func() string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(folder, Admin+".crt"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if err := Ensure(folder, Wanted()); err != nil {
		t.Fatal(err)
	}
	first := read()
	if err := Ensure(folder, Wanted()); err != nil {
		t.Fatal(err)
	}
	if read() != first {
		t.Error("certificates were remade without need")
	}
	changed := Wanted()
	changed[0].Names = append(changed[0].Names, "another")
	if err := Ensure(folder, changed); err != nil {
		t.Fatal(err)
	}
	if read() == first {
		t.Error("certificates were kept though the list changed")
	}
}
