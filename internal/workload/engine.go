package workload

import (
	"cmp"
	"fmt"

	v1alpha1 "understudy.dev/understudy/api/v1alpha1"
	"understudy.dev/understudy/internal/agentconfig"
	"understudy.dev/understudy/internal/names"
)

// Engine is what differs between engines in the objects of a service.
type Engine struct {
	// Name is the field of spec.engine, the name of the port and the value of app.kubernetes.io/name.
	Name string
	Port int32
	// Password is where the user keeps the password; nil: the operator makes one.
	Password *v1alpha1.SecretKeyReference
	// Superuser is where the user keeps the superuser's; nil: it does not log in.
	Superuser *v1alpha1.SecretKeyReference
	// Pooler is where the user keeps the password of poolers' consoles; nil: there are none.
	Pooler *v1alpha1.SecretKeyReference
}

// EngineOf reads the union.
func EngineOf(svc *v1alpha1.ReplicatedService) Engine {
	either := func(port, otherwise int32) int32 {
		if port != 0 {
			return port
		}
		return otherwise
	}
	switch e := svc.Spec.Engine; {
	case e.PostgreSQL != nil:
		engine := Engine{Name: postgresqlEngine, Port: either(e.PostgreSQL.Port, 5432), Password: e.PostgreSQL.PasswordSecretRef,
			Superuser: e.PostgreSQL.SuperuserPasswordSecretRef}
		if e.PostgreSQL.PgBouncer != nil {
			engine.Pooler = &e.PostgreSQL.PgBouncer.PasswordSecretRef
		}
		return engine
	case e.Custom != nil:
		return Engine{Name: "custom", Port: e.Custom.Port}
	case e.Redis != nil:
		return Engine{Name: redisEngine, Port: either(e.Redis.Port, 6379), Password: e.Redis.PasswordSecretRef}
	}
	return Engine{Name: redisEngine, Port: 6379}
}

const (
	redisEngine      = "redis"
	postgresqlEngine = "postgresql"
)

// Field is the path of one of the engine's fields, for messages.
func (e Engine) Field(name string) string { return fmt.Sprintf("spec.engine.%s.%s", e.Name, name) }

// EngineNames are those that a port may be named after.
func EngineNames() []string { return []string{redisEngine, postgresqlEngine, "custom"} }

func synchronous(svc *v1alpha1.ReplicatedService) bool {
	r := svc.Spec.Replication
	return r != nil && r.Mode == v1alpha1.Synchronous
}

func texts(parameters map[string]v1alpha1.ParameterValue) map[string]string {
	if len(parameters) == 0 {
		return nil
	}
	out := map[string]string{}
	for k, v := range parameters {
		out[k] = string(v)
	}
	return out
}

func redisConfig(svc *v1alpha1.ReplicatedService) *agentconfig.Redis {
	config := &agentconfig.Redis{
		Port: int(EngineOf(svc).Port), Persistent: svc.Spec.Storage != nil, Synchronous: synchronous(svc),
	}
	if r := svc.Spec.Engine.Redis; r != nil {
		config.Parameters = texts(r.Parameters)
	}
	return config
}

// commitLevels are PostgreSQL's own names; On is its default.
var commitLevels = map[v1alpha1.SynchronousCommit]string{
	v1alpha1.CommitRemoteWrite: "remote_write", v1alpha1.CommitRemoteApply: "remote_apply",
}

func postgresqlConfig(svc *v1alpha1.ReplicatedService) *agentconfig.PostgreSQL {
	p := svc.Spec.Engine.PostgreSQL
	config := &agentconfig.PostgreSQL{
		Port: int(EngineOf(svc).Port), Persistent: svc.Spec.Storage != nil, Parameters: texts(p.Parameters),
		HBA: p.HostBasedAuthentication, Database: p.Database, Owner: p.Owner,
		SuperuserLogin:    p.SuperuserPasswordSecretRef != nil,
		SynchronousCommit: commitLevels[p.SynchronousCommit],
		TLS:               &agentconfig.PostgreSQLTLS{}, // the members' own certificates
	}
	if svc.Spec.Storage != nil && svc.Spec.Storage.WAL != nil {
		config.WALDir = names.WALDir
	}
	if b := p.PgBouncer; b != nil {
		config.PgBouncer = &agentconfig.PgBouncer{Hosts: b.Hosts, Port: int(cmp.Or(b.Port, 6432)), Database: cmp.Or(b.Database, p.Database), User: cmp.Or(b.User, "pgbouncer")}
	}
	if p.Import != nil {
		config.Import = &agentconfig.Import{Member: names.Member(svc.Name, 0), Path: p.Import.Path}
	}
	for i := range members(svc) {
		config.Members = append(config.Members, names.Member(svc.Name, i))
	}
	return config
}
