package policy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
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
	spec := Defaults()
	terms := Terms(spec, Members("cache", 3), v1alpha1.StateActive)
	if terms.LeaseMillis != 3000 || terms.WaitMillis != 3000 || terms.HeartbeatMillis != 100 || terms.SuspectMillis != 800 ||
		terms.EngineTimeoutMillis != 1000 || terms.Mode != failover.ModeAutomatic || terms.Partition != failover.PreferConsistency ||
		terms.MaxLagBytes != 16<<20 || !terms.Accepts(failover.LeaseExpired) || terms.Accepts(failover.NodeOutOfService) {
		t.Errorf("terms %+v", terms)
	}
	if paused := Terms(spec, nil, v1alpha1.StatePaused); paused.Mode != failover.ModePaused {
		t.Errorf("a paused service has mode %s", paused.Mode)
	}
	spec.PartitionChoice = v1alpha1.PreferAvailability
	if terms := Terms(spec, nil, v1alpha1.StateActive); terms.Partition != failover.PreferConsistency || !terms.Accepts(failover.LeaseExpired) {
		t.Errorf("a choice that cannot be carried out came into force by halves: %s, %v", terms.Partition, terms.Accepted)
	}
	if have := Unsupported(spec, 3); len(have) != 1 || !strings.Contains(have[0], "spec.partitionChoice") {
		t.Errorf("Unsupported = %v, want one sentence that names spec.partitionChoice", have)
	}
}

// TestWhoPutsIntoForce: each term is either the operator's or the holder's to write.
func TestWhoPutsIntoForce(t *testing.T) {
	base := Terms(Defaults(), Members("cache", 3), v1alpha1.StateActive)
	for name, c := range map[string]struct {
		change         func(*v1alpha1.FailoverPolicySpec)
		atOnce, holder bool
	}{
		"nothing":   {func(*v1alpha1.FailoverPolicySpec) {}, false, false},
		"mode":      {func(s *v1alpha1.FailoverPolicySpec) { s.Mode = v1alpha1.ModeDryRun }, true, false},
		"evidence":  {func(s *v1alpha1.FailoverPolicySpec) { s.AcceptedEvidence = s.AcceptedEvidence[:2] }, true, false},
		"order":     {func(s *v1alpha1.FailoverPolicySpec) { e := s.AcceptedEvidence; e[0], e[1] = e[1], e[0] }, false, false},
		"lease":     {func(s *v1alpha1.FailoverPolicySpec) { s.Detection.LeaseDurationMilliseconds = 1500 }, false, true},
		"heartbeat": {func(s *v1alpha1.FailoverPolicySpec) { s.Detection.HeartbeatIntervalMilliseconds = 50 }, false, true},
		"suspicion": {func(s *v1alpha1.FailoverPolicySpec) { s.Detection.SuspectAfterMilliseconds = 500 }, false, true},
		"engine":    {func(s *v1alpha1.FailoverPolicySpec) { s.Detection.EngineTimeoutMilliseconds = 500 }, false, true},
		"lag":       {func(s *v1alpha1.FailoverPolicySpec) { s.Candidates.MaxLagBytes = ptr.To[int64](1) }, false, true},
		"excluded":  {func(s *v1alpha1.FailoverPolicySpec) { s.Candidates.Excluded = []string{"cache-1"} }, false, true},
		"writing":   {func(s *v1alpha1.FailoverPolicySpec) { s.MinReplicasToWrite = ptr.To[int32](1) }, false, true},
		"partition": {func(s *v1alpha1.FailoverPolicySpec) { s.PartitionChoice = v1alpha1.PreferAvailability }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			spec := Defaults()
			c.change(&spec)
			want := Terms(spec, base.Members, v1alpha1.StateActive)
			got, atOnce := AtOnce(base, want)
			if atOnce != c.atOnce || ByHolder(base, want) != c.holder {
				t.Errorf("at once %t, by the holder %t; want %t, %t", atOnce, ByHolder(base, want), c.atOnce, c.holder)
			}
			if got.LeaseMillis != base.LeaseMillis || got.Partition != base.Partition || got.MaxLagBytes != base.MaxLagBytes {
				t.Errorf("the operator would write what only the holder may: %+v", got)
			}
		})
	}
}

func TestUnsupported(t *testing.T) {
	if have := Unsupported(Defaults(), 3); len(have) != 0 {
		t.Errorf("the defaults are refused: %v", have)
	}
	spec := Defaults()
	spec.CooldownSeconds, spec.MinReplicasToWrite = ptr.To[int32](5), ptr.To[int32](3)
	spec.Acknowledgement, spec.Rejoin.Strategy = v1alpha1.AcknowledgementWait, v1alpha1.RejoinRebuild
	spec.PartitionException = v1alpha1.ExceptionAcceptTwoWriters
	if have := Unsupported(spec, 3); len(have) != 5 {
		t.Errorf("want five remedies, have %q", have)
	}
}
