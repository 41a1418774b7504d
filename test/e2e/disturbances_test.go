//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"understudy.dev/understudy/api/v1alpha1"
	naming "understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/faults"
	"understudy.dev/understudy/test/internal/kube"
	"understudy.dev/understudy/test/internal/load"
	"understudy.dev/understudy/test/internal/operator"
)

// scene is the service as a fault finds it.
type scene struct {
	f       fixture
	primary kube.Primary
	pods    map[string]corev1.Pod
	// replicas by name, in order.
	replicas []string
}

func (s scene) node(member string) string { p := s.pods[member]; return p.Spec.NodeName }
func (s scene) ip(member string) string   { p := s.pods[member]; return p.Status.PodIP }

// nodes are those of the members.
func (s scene) nodes() []string {
	all := []string{s.primary.Node}
	for _, r := range s.replicas {
		all = append(all, s.node(r))
	}
	return all
}

// disturbance is a fault that lasts a while and is undone.
type disturbance struct {
	name   string
	lasts  time.Duration
	inject func(ctx context.Context, s scene) error
	undo   func(ctx context.Context, s scene) error
	// change says whether another epoch is due: yes, no, or either.
	change change
	meets  reach
}

// reach is what a fault meets.
type reach string

const (
	// pods: members of the service alone.
	pods reach = "pods"
	// disks: theirs too. It is not drawn together with another: its undoing needs the node.
	disks reach = "disks"
	// wide: nodes, the API server or the operator, and with them other services.
	wide reach = "wide"
)

// calm is held for reading by what a wide fault would disturb, and for writing while one is made: TestSynchronous and TestPostgreSQL run side by side.
var calm sync.RWMutex

// inCalm makes a service, and has it removed in the end, while no wide fault is made.
func inCalm(t *testing.T, makeIt func() fixture) fixture {
	t.Helper()
	held := false
	t.Cleanup(func() {
		if held {
			calm.RUnlock()
		}
	})
	calm.RLock()
	defer calm.RUnlock()
	f := makeIt()
	t.Cleanup(func() { // before what makeIt has cleaned up
		calm.RLock()
		held = true
	})
	return f
}

// due is whether another epoch is due on an engine. On a full disk PostgreSQL goes on: its WAL is written to files that have
// their space already, and only what needs new pages is refused.
func (d disturbance) due(engine string) change {
	if engine == load.PostgreSQL && d.name == "DiskFull" {
		return either
	}
	return d.change
}

type change string

const (
	changes change = "changes"
	stays   change = "stays"
	either  change = "either"
)

// beyond is longer than the lease of the tests' policy and what follows it.
const beyond = 5 * time.Second

// disturbances are run one by one by TestSynchronous and TestPostgreSQL, and drawn at random by TestSoak.
var disturbances = []disturbance{
	{"PrimaryUnheard", beyond, onPrimary(func(s scene) []string {
		return []string{"to=" + s.node(s.replicas[0]), "to=" + s.node(s.replicas[1])}
	}), mendAll, changes, wide},
	{"PrimaryDeaf", beyond, onPrimary(func(s scene) []string {
		return []string{"from=" + s.node(s.replicas[0]), "from=" + s.node(s.replicas[1])}
	}), mendAll, changes, wide},
	{"PrimaryCutFromReplicas", beyond, onPrimary(func(s scene) []string {
		return append(pod(s.ip(s.replicas[0])), pod(s.ip(s.replicas[1]))...)
	}), mendAll, changes, wide},
	{"ReplicaIsolated", beyond, func(ctx context.Context, s scene) error {
		return s.f.Injector.Firewall(ctx, s.node(s.replicas[0]), pod(s.ip(s.replicas[0]))...)
	}, mendAll, stays, wide},
	{"AgentPortReset", beyond, onPrimary(func(scene) []string {
		return []string{fmt.Sprintf("reset=%d", agentPort)}
	}), mendAll, either, wide},
	{"DeletedByForceWhileCut", beyond, func(ctx context.Context, s scene) error {
		if err := s.f.Injector.Isolate(ctx, s.primary.Node); err != nil {
			return err
		}
		return force(ctx, s.f.namespace, s.primary.Member)
	}, func(ctx context.Context, s scene) error { return s.f.Injector.Rejoin(ctx, s.primary.Node) }, changes, wide},
	{"NodeOff", beyond, func(ctx context.Context, s scene) error { return s.f.Injector.NodeOff(ctx, s.primary.Node) },
		func(ctx context.Context, s scene) error { return s.f.Injector.NodeOn(ctx, s.primary.Node) }, changes, wide},
	{"NodeIsolated", beyond, func(ctx context.Context, s scene) error { return s.f.Injector.Isolate(ctx, s.primary.Node) },
		func(ctx context.Context, s scene) error { return s.f.Injector.Rejoin(ctx, s.primary.Node) }, changes, wide},
	{"EngineKilled", time.Second, func(ctx context.Context, s scene) error {
		return s.f.Injector.KillEngine(ctx, s.f.namespace, s.primary.Member)
	}, nil, changes, pods},
	{"ContainerKilled", time.Second, func(ctx context.Context, s scene) error {
		return s.f.Injector.KillContainer(ctx, s.f.namespace, s.primary.Member)
	}, nil, changes, pods},
	{"EngineHung", beyond, func(ctx context.Context, s scene) error {
		return s.f.Injector.HangEngine(ctx, s.f.namespace, s.primary.Member)
	}, nil, changes, pods},
	{"AgentHung", 10 * time.Second, func(ctx context.Context, s scene) error {
		return s.f.Injector.HangAgent(ctx, s.f.namespace, s.primary.Member)
	}, func(ctx context.Context, s scene) error {
		return s.f.Injector.ResumeAgent(ctx, s.f.namespace, s.primary.Member)
	}, changes, pods},
	{"PodDeleted", time.Second, func(ctx context.Context, s scene) error {
		return faults.DeletePod(ctx, cluster, s.f.namespace, s.primary.Member)
	}, nil, changes, pods},
	{"VolumeLost", time.Second, volumeLost, nil, stays, pods},
	{"APIDown", 30 * time.Second, cutAPI, mendAll, stays, wide},
	{"APIDownAndPrimaryCrash", 30 * time.Second, func(ctx context.Context, s scene) error {
		if err := cutAPI(ctx, s); err != nil {
			return err
		}
		return s.f.Injector.KillEngine(ctx, s.f.namespace, s.primary.Member)
	}, mendAll, changes, wide},
	{"OperatorKilledInSwitchover", time.Second, killedInSwitchover, nil, either, wide},
	{"ReplicasThenPrimaryLost", time.Second, func(ctx context.Context, s scene) error {
		for _, member := range append(s.replicas, s.primary.Member) {
			if err := s.f.Injector.KillContainer(ctx, s.f.namespace, member); err != nil {
				return err
			}
		}
		return nil
	}, nil, changes, pods},
	{"DiskStalled", beyond, func(ctx context.Context, s scene) error {
		return s.disk(ctx, s.primary.Member, "stall")
	}, undoOnDisk("resume"), changes, disks},
	{"DiskFull", beyond, func(ctx context.Context, s scene) error {
		if err := s.disk(ctx, s.primary.Member, "fill"); err != nil {
			return err
		}
		_ = s.grow(ctx) // it is refused, or ends the engine
		return s.toldFull(ctx, s.primary.Member)
	}, undoOnDisk("free"), changes, disks},
	{"ReplicasDiskFullAndPrimaryCrash", beyond, replicaFullAndCrash, undoOnDisk("free"), changes, disks},
}

// undoOnDisk undoes what was done to a disk on whichever member's disk it was done.
func undoOnDisk(change string) func(context.Context, scene) error {
	return func(ctx context.Context, s scene) error {
		if change == "free" { // the others' disks have nothing to be freed of
			return s.eachDisk(ctx, func(member string) error {
				if err := s.disk(ctx, member, change); err != nil && !strings.Contains(err.Error(), "no such file") {
					return err
				}
				return nil
			})
		}
		return s.disk(ctx, s.primary.Member, change)
	}
}

func (s scene) eachDisk(ctx context.Context, f func(member string) error) error {
	for _, member := range append([]string{s.primary.Member}, s.replicas...) {
		if err := f(member); err != nil {
			return err
		}
	}
	return nil
}

// disk changes the disk under a member's volume.
func (s scene) disk(ctx context.Context, member, change string) error {
	for _, v := range s.pods[member].Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		var claim corev1.PersistentVolumeClaim
		if err := cluster.Get(ctx, client.ObjectKey{Namespace: s.f.namespace, Name: v.PersistentVolumeClaim.ClaimName}, &claim); err != nil {
			return fmt.Errorf("finding the volume of %s: %w", member, err)
		}
		return s.f.Injector.Disk(ctx, s.node(member), claim.Spec.VolumeName, change)
	}
	return fmt.Errorf("finding the volume of %s: it has none", member)
}

// toldFull waits until a condition names a member's full volume and what gives it room.
func (s scene) toldFull(ctx context.Context, member string) error {
	claim := naming.Claim(naming.DataVolume, member)
	return kube.Until(ctx, time.Minute, "condition Stalled to tell of "+claim+", which is full", func(ctx context.Context) (bool, string, error) {
		obj, err := s.f.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionStalled)
		told := strings.Contains(c.Message, "PersistentVolumeClaim "+claim+" (less than") && strings.Contains(c.Message, "allowVolumeExpansion")
		return c.Status == metav1.ConditionTrue && told, c.Reason + ": " + c.Message, nil
	})
}

// replicaFullAndCrash fills a replica's disk, waits until the service's condition says so, and kills the primary's engine: the
// other replica takes over, with the promise of the first.
func replicaFullAndCrash(ctx context.Context, s scene) error {
	if err := s.disk(ctx, s.replicas[0], "fill"); err != nil {
		return err
	}
	if err := s.grow(ctx); err != nil {
		return err
	}
	what := fmt.Sprintf("condition Redundant to name %s, whose disk is full", s.replicas[0])
	err := kube.Until(ctx, time.Minute, what, func(ctx context.Context) (bool, string, error) {
		obj, err := s.f.Service.Object(ctx)
		if err != nil {
			return false, "", err
		}
		c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionRedundant)
		return c.Status == metav1.ConditionFalse && strings.Contains(c.Message, s.replicas[0]), c.Message, nil
	})
	if err != nil {
		return err
	}
	return s.f.Injector.KillEngine(ctx, s.f.namespace, s.primary.Member)
}

// grow makes PostgreSQL's data some 30 MB larger and its WAL as much: until it needs space a full disk is no matter to it.
func (s scene) grow(ctx context.Context) error {
	config, err := s.f.LoadConfig(ctx)
	if err != nil || config.Engine != load.PostgreSQL {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	address, stop, err := cluster.Forward(ctx, s.f.namespace, s.primary.Member, 5432)
	if err != nil {
		return err
	}
	defer stop()
	config.Address = address
	return load.Exec(ctx, config, "CREATE TABLE IF NOT EXISTS understudy_ballast (line text)",
		"INSERT INTO understudy_ballast SELECT md5(i::text) FROM generate_series(1, 400000) AS i", "TRUNCATE understudy_ballast")
}

func onPrimary(rules func(s scene) []string) func(context.Context, scene) error {
	return func(ctx context.Context, s scene) error {
		return s.f.Injector.Firewall(ctx, s.primary.Node, rules(s)...)
	}
}

// pod is everything to and from one address.
func pod(ip string) []string { return []string{"to=" + ip, "from=" + ip} }

func cutAPI(ctx context.Context, s scene) error {
	for _, node := range s.nodes() {
		if err := s.f.Injector.Firewall(ctx, node, "api"); err != nil {
			return err
		}
	}
	return nil
}

func mendAll(ctx context.Context, s scene) error {
	for _, node := range s.nodes() {
		if err := s.f.Injector.Firewall(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

func force(ctx context.Context, namespace, name string) error {
	obj := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	return cluster.Delete(ctx, obj, client.GracePeriodSeconds(0))
}

// volumeLost takes a replica's volume away: its pod starts anew on an empty one.
func volumeLost(ctx context.Context, s scene) error {
	lost := s.pods[s.replicas[1]]
	for _, v := range lost.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: lost.Namespace, Name: v.PersistentVolumeClaim.ClaimName}}
		if err := cluster.Delete(ctx, claim); err != nil {
			return fmt.Errorf("deleting the claim %s: %w", claim.Name, err)
		}
	}
	return cluster.Delete(ctx, &lost, client.GracePeriodSeconds(1))
}

// killedInSwitchover asks for a switchover and kills every operator at once.
func killedInSwitchover(ctx context.Context, s scene) error {
	host, ok := s.f.Injector.(faults.Host)
	if !ok {
		return fmt.Errorf("killing the operator: %T cannot", s.f.Injector)
	}
	if _, err := s.f.Switchover(ctx, ""); err != nil {
		return err
	}
	pods, err := operator.Pods(ctx, cluster)
	if err != nil {
		return err
	}
	for i := range pods {
		if !kube.PodReady(&pods[i]) {
			continue // it was killed before and waits to be started again
		}
		container := pods[i].Spec.Containers[0].Name
		if err := host.Kill(ctx, pods[i].Namespace, pods[i].Name, container, "pid1"); err != nil {
			return err
		}
	}
	return nil
}
