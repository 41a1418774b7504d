package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/operator"
	"understudy.dev/understudy/test/internal/pgbench"
	"understudy.dev/understudy/test/internal/rounds"
)

// series runs all rounds of one benchmark.
type series struct {
	options

	cluster  *kube.Cluster
	set      clients.Set
	injector faults.Injector
	report   *Report
	id       string
}

// giveUpAfter rounds of one fault that failed one after the other.
const giveUpAfter = 3

func (s *series) runner() rounds.Runner {
	return rounds.Runner{
		Service: kube.Service{Cluster: s.cluster, Namespace: s.namespace, Name: s.name},
		Clients: s.set, Injector: s.injector, Kubectl: faults.KubectlIn(s.repository), OperatorOff: s.operatorOff, Spacing: s.spacing,
	}
}

func (s *series) service(ctx context.Context) (err error) {
	runner := s.runner()
	if err := runner.Service.WaitHealthy(ctx, 5*time.Minute, false); err != nil {
		return err
	}
	if s.operatorOff {
		before, err := operator.Scale(ctx, s.cluster, 0)
		if err != nil {
			return err
		}
		defer func() {
			// The operator comes back even when the run was interrupted.
			back, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
			defer cancel()
			_, scaleErr := operator.Scale(back, s.cluster, before)
			err = errors.Join(err, scaleErr)
		}()
	}
	if err := forEngine(ctx, &runner); err != nil {
		return err
	}
	if s.fillMiB > 0 {
		if err := s.fill(ctx, runner); err != nil {
			return err
		}
	}
	if s.loadClients > 0 {
		stop, err := s.load(ctx, runner)
		if err != nil {
			return err
		}
		defer stop()
	}
	for _, fault := range s.kinds {
		if err := s.fault(ctx, runner, fault); err != nil {
			return err
		}
	}
	return runner.WaitHealthy(ctx, 5*time.Minute)
}

// load keeps the service busy with pgbench until stop is called.
func (s *series) load(ctx context.Context, runner rounds.Runner) (stop func(), err error) {
	set, pod, target, err := s.pgbench(ctx, runner)
	if err == nil && s.fillMiB == 0 { // else the tables are there
		err = set.Prepare(ctx, pod, target, 1)
	}
	if err != nil {
		return nil, err
	}
	return set.Load(ctx, target, s.loadClients), nil
}

// pgbench is ready in a pod on another node than the primary's.
func (s *series) pgbench(ctx context.Context, runner rounds.Runner) (set pgbench.Set, pod string, target pgbench.Target, err error) {
	obj, err := runner.Service.Object(ctx)
	if err != nil {
		return set, "", target, err
	}
	engine := obj.Spec.Engine.PostgreSQL
	if engine == nil {
		return set, "", target, fmt.Errorf("pgbench needs a service of PostgreSQL, and %s/%s is none: use --service db", s.namespace, s.name)
	}
	address, node, err := s.ourTarget(ctx, runner.Service)
	if err != nil {
		return set, "", target, err
	}
	set = pgbench.Set{Cluster: s.cluster, Namespace: s.namespace, Image: obj.Spec.Template.Image, Service: s.name}
	if err := set.Ensure(ctx); err != nil {
		return set, "", target, err
	}
	target = pgbench.Target{Host: address, User: engine.Owner, Database: engine.Database}
	pod, err = set.NotOn(ctx, node)
	return set, pod, target, err
}

// forEngine tells the host's faults what the engine's process is called.
func forEngine(ctx context.Context, runner *rounds.Runner) error {
	obj, err := runner.Service.Object(ctx)
	if err == nil && obj.Spec.Engine.PostgreSQL != nil {
		runner.Injector = forPostgres(runner.Injector)
	}
	return err
}

func forPostgres(injector faults.Injector) faults.Injector {
	host, ok := injector.(faults.Host)
	if !ok {
		return injector
	}
	host.Engine = faults.Postgres
	return host
}

func (s *series) fault(ctx context.Context, runner rounds.Runner, fault faults.Kind) (err error) {
	subject, n := "understudy", s.rounds
	if s.loadClients > 0 {
		subject = fmt.Sprintf("understudy, %d clients of pgbench", s.loadClients)
	}
	if s.operatorOff {
		subject = "understudy, operator off"
		if fault == faults.Switchover || fault == faults.Roll || fault == faults.Drain {
			return nil // it takes an operator for these: to ask, to roll, to let an eviction come
		}
	}
	if fault == faults.EngineKill && s.killRounds > 0 {
		n = s.killRounds
	}
	if fault == faults.Drain || fault == faults.Roll {
		n = s.plannedRounds
	}
	if fault == faults.NodeOff {
		n = s.nodeRounds
		restore, err := s.shortLease(ctx, runner)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, restore()) }()
	}
	heal := func(ctx context.Context) (bool, error) { return runner.WaitHealed(ctx, healWithin) }
	return s.repeat(ctx, subject, fault, n, func(id string) (rounds.Record, error) { return runner.Run(ctx, fault, id) }, heal)
}

// healWithin is how long a service may take until it is fully redundant again.
const healWithin = 5 * time.Minute

// repeat makes n rounds of one fault, and waits with heal until the next may begin.
func (s *series) repeat(ctx context.Context, subject string, fault faults.Kind, n int, round func(id string) (rounds.Record, error), heal func(context.Context) (bool, error)) error {
	failed := 0
	for i := range n {
		record, roundErr := round(fmt.Sprintf("%s-%s-%d", s.id, fault, i))
		if fault == faults.NodeOff && record.FromNode != "" {
			if err := s.injector.NodeOn(context.WithoutCancel(ctx), record.FromNode); err != nil {
				return err
			}
		}
		if roundErr == nil {
			var alone bool
			if alone, roundErr = heal(ctx); roundErr != nil {
				record.Error = roundErr.Error()
			} else if alone {
				record.RedundantMicroseconds = time.Since(record.FaultAt).Microseconds()
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.report.add(subject, record)
		s.progress(subject, i, n, record)
		if failed++; roundErr == nil {
			failed = 0
		}
		if failed == giveUpAfter {
			return fmt.Errorf("giving %s up after %d failed rounds of %s in a row: %w", fault, failed, subject, roundErr)
		}
	}
	return nil
}

func (s *series) progress(subject string, i, n int, r rounds.Record) {
	line := fmt.Sprintf("%s %s %d/%d: %s → %s, outage %.1f ms, %d acknowledged, %d lost", subject, r.Fault, i+1, n,
		r.From, r.To, milliseconds(r.Longest().Microseconds), r.Acknowledged, r.Verification.Lost)
	if r.Evidence != "" {
		line += ", " + r.Evidence
	}
	if r.Error != "" {
		line += ": " + r.Error
	}
	fmt.Fprintln(os.Stderr, line)
}

// nodeOffLease is the lease under which node-off is measured: with it a dead node is the slowest fault by far, so that
// the figure means nothing without it.
const nodeOffLease = 1500

// shortLease puts the service under a policy with a lease of 1500 ms, waits until the Lease has it, and returns how to
// undo that.
func (s *series) shortLease(ctx context.Context, runner rounds.Runner) (restore func() error, err error) {
	policy := &v1alpha1.FailoverPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "understudy-bench"},
		Spec: v1alpha1.FailoverPolicySpec{Detection: v1alpha1.DetectionSpec{
			HeartbeatIntervalMilliseconds: 100, SuspectAfterMilliseconds: 800, LeaseDurationMilliseconds: nodeOffLease,
		}},
	}
	if err := s.cluster.Create(ctx, policy); client.IgnoreAlreadyExists(err) != nil {
		return nil, fmt.Errorf("making the policy for node-off: %w", err)
	}
	before, err := s.refer(ctx, runner.Service, &v1alpha1.LocalReference{Name: policy.Name})
	if err != nil {
		return nil, err
	}
	restore = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if _, err := s.refer(ctx, runner.Service, before); err != nil {
			return err
		}
		return client.IgnoreNotFound(s.cluster.Delete(ctx, policy))
	}
	err = runner.Service.WaitLeaseMillis(ctx, nodeOffLease)
	if err != nil {
		return nil, errors.Join(err, restore())
	}
	return restore, nil
}

func (s *series) refer(ctx context.Context, service kube.Service, to *v1alpha1.LocalReference) (before *v1alpha1.LocalReference, err error) {
	obj, err := service.Object(ctx)
	if err != nil {
		return nil, err
	}
	before = obj.Spec.FailoverPolicyRef
	patch := client.MergeFrom(obj.DeepCopy())
	obj.Spec.FailoverPolicyRef = to
	if err := s.cluster.Patch(ctx, obj, patch); err != nil {
		return nil, fmt.Errorf("changing the policy of service %s/%s: %w", service.Namespace, service.Name, err)
	}
	return before, nil
}
