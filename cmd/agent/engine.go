package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"understudy.dev/understudy/internal/agent"
	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/engine"
	"understudy.dev/understudy/internal/engine/postgresql"
	"understudy.dev/understudy/internal/engine/redis"
	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/pgbouncer"
)

// engineOf makes the adapter of the engine that is configured.
func engineOf(config agentconfig.Config, member, podUID string) (engine.Engine, error) {
	if config.PostgreSQL == nil {
		password, err := secret(names.PasswordKey)
		if err != nil {
			return nil, fmt.Errorf("reading the engine's password: %w", err)
		}
		return redis.New(*config.Redis, names.DataDir, password), nil
	}
	p := *config.PostgreSQL
	p.Member, p.ApplicationName = member, engine.FollowerName(member, podUID)
	read := func() (postgresql.Secrets, error) { return postgresqlSecrets(p) }
	secrets, err := read()
	if err != nil {
		return nil, err
	}
	secrets.Again = read
	if p.TLS != nil {
		p.TLS = memberTLS(*p.TLS, member)
	}
	return postgresql.New(p, names.DataDir, names.RunDir, secrets), nil
}

// postgresqlSecrets reads the passwords from the files that a kubelet keeps as the Secrets are.
func postgresqlSecrets(p agentconfig.PostgreSQL) (s postgresql.Secrets, err error) {
	if s.Owner, err = secret(names.PasswordKey); err != nil {
		return s, fmt.Errorf("reading the owner's password: %w", err)
	}
	if p.SuperuserLogin {
		if s.Superuser, err = secret(names.SuperuserKey); err != nil {
			return s, fmt.Errorf("reading the superuser's password: %w", err)
		}
	}
	if p.TLS == nil {
		if s.Replication, err = secret(names.ReplicationKey); err != nil {
			return s, fmt.Errorf("reading the members' password: %w", err)
		}
	}
	return s, nil
}

// poolerOf is nil where no poolers are configured.
func poolerOf(config agentconfig.Config) agent.Pooler {
	if config.PostgreSQL == nil || config.PostgreSQL.PgBouncer == nil {
		return nil
	}
	b := config.PostgreSQL.PgBouncer
	return &pgbouncer.Poolers{Hosts: b.Hosts, Port: b.Port, Database: b.Database, User: b.User, Password: func() (string, error) { return secret(names.PoolerKey) }}
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
