package main

import (
	"context"
	"errors"
	"fmt"

	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/patroni"
	"understudy.dev/understudy/test/internal/rounds"
	"understudy.dev/understudy/test/internal/sentinel"
)

// peers are measured after the service, in the same cluster, with the same clients.
func (s *series) peers(ctx context.Context) error {
	if !s.sentinel && !s.patroni {
		return nil
	}
	host, ok := s.injector.(faults.Host)
	if !ok {
		return errors.New("--sentinel and --patroni kill processes from the host and need --cluster=local")
	}
	var problems []error
	if s.sentinel {
		problems = append(problems, s.againstSentinel(ctx, host, sentinel.Peer{
			Cluster: s.cluster, Namespace: s.namespace, Image: s.sentinelImage,
			Settings: sentinel.Settings{DownAfterMilliseconds: 1000, FailoverTimeoutMilliseconds: 3000, Quorum: 2},
		}))
	}
	if s.patroni {
		settings := patroni.Quickest()
		settings.SynchronousModeStrict = s.patroniStrict
		problems = append(problems, s.againstPatroni(ctx, patroni.Peer{
			Cluster: s.cluster, Namespace: s.namespace, Image: s.patroniImage, Settings: settings, Spacing: s.spacing,
		}))
	}
	return errors.Join(problems...)
}

func (s *series) againstSentinel(ctx context.Context, host faults.Host, peer sentinel.Peer) error {
	s.report.Environment.Sentinel = &peer.Settings
	if err := peer.Ensure(ctx); err != nil {
		return err
	}
	fill := func(key, value string) error { return peer.Set(ctx, key, value) }
	if err := fillRedis(s.fillMiB, fill); err != nil {
		return fmt.Errorf("filling Redis Sentinel with %d MiB: %w", s.fillMiB, err)
	}
	heal := func(ctx context.Context) (bool, error) { return true, peer.WaitHealthy(ctx) }
	err := s.repeat(ctx, "redis sentinel", faults.EngineKill, s.sentinelRounds, func(id string) (rounds.Record, error) {
		return peer.Round(ctx, s.set, host, "sentinel-"+id)
	}, heal)
	if err != nil {
		return err
	}
	return peer.Remove(ctx)
}

// againstPatroni leaves what it measured in place when a round failed, to be looked at.
func (s *series) againstPatroni(ctx context.Context, peer patroni.Peer) error {
	s.report.Environment.Patroni = &peer.Settings
	if err := peer.Ensure(ctx); err != nil {
		return err
	}
	if s.fillMiB > 0 {
		if err := s.fillPatroni(ctx, peer); err != nil {
			return err
		}
	}
	injector := forPostgres(s.injector)
	heal := func(ctx context.Context) (bool, error) { return true, peer.WaitRedundant(ctx, healWithin) }
	for _, fault := range s.patroniKinds {
		n := s.patroniRounds
		if fault == faults.NodeOff {
			n = min(n, s.nodeRounds)
		}
		err := s.repeat(ctx, "patroni", fault, n, func(id string) (rounds.Record, error) {
			return peer.Round(ctx, s.set, injector, fault, "patroni-"+id)
		}, heal)
		if err != nil {
			return err
		}
	}
	return peer.Remove(ctx)
}

// fillPatroni gives Patroni as much data as the service, from the same pods.
func (s *series) fillPatroni(ctx context.Context, peer patroni.Peer) error {
	if err := peer.WaitHealthy(ctx); err != nil {
		return err
	}
	set, pod, _, err := s.pgbench(ctx, s.runner())
	if err != nil {
		return err
	}
	target, err := peer.Target(ctx)
	if err == nil {
		err = set.Prepare(ctx, pod, target, max(s.fillMiB/pgbenchUnit, 1))
	}
	if err != nil {
		return fmt.Errorf("filling Patroni with %d MiB: %w", s.fillMiB, err)
	}
	return set.Remove(ctx)
}
