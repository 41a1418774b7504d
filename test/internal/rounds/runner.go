package rounds

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/test/internal/clients"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/load"
)

// Runner runs rounds against one service.
type Runner struct {
	Service  kube.Service
	Clients  clients.Set
	Injector faults.Injector
	// Kubectl drains nodes.
	Kubectl faults.Kubectl
	// OperatorOff says that nobody keeps the status up to date or records failovers.
	OperatorOff bool
	// Spacing is how long the primary must have held its epoch before the next fault. A fault within one lease duration
	// of the last change is a second fault on top of the first, and another measurement.
	Spacing time.Duration
}

// Record is one round.
type Record struct {
	Measurement

	Fault faults.Kind `json:"fault"`
	// From and To are members, Nodes where they and the client ran.
	From       string `json:"from"`
	To         string `json:"to"`
	FromNode   string `json:"fromNode"`
	ToNode     string `json:"toNode"`
	ClientNode string `json:"clientNode"`
	// ClientApart is false when the client shared the old primary's node for want of another one.
	ClientApart bool  `json:"clientApart"`
	Epoch       int64 `json:"epoch"`
	// Failover names the object that recorded the change; Evidence, Milliseconds and Timeline are from it.
	Failover string `json:"failover,omitempty"`
	Evidence string `json:"evidence,omitempty"`
	// Timeline has microseconds since Detected by step.
	Timeline map[string]int64 `json:"timeline,omitempty"`
	// RedundantMicroseconds is from the fault until the service could take the next one; 0: not measured.
	RedundantMicroseconds int64 `json:"redundantMicroseconds,omitempty"`
	// Error says what went wrong with the round, if anything.
	Error string `json:"error,omitempty"`
}

// within is how long a fault may take until the round is given up.
const within = 60 * time.Second

// Run waits until the service is healthy and runs one round. The record is filled in as far as the round came.
func (r Runner) Run(ctx context.Context, fault faults.Kind, id string) (Record, error) {
	record := Record{Fault: fault}
	err := r.run(ctx, &record, id)
	if err != nil {
		record.Error = err.Error()
	}
	return record, err
}

func (r Runner) run(ctx context.Context, record *Record, id string) error {
	if err := r.WaitHealthy(ctx, 5*time.Minute); err != nil {
		return err
	}
	if err := r.waitSpacing(ctx); err != nil {
		return err
	}
	if record.Fault == faults.Drain {
		if err := r.drainable(ctx); err != nil {
			return err
		}
	}
	old, err := r.Service.Primary(ctx)
	if err != nil {
		return err
	}
	c, apart, err := r.Clients.NotOn(ctx, old.Node)
	if err != nil {
		return err
	}
	defer c.Close()
	if record.Fault == faults.Drain && !apart {
		return fmt.Errorf("every load client is on node %s, which is to be drained", old.Node)
	}
	record.From, record.FromNode = old.Member, old.Node
	record.ClientNode, record.ClientApart = c.Node, apart
	config, err := r.LoadConfig(ctx)
	if err != nil {
		return err
	}
	config.LimitSeconds = 600
	before, err := r.Service.Pods(ctx)
	if err != nil {
		return err
	}
	// The watch begins before the fault, and nothing is polled until it has news.
	routes, err := r.Service.WatchRoute(ctx)
	if err != nil {
		return err
	}
	defer routes.Stop()
	record.Measurement, err = Measure(ctx, c, id, Target{
		Config: config, Within: within,
		Inject: func(ctx context.Context) error { return r.inject(ctx, record, old) },
		Over:   func(ctx context.Context) error { return r.over(ctx, record.Fault, routes, old, before) },
	})
	if record.Fault == faults.Drain {
		err = errors.Join(err, r.Kubectl.Uncordon(context.WithoutCancel(ctx), old.Node))
	}
	if now, readErr := r.Service.Primary(ctx); readErr == nil && now.Epoch > old.Epoch {
		record.To, record.ToNode, record.Epoch = now.Member, now.Node, now.Epoch
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w%s", record.Fault, old.Member, err, r.refusal(ctx, record.Failover))
	}
	if changes := record.Epoch - old.Epoch; changes > 1 && planned(record.Fault) {
		return fmt.Errorf("%s of %s: the primary changed %d times, from epoch %d to %d, want once", record.Fault, old.Member, changes, old.Epoch, record.Epoch)
	}
	return r.recorded(ctx, record)
}

func (r Runner) waitSpacing(ctx context.Context) error {
	if r.Spacing == 0 {
		return nil
	}
	what := fmt.Sprintf("the primary of %s to have held its epoch for %s", r.Service.Name, r.Spacing)
	return kube.Until(ctx, r.Spacing+time.Minute, what, func(ctx context.Context) (bool, string, error) {
		p, err := r.Service.Primary(ctx)
		held := time.Since(p.Since)
		return held >= r.Spacing, fmt.Sprintf("%s holds epoch %d for %s", p.Member, p.Epoch, held), err
	})
}

// LoadConfig is what a round writes to: the service by its address, with its password.
func (r Runner) LoadConfig(ctx context.Context) (load.Config, error) {
	address, err := r.Service.Address(ctx)
	if err != nil {
		return load.Config{}, err
	}
	config := load.Config{Address: address}
	if config.Password, err = r.Service.Password(ctx); err != nil {
		return config, err
	}
	obj, err := r.Service.Object(ctx)
	if err == nil && obj.Spec.Engine.PostgreSQL != nil {
		config.Engine, config.User, config.Database = load.PostgreSQL, obj.Spec.Engine.PostgreSQL.Owner, obj.Spec.Engine.PostgreSQL.Database
	}
	return config, err
}

func (r Runner) inject(ctx context.Context, record *Record, old kube.Primary) error {
	namespace := r.Service.Namespace
	switch record.Fault {
	case faults.EngineKill:
		return r.Injector.KillEngine(ctx, namespace, old.Member)
	case faults.ContainerKill:
		return r.Injector.KillContainer(ctx, namespace, old.Member)
	case faults.PodDelete:
		return faults.DeletePod(ctx, r.Service, namespace, old.Member)
	case faults.NodeOff:
		return r.Injector.NodeOff(ctx, old.Node)
	case faults.NodeIsolate:
		return r.Injector.Isolate(ctx, old.Node)
	case faults.EngineHang:
		return r.Injector.HangEngine(ctx, namespace, old.Member)
	case faults.AgentHang:
		return r.Injector.HangAgent(ctx, namespace, old.Member)
	case faults.Drain:
		_, err := r.Kubectl.Drain(ctx, old.Node)
		return err
	case faults.Roll:
		return r.roll(ctx)
	case faults.Switchover:
		name, err := r.Switchover(ctx, "")
		record.Failover = name
		return err
	}
	return fmt.Errorf("there is no fault %q", record.Fault)
}

// Switchover asks for a planned change of primary and returns the request's name.
func (r Runner) Switchover(ctx context.Context, target string) (string, error) {
	request := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{GenerateName: r.Service.Name + "-", Namespace: r.Service.Namespace},
		Spec: v1alpha1.FailoverSpec{
			ServiceRef: v1alpha1.LocalReference{Name: r.Service.Name}, Type: v1alpha1.TypeSwitchover, Target: target,
		},
	}
	if err := r.Service.Create(ctx, request); err != nil {
		return "", fmt.Errorf("asking for a switchover of service %s/%s: %w", r.Service.Namespace, r.Service.Name, err)
	}
	return request.Name, nil
}

// refusal is why a request failed, as the end of a sentence; empty: it did not, or there is none.
func (r Runner) refusal(ctx context.Context, name string) string {
	var fo v1alpha1.Failover
	if name == "" || r.Service.Get(ctx, client.ObjectKey{Namespace: r.Service.Namespace, Name: name}, &fo) != nil {
		return ""
	}
	stalled := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionStalled)
	if stalled == nil || stalled.Status != metav1.ConditionTrue {
		return ""
	}
	return fmt.Sprintf("; Failover %s is stalled: %s: %s", name, stalled.Reason, stalled.Message)
}

// recorded finds the Failover that tells how this change went.
func (r Runner) recorded(ctx context.Context, record *Record) error {
	if r.OperatorOff {
		return nil // it is written when the operator is back
	}
	what := fmt.Sprintf("the Failover that records epoch %d of service %s", record.Epoch, r.Service.Name)
	err := kube.Until(ctx, 20*time.Second, what, func(ctx context.Context) (bool, string, error) {
		var all v1alpha1.FailoverList
		if err := r.Service.List(ctx, &all, client.InNamespace(r.Service.Namespace)); err != nil {
			return false, "", err
		}
		seen := fmt.Sprintf("none of %d Failovers has that epoch and a timeline", len(all.Items))
		for i := range all.Items {
			fo := &all.Items[i]
			if fo.Spec.ServiceRef.Name != r.Service.Name || fo.Status.Epoch != record.Epoch || len(fo.Status.Timeline) == 0 {
				continue
			}
			record.Failover, record.Evidence = fo.Name, string(fo.Status.Evidence)
			record.Timeline = map[string]int64{}
			for _, entry := range fo.Status.Timeline {
				if entry.ElapsedMicroseconds != nil {
					record.Timeline[string(entry.Step)] = *entry.ElapsedMicroseconds
				}
			}
			return true, "", nil
		}
		return false, seen, nil
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, r.refusal(ctx, record.Failover))
	}
	return nil
}

// WaitHealthy waits until the next round may begin. A member whose container was killed more often than the operator makes it anew waits for
// the kubelet's back-off, which doubles up to five minutes; its pod is deleted instead, once it is a replica, so that fifty rounds do
// not take a day. What a round measures is over by then.
func (r Runner) WaitHealthy(ctx context.Context, within time.Duration) error {
	_, err := r.WaitHealed(ctx, within)
	return err
}

// WaitHealed does the same, and says whether the service came back without such help.
func (r Runner) WaitHealed(ctx context.Context, within time.Duration) (alone bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var helped atomic.Bool
	go r.renewBackedOff(ctx, &helped)
	err = r.Service.WaitHealthy(ctx, within, r.OperatorOff)
	return !helped.Load(), err
}

func (r Runner) renewBackedOff(ctx context.Context, helped *atomic.Bool) {
	_ = kube.UntilEvery(ctx, time.Hour, time.Second, "the end", func(ctx context.Context) (bool, string, error) {
		pods, err := r.Service.Pods(ctx)
		if err != nil {
			return false, "", err
		}
		primary, err := r.Service.Primary(ctx)
		if err != nil {
			return false, "", err
		}
		for i := range pods {
			if backedOff(&pods[i]) && pods[i].Name != primary.Member && pods[i].DeletionTimestamp == nil {
				helped.Store(true)
				return false, "", faults.DeletePod(ctx, r.Service, r.Service.Namespace, pods[i].Name)
			}
		}
		return false, "", nil
	})
}

func backedOff(pod *corev1.Pod) bool {
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" {
			return true
		}
	}
	return false
}
