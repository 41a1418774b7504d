package controllers

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/engine/postgresql"
)

// TestRefusals: what the API server itself refuses names the field and the remedy.
func TestRefusals(t *testing.T) {
	s := newStage(t)
	service := func(change func(*v1alpha1.ReplicatedServiceSpec)) client.Object {
		svc := redis("refused")
		change(&svc.Spec)
		return svc
	}
	database := func(change func(*v1alpha1.PostgreSQLSpec)) client.Object {
		return service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			p := &v1alpha1.PostgreSQLSpec{}
			change(p)
			spec.Engine, spec.Storage = v1alpha1.EngineSpec{PostgreSQL: p}, &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi")}
		})
	}
	lines := func(all ...string) client.Object {
		return database(func(p *v1alpha1.PostgreSQLSpec) { p.HostBasedAuthentication = all })
	}
	policy := func(change func(*v1alpha1.FailoverPolicySpec)) client.Object {
		p := &v1alpha1.FailoverPolicy{ObjectMeta: metav1.ObjectMeta{Name: "refused"}}
		change(&p.Spec)
		return p
	}
	for name, c := range map[string]struct {
		obj  client.Object
		want string
	}{
		"two engines": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Engine.PostgreSQL = &v1alpha1.PostgreSQLSpec{}
		}), "exactly one of engine.redis, engine.postgresql and engine.custom must be set"},
		"a time to move back to nowhere": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Placement = &v1alpha1.PlacementSpec{FailBackAfterSeconds: ptr.To[int32](60)}
		}), "failBackAfterSeconds needs preferredZone"},
		"postgresql without volumes": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Engine = v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{}}
		}), "storage must be set with engine.postgresql"},
		"a commit level without replicas to wait for": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Engine = v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{SynchronousCommit: v1alpha1.CommitRemoteWrite}}
			spec.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi")}
		}), "engine.postgresql.synchronousCommit other than RemoteFlush needs replication.mode Synchronous"},
		"a log's volume for an engine without one": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi"), WAL: &v1alpha1.WALStorageSpec{Size: resource.MustParse("1Gi")}}
		}), "storage.wal needs engine.postgresql"},
		"data to import from outside of the volume": {database(func(p *v1alpha1.PostgreSQLSpec) {
			p.Import = &v1alpha1.ImportSpec{Path: "deep/../../other"}
		}), "engine.postgresql.import.path is a path below the volume's root"},
		"data to import from where the members have theirs": {database(func(p *v1alpha1.PostgreSQLSpec) {
			p.Import = &v1alpha1.ImportSpec{Path: "./data/pgdata"}
		}), "names a folder that the members use themselves"},
		"no engine": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Engine.Redis = nil
		}), "spec.engine: Required value"},
		"zero replicas": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Replicas = ptr.To[int32](0)
		}), "spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1"},
		"no image": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Template.Image = ""
		}), "spec.template"},
		"a quorum of all": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Replication = &v1alpha1.ReplicationSpec{Mode: v1alpha1.Synchronous, Synchronous: &v1alpha1.SynchronousSpec{Quorum: 3}}
		}), "replication.synchronous.quorum must be smaller than replicas"},
		"synchronous without its settings": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Replication = &v1alpha1.ReplicationSpec{Mode: v1alpha1.Synchronous}
		}), "replication.synchronous must be set when mode is Synchronous"},
		"a parameter that is ours": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Engine.Redis.Parameters = map[string]v1alpha1.ParameterValue{"replicaof": "evil 6379"}
		}), "holds a directive that Understudy sets itself"},
		"a parameter of two lines": {service(func(spec *v1alpha1.ReplicatedServiceSpec) {
			spec.Engine.Redis.Parameters = map[string]v1alpha1.ParameterValue{"maxmemory": "1mb\nreplicaof evil 6379"}
		}), "a value is one line"},
		"a parameter of PostgreSQL that is ours": {database(func(p *v1alpha1.PostgreSQLSpec) {
			p.Parameters = map[string]v1alpha1.ParameterValue{"Listen_Addresses": "x"}
		}), "holds a parameter that Understudy sets itself"},
		"a target of recovery": {database(func(p *v1alpha1.PostgreSQLSpec) {
			p.Parameters = map[string]v1alpha1.ParameterValue{"recovery_target_xid": "1"}
		}), "holds a parameter that Understudy sets itself"},
		"a parameter that has no name": {database(func(p *v1alpha1.PostgreSQLSpec) {
			p.Parameters = map[string]v1alpha1.ParameterValue{"work mem": "1"}
		}), "a name is letters, digits and underscores"},
		"a parameter of PostgreSQL of two lines": {database(func(p *v1alpha1.PostgreSQLSpec) {
			p.Parameters = map[string]v1alpha1.ParameterValue{"work_mem": "1MB\nport = 1"}
		}), "a value is one line without control characters"},
		"a local line":             {lines("local all all trust"), "a line begins with host"},
		"a short line":             {lines("host all all all md5", "host all all all"), "a line has at least five fields"},
		"a line for replication":   {lines("host app,replication all all trust"), "replication is the members' own"},
		"a line that reads a file": {lines("host @dbs all all md5"), "a line is one line without @"},
		"two lines in one":         {lines("host all all all md5\nlocal all all trust"), "a line is one line"},
		"a line that goes on":      {lines("host all all all md5 \\"), "a line is one line"},
		"a lease shorter than its heartbeats": {policy(func(spec *v1alpha1.FailoverPolicySpec) {
			spec.Detection = v1alpha1.DetectionSpec{HeartbeatIntervalMilliseconds: 1000, SuspectAfterMilliseconds: 3000, LeaseDurationMilliseconds: 2000}
		}), "leaseDurationMilliseconds must be at least 3 × heartbeatIntervalMilliseconds"},
		"suspicion after the lease": {policy(func(spec *v1alpha1.FailoverPolicySpec) {
			spec.Detection = v1alpha1.DetectionSpec{SuspectAfterMilliseconds: 5000}
		}), "leaseDurationMilliseconds must be larger than suspectAfterMilliseconds"},
		"a person's word as evidence": {policy(func(spec *v1alpha1.FailoverPolicySpec) {
			spec.AcceptedEvidence = []v1alpha1.EvidenceType{v1alpha1.EvidenceReleased, v1alpha1.EvidenceAsserted}
		}), "acceptedEvidence cannot name Asserted"},
		"an exception without its choice": {policy(func(spec *v1alpha1.FailoverPolicySpec) {
			spec.PartitionException = v1alpha1.ExceptionAcceptTwoWriters
		}), "partitionException AcceptTwoWriters needs partitionChoice PreferAvailability"},
		"a forced failover that names nobody": {&v1alpha1.Failover{
			ObjectMeta: metav1.ObjectMeta{Name: "refused"},
			Spec:       v1alpha1.FailoverSpec{ServiceRef: v1alpha1.LocalReference{Name: "x"}, Type: v1alpha1.TypeForced},
		}, "assertDead must be set when type is Forced"},
	} {
		t.Run(name, func(t *testing.T) {
			c.obj.SetNamespace(s.namespace)
			err := api.Create(t.Context(), c.obj)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want a refusal with %q, have: %v", c.want, err)
			}
		})
	}
}

// TestRefusedChanges: what cannot be changed once it exists.
func TestRefusedChanges(t *testing.T) {
	s := newStage(t)
	fo := &v1alpha1.Failover{ObjectMeta: metav1.ObjectMeta{Name: "once"}, Spec: v1alpha1.FailoverSpec{ServiceRef: v1alpha1.LocalReference{Name: "x"}}}
	s.create(fo)
	s.eventually(func() string {
		s.get("once", fo)
		fo.Spec.Target = "x-1"
		err := api.Update(s.ctx, fo)
		if err == nil {
			t.Fatal("a Failover could be changed")
		}
		if !strings.Contains(err.Error(), "a Failover cannot be changed: create another one") {
			return err.Error()
		}
		return ""
	})
	long := redis(strings.Repeat("a", 41))
	long.Namespace = s.namespace
	if err := api.Create(s.ctx, long); err == nil || !strings.Contains(err.Error(), "metadata.name must be a DNS label of at most 40 characters") {
		t.Errorf("a name of 41 characters: %v", err)
	}
}

// TestOwnedParameters: the API refuses whatever the engine's adapter would.
func TestOwnedParameters(t *testing.T) {
	s := newStage(t)
	for _, name := range postgresql.Owned {
		svc := redis("owned")
		svc.Namespace = s.namespace
		svc.Spec.Engine = v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{Parameters: map[string]v1alpha1.ParameterValue{name: "1"}}}
		svc.Spec.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi")}
		if err := api.Create(t.Context(), svc); err == nil || !strings.Contains(err.Error(), "Understudy sets itself") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestParametersThatAreTaken: what the rules must let through.
func TestParametersThatAreTaken(t *testing.T) {
	s := newStage(t)
	svc := redis("taken")
	svc.Spec.Engine = v1alpha1.EngineSpec{PostgreSQL: &v1alpha1.PostgreSQLSpec{
		Parameters:              map[string]v1alpha1.ParameterValue{"work_mem": "8MB", "DateStyle": "iso, dmy", "pg_stat_statements.max": "100", "log_line_prefix": `%m '\ü`},
		HostBasedAuthentication: []string{"host all all 10.0.0.0/8 scram-sha-256", "hostssl\tapp  \"a b\" samenet cert clientcert=verify-full", "host all all 10.0.0.0 255.0.0.0 md5"},
	}}
	svc.Spec.Storage = &v1alpha1.StorageSpec{Size: resource.MustParse("1Gi")}
	s.create(svc)
}
