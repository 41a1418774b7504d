package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/engine/postgresql"
	"understudy.dev/understudy/internal/engine/redis"
	"understudy.dev/understudy/internal/names"
)

// engineOf makes the adapter of the engine that is configured.
func engineOf(config agentconfig.Config, member, podUID string) (engine.Engine, error) {
	password, err := secret(names.PasswordKey)
	if err != nil {
		return nil, fmt.Errorf("reading the engine's password: %w", err)
	}
	if config.PostgreSQL == nil {
		return redis.New(*config.Redis, names.DataDir, password), nil
	}
	p := *config.PostgreSQL
	p.Member, p.ApplicationName = member, engine.FollowerName(member, podUID)
	secrets := postgresql.Secrets{Owner: password}
	if p.TLS == nil {
		if secrets.Replication, err = secret(names.ReplicationKey); err != nil {
			return nil, fmt.Errorf("reading the members' password: %w", err)
		}
	} else {
		p.TLS = memberTLS(*p.TLS, member)
	}
	return postgresql.New(p, names.DataDir, names.RunDir, secrets), nil
}

// memberTLS names this member's files where the configuration, which all members share, does not.
func memberTLS(t agentconfig.PostgreSQLTLS, member string) *agentconfig.PostgreSQLTLS {
	if t.CertFile == "" {
		t.CertFile, t.KeyFile = names.CertsDir+"/"+member+".crt", names.CertsDir+"/"+member+".key"
	}
	if t.CAFile == "" {
		t.CAFile = names.CertsDir + "/ca.crt"
	}
	return &t
}

func secret(key string) (string, error) {
	raw, err := os.ReadFile(names.SecretDir + "/" + key)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(raw), "\r\n")
	if text == "" {
		return "", errors.New(key + " is empty")
	}
	return text, nil
}
