package patroni

import (
	"os"
	"reflect"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"understudy.dev/understudy/api/v1alpha1"
)

var (
	memberAddresses = []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	etcdAddresses   = []string{"10.0.1.1", "10.0.1.2", "10.0.1.3"}
)

func TestConfiguration(t *testing.T) {
	files, err := configuration("default", Quickest(), memberAddresses, etcdAddresses)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file string
		path []string
		want any
	}{
		{"understudy-bench-patroni-1.yml", []string{"name"}, "understudy-bench-patroni-1"},
		{"understudy-bench-patroni-1.yml", []string{"restapi", "connect_address"}, "10.0.0.2:8008"},
		{"understudy-bench-patroni-1.yml", []string{"postgresql", "connect_address"}, "10.0.0.2:5432"},
		{"understudy-bench-patroni-1.yml", []string{"etcd3", "hosts"}, []any{"10.0.1.1:2379", "10.0.1.2:2379", "10.0.1.3:2379"}},
		{"understudy-bench-patroni-1.yml", []string{"bootstrap", "dcs", "ttl"}, 20.0},
		{"understudy-bench-patroni-1.yml", []string{"bootstrap", "dcs", "loop_wait"}, 1.0},
		{"understudy-bench-patroni-1.yml", []string{"bootstrap", "dcs", "retry_timeout"}, 3.0},
		{"understudy-bench-patroni-1.yml", []string{"bootstrap", "dcs", "primary_start_timeout"}, 0.0},
		{"understudy-bench-patroni-1.yml", []string{"bootstrap", "dcs", "synchronous_mode"}, true},
		{"understudy-bench-patroni-1.yml", []string{"bootstrap", "dcs", "synchronous_mode_strict"}, true},
		{"understudy-bench-patroni-1.yml", []string{"bootstrap", "dcs", "postgresql", "parameters", "fsync"}, "on"},
		{"understudy-bench-patroni-etcd-2.yml", []string{"name"}, "understudy-bench-patroni-etcd-2"},
		{"understudy-bench-patroni-etcd-2.yml", []string{"advertise-client-urls"}, "http://10.0.1.3:2379"},
		{"understudy-bench-patroni-etcd-2.yml", []string{"enable-grpc-gateway"}, true},
		{
			"understudy-bench-patroni-etcd-2.yml", []string{"initial-cluster"},
			"understudy-bench-patroni-etcd-0=http://10.0.1.1:2380,understudy-bench-patroni-etcd-1=http://10.0.1.2:2380," +
				"understudy-bench-patroni-etcd-2=http://10.0.1.3:2380",
		},
	} {
		var at any
		if err := yaml.Unmarshal([]byte(files.Data[c.file]), &at); err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		for _, key := range c.path {
			section, _ := at.(map[string]any)
			at = section[key]
		}
		if !reflect.DeepEqual(at, c.want) {
			t.Errorf("%s: %v is %v, want %v", c.file, c.path, at, c.want)
		}
	}
}

// Later versions of Patroni refuse settings for which this does not hold.
func TestQuickestIsLegal(t *testing.T) {
	if s := Quickest(); s.LoopWait+2*s.RetryTimeout > s.TTL {
		t.Errorf("loop_wait + 2 × retry_timeout is more than ttl: %s", s)
	}
}

// A comparison between servers of unlike size would be none.
func TestMembersAreLikeOurs(t *testing.T) {
	raw, err := os.ReadFile("../../../config/samples/postgresql.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var ours v1alpha1.ReplicatedService
	if err := yaml.UnmarshalStrict(raw, &ours); err != nil {
		t.Fatal(err)
	}
	set := memberSet("default", "image")
	if got, want := *set.Spec.Replicas, *ours.Spec.Replicas; got != want {
		t.Errorf("%d members, want %d", got, want)
	}
	if got, want := set.Spec.Template.Spec.Containers[0].Resources, *ours.Spec.Template.Resources; !reflect.DeepEqual(got, want) {
		t.Errorf("resources %v, want %v", got, want)
	}
	claim := set.Spec.VolumeClaimTemplates[0].Spec
	if got, want := claim.Resources.Requests["storage"], ours.Spec.Storage.Size; !got.Equal(want) {
		t.Errorf("volumes of %s, want %s", got.String(), want.String())
	}
	if !reflect.DeepEqual(claim.StorageClassName, ours.Spec.Storage.StorageClassName) {
		t.Errorf("storage class %v, want %v", claim.StorageClassName, ours.Spec.Storage.StorageClassName)
	}
}

func TestOldPrimaryIsTriedLast(t *testing.T) {
	got := lastOf(map[string]string{"p-0": "a", "p-1": "b", "p-2": "c"}, "p-1")
	if want := []string{"a", "c", "b"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
