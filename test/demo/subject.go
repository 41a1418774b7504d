package main

import (
	"context"
	"fmt"
	"strings"

	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/faults"
)

// subject is the service that is shown.
type subject struct {
	service, sample string
	// process is what is killed, and unit what a client writes.
	process, unit string
	// retry is how often the client tries when a write fails.
	retry string
	// query is asked with psql in the end; empty: nothing is.
	query string
}

// subjectOf is the sample of an engine.
func subjectOf(engine string) (subject, error) {
	switch engine {
	case "redis":
		return subject{service: "cache", sample: "config/samples/redis.yaml", process: "redis-server", unit: "key", retry: "2 ms"}, nil
	case "postgresql":
		return subject{
			service: "db", sample: "config/samples/postgresql.yaml", process: faults.Postgres, unit: "row", retry: "10 ms",
			query: "SELECT pg_is_in_recovery() AS standby, inet_server_addr() AS server, pg_walfile_name(pg_current_wal_lsn()) AS wal",
		}, nil
	}
	return subject{}, fmt.Errorf("there is no sample of engine %q: use redis or postgresql", engine)
}

// ask lets psql in a replica's pod ask whoever is primary, as an application would.
func (d demo) ask(ctx context.Context) error {
	primary, err := d.runner.Service.Primary(ctx)
	if err != nil {
		return err
	}
	member := names.Member(d.service, 0)
	if member == primary.Member {
		member = names.Member(d.service, 1)
	}
	command := fmt.Sprintf("PGPASSWORD=$(cat %s/%s) psql -h %s -U app -c \"%s\" app", names.SecretDir, names.PasswordKey, d.service, d.query)
	args := []string{"exec", "-n", d.namespace, member, "--", "sh", "-c", command}
	d.say("\nAnd with psql, from the pod of a replica, through the Service:\n\n$ kubectl %s '%s'", strings.Join(args[:len(args)-1], " "), command)
	return d.kubectl(ctx, args...)
}
