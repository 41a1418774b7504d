package postgresql

import (
	"fmt"
	"os"
)

// takeCertificates has the server read its certificate again once its files changed: PostgreSQL reads them when it starts and when it is told to, and a calm server would
// serve an old one until that has expired. One that it cannot read leaves the old one in use, and is told in its log.
func (p *PostgreSQL) takeCertificates() error {
	if p.config.TLS == nil {
		return nil
	}
	now := p.certificateFiles()
	p.mu.Lock()
	read := p.stage != runServer || p.certificates == now // one that starts reads what is there then
	p.mu.Unlock()
	if read {
		return nil
	}
	if err := p.hangUp(); err != nil {
		return fmt.Errorf("having PostgreSQL read its certificate again: %w", err)
	}
	p.noteCertificates(now)
	return nil
}

// certificateFiles tells one version of the files from the next. A kubelet replaces all of them at once.
func (p *PostgreSQL) certificateFiles() string {
	out := ""
	for _, file := range []string{p.config.TLS.CertFile, p.config.TLS.KeyFile, p.config.TLS.CAFile} {
		if info, err := os.Stat(file); err == nil {
			out += fmt.Sprintf("%s %d %d;", file, info.ModTime().UnixNano(), info.Size())
		}
	}
	return out
}

func (p *PostgreSQL) noteCertificates(files string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.certificates = files
}
