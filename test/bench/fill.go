package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"understudy.dev/understudy/test/internal/rounds"
)

// pgbenchUnit is what one unit of pgbench's scale takes on disk, in MiB: 100,000 rows and their index.
const pgbenchUnit = 15

// fill gives the service data, so that a member that is copied anew has something to copy.
func (s *series) fill(ctx context.Context, runner rounds.Runner) error {
	obj, err := runner.Service.Object(ctx)
	if err != nil {
		return err
	}
	if obj.Spec.Engine.PostgreSQL != nil {
		set, pod, target, err := s.pgbench(ctx, runner)
		if err == nil {
			err = set.Prepare(ctx, pod, target, max(s.fillMiB/pgbenchUnit, 1))
		}
		if err != nil {
			return fmt.Errorf("filling service %s/%s with %d MiB: %w", s.namespace, s.name, s.fillMiB, err)
		}
		return set.Remove(ctx)
	}
	primary, err := runner.Service.Primary(ctx)
	if err != nil {
		return err
	}
	err = fillRedis(s.fillMiB, func(key, value string) error {
		_, err := runner.Service.Redis(ctx, primary.Member, "SET", key, value)
		return err
	})
	if err != nil {
		return fmt.Errorf("filling service %s/%s with %d MiB: %w", s.namespace, s.name, s.fillMiB, err)
	}
	return nil
}

func fillRedis(mebibytes int, set func(key, value string) error) error {
	for i := range mebibytes {
		value := make([]byte, 1<<20)
		_, _ = rand.Read(value) // random, since what compresses would take no time to copy
		if err := set(fmt.Sprintf("filler:%d", i), string(value)); err != nil {
			return err
		}
	}
	return nil
}
