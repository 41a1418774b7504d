package policy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/failover"
)

// TestDefaultsAreTheCRDs: a service without a policy gets what an empty policy would give.
func TestDefaultsAreTheCRDs(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "config", "crd", "bases", "ha.understudy.dev_failoverpolicies.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema node `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(raw, &crd); err != nil {
		t.Fatal(err)
	}
	spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	encoded, err := json.Marshal(fill(spec, map[string]any{}))
	if err != nil {
		t.Fatal(err)
	}
	var want v1alpha1.FailoverPolicySpec
	if err := json.Unmarshal(encoded, &want); err != nil {
		t.Fatal(err)
	}
	if have := Defaults(); !reflect.DeepEqual(have, want) {
		t.Errorf("documented defaults\n%+v\nare not those of the CRD\n%+v", have, want)
	}
}

type node struct {
	Default    any             `json:"default"`
	Properties map[string]node `json:"properties"`
}

// fill applies a schema's defaults as the API server does.
func fill(n node, value map[string]any) map[string]any {
	for name, child := range n.Properties {
		if _, ok := value[name]; !ok && child.Default != nil {
			value[name] = child.Default
		}
		if m, ok := value[name].(map[string]any); ok {
			value[name] = fill(child, m)
		}
	}
	return value
}

func TestVotes(t *testing.T) {
	for replicas, votes := range map[int32]int{1: 1, 2: 3 /* the API server too */, 3: 3, 4: 3, 5: 5, 6: 5, 7: 7, 8: 7, 9: 9} {
		members := Members("cache", replicas)
		if len(members) != int(replicas) || len(failover.Voters(members)) != votes {
			t.Errorf("%d replicas: %+v, want %d votes", replicas, members, votes)
		}
		if !members[0].Voter {
			t.Errorf("%d replicas: the first member has no vote", replicas)
		}
	}
}

func TestTerms(t *testing.T) {
	spec, service := Defaults(), v1alpha1.ReplicatedServiceSpec{}
	terms := Terms(spec, service, Members("cache", 3))
	if terms.LeaseMillis != 3000 || terms.WaitMillis != 3000 || terms.HeartbeatMillis != 100 || terms.SuspectMillis != 800 ||
		terms.EngineTimeoutMillis != 1000 || terms.Mode != failover.ModeAutomatic || terms.Partition != failover.PreferConsistency ||
		terms.MaxLagBytes != 16<<20 || !terms.Accepts(failover.LeaseExpired) || terms.Accepts(failover.NodeOutOfService) {
		t.Errorf("terms %+v", terms)
	}
	if paused := Terms(spec, v1alpha1.ReplicatedServiceSpec{State: v1alpha1.StatePaused}, nil); paused.Mode != failover.ModePaused {
		t.Errorf("a paused service has mode %s", paused.Mode)
	}
	spec.PartitionChoice, spec.Acknowledgement = v1alpha1.PreferAvailability, v1alpha1.AcknowledgementWait
	service.Replication = &v1alpha1.ReplicationSpec{Mode: v1alpha1.Synchronous, Synchronous: &v1alpha1.SynchronousSpec{Quorum: 2, OnTooFewReplicas: v1alpha1.ContinueWriting}}
	terms = Terms(spec, service, nil)
	if terms.Partition != failover.PreferAvailability || terms.Quorum != 2 || terms.OnTooFew != failover.ContinueWriting || !terms.EveryWaits {
		t.Errorf("terms of a synchronous service %+v", terms)
	}
	service.Replication = nil
	if Terms(spec, service, nil).EveryWaits {
		t.Error("an asynchronous service waits for a quorum it does not have")
	}
}

// TestWhoPutsIntoForce: each term is either the operator's or the holder's to write.
func TestWhoPutsIntoForce(t *testing.T) {
	base := Terms(Defaults(), v1alpha1.ReplicatedServiceSpec{}, Members("cache", 3))
	for name, c := range map[string]struct {
		change func(*v1alpha1.FailoverPolicySpec)
		holder bool
	}{
		"nothing":   {func(*v1alpha1.FailoverPolicySpec) {}, false},
		"mode":      {func(s *v1alpha1.FailoverPolicySpec) { s.Mode = v1alpha1.ModeDryRun }, false},
		"evidence":  {func(s *v1alpha1.FailoverPolicySpec) { s.AcceptedEvidence = s.AcceptedEvidence[:2] }, false},
		"order":     {func(s *v1alpha1.FailoverPolicySpec) { e := s.AcceptedEvidence; e[0], e[1] = e[1], e[0] }, false},
		"lease":     {func(s *v1alpha1.FailoverPolicySpec) { s.Detection.LeaseDurationMilliseconds = 1500 }, true},
		"heartbeat": {func(s *v1alpha1.FailoverPolicySpec) { s.Detection.HeartbeatIntervalMilliseconds = 50 }, true},
		"suspicion": {func(s *v1alpha1.FailoverPolicySpec) { s.Detection.SuspectAfterMilliseconds = 500 }, true},
		"engine":    {func(s *v1alpha1.FailoverPolicySpec) { s.Detection.EngineTimeoutMilliseconds = 500 }, true},
		"lag":       {func(s *v1alpha1.FailoverPolicySpec) { s.Candidates.MaxLagBytes = ptr.To[int64](1) }, true},
		"excluded":  {func(s *v1alpha1.FailoverPolicySpec) { s.Candidates.Excluded = []string{"cache-1"} }, true},
		"writing":   {func(s *v1alpha1.FailoverPolicySpec) { s.MinReplicasToWrite = ptr.To[int32](1) }, true},
		"partition": {func(s *v1alpha1.FailoverPolicySpec) { s.PartitionChoice = v1alpha1.PreferAvailability }, true},
	} {
		t.Run(name, func(t *testing.T) {
			spec := Defaults()
			c.change(&spec)
			want := Terms(spec, v1alpha1.ReplicatedServiceSpec{}, base.Members)
			if ByHolder(base, want) != c.holder {
				t.Errorf("by the holder %t; want %t", ByHolder(base, want), c.holder)
			}
		})
	}
}

func TestUnsupported(t *testing.T) {
	if have := Unsupported(Defaults(), 3); len(have) != 0 {
		t.Errorf("the defaults are refused: %v", have)
	}
	spec := Defaults()
	spec.MinReplicasToWrite = ptr.To[int32](3)
	spec.Rejoin.Strategy = v1alpha1.RejoinRebuild
	spec.Rejoin.MaxAttempts = 7
	if have := Unsupported(spec, 3); len(have) != 3 {
		t.Errorf("want three remedies, have %q", have)
	}
}
