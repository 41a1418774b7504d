// Package names derives the name of every object, volume and path of a service from the service's own name, so that
// operator, agents and tests never disagree on one.
package names

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

const (
	// AgentPort is where agents listen for their peers and the operator, mTLS only.
	AgentPort = 7946
	// MetricsPort is where agents serve metrics and the readiness probe.
	MetricsPort = 7947
	// EngineContainer is the container with the agent as PID 1 and the engine as its child.
	EngineContainer = "engine"
	// InstallContainer is the init container that copies the agent's binary.
	InstallContainer = "install-agent"
	// BinDir holds the agent's binary in the engine's container.
	BinDir = "/understudy/bin"
	// AgentPath is the agent's binary in the engine's container.
	AgentPath = BinDir + "/understudy-agent"
	// StateDir holds the promise; it lives as long as the pod.
	StateDir = "/understudy/state"
	// ConfigDir holds the agent's configuration: ConfigFile is what its pod was made with, LiveConfigFile what it is now.
	ConfigDir      = "/understudy/config"
	ConfigFile     = "agent.json"
	LiveConfigFile = "live.json"
	// CertsDir holds ca.crt and MEMBER.crt, MEMBER.key for each member.
	CertsDir = "/understudy/certs"
	// SecretDir holds the engine's password under PasswordKey.
	SecretDir = "/understudy/secret"
	// DataVolume and WALVolume are the claim templates of the engine's data and of PostgreSQL's WAL, where it has a volume of its own;
	// DataDir and WALDir are where they are mounted.
	DataVolume = "data"
	DataDir    = "/data"
	WALVolume  = "wal"
	WALDir     = "/wal"
	// ConfigKey is the key of the agents' configuration in their ConfigMap; agents of earlier versions read all of it.
	ConfigKey = "agent.json"
	// PasswordKey is the file name of the engine's password below SecretDir.
	PasswordKey = "password"
	// SuperuserKey is the file name of the superuser's password below SecretDir, where it may log in.
	SuperuserKey = "superuser-password"
	// PoolerKey is that of the poolers' consoles.
	PoolerKey = "pgbouncer-password"
	// ReplicationKey is the file name of the members' own password below SecretDir; with TLS there is none.
	ReplicationKey = "replication-password"
	// RunDir is a folder in memory for what the engine needs while it runs: its configuration, its socket, a password file.
	RunDir = "/understudy/run"
	// OperatorCertName is the common name of the operator's client certificate.
	OperatorCertName = "understudy-operator"
)

// Member is the pod's name of the member with an ordinal.
func Member(service string, ordinal int) string { return fmt.Sprintf("%s-%d", service, ordinal) }

// Claim is the PersistentVolumeClaim that a StatefulSet makes for a member from a template.
func Claim(template, member string) string { return template + "-" + member }

// Ordinal is the number at the end of a member's name.
func Ordinal(member string) (int, error) {
	i := strings.LastIndexByte(member, '-')
	n, err := strconv.Atoi(member[i+1:])
	if i < 0 || err != nil || n < 0 {
		return 0, fmt.Errorf("member name %q does not end in -<ordinal>", member)
	}
	return n, nil
}

// PrimaryService leads to the primary.
func PrimaryService(service string) string { return service }

// ReplicasService leads to the readable replicas.
func ReplicasService(service string) string { return service + "-replicas" }

// MembersService is the headless Service of all members.
func MembersService(service string) string { return service + "-members" }

// Lease is the register of (epoch, holder).
func Lease(service string) string { return service + "-primary" }

// Turns is the Lease in which the services under one policy of a namespace count those that fail over at once; policy is empty for those that name none.
// No service's Lease is called so, since names of services have no dots.
func Turns(policy string) string {
	if policy == "" {
		return "failovers.no-policy"
	}
	const longest = 200 // of 253 that a name may have
	if len(policy) > longest {
		sum := sha256.Sum256([]byte(policy))
		policy = policy[:longest] + "-" + hex.EncodeToString(sum[:8])
	}
	return "failovers.policy." + policy
}

// ClusterTurns is the Lease in the operator's namespace in which all services count those that fail over at once, where the operator limits that; and the Role
// that lets agents do so.
const ClusterTurns = "failovers.cluster"

// ClusterTurnsBinding is the RoleBinding there of one service's agents. Neither name has dots.
func ClusterTurnsBinding(namespace, service string) string {
	return ClusterTurns + "." + namespace + "." + service
}

// PrimarySlice is the EndpointSlice of the primary for one address family ("ipv4" or "ipv6").
func PrimarySlice(service, family string) string { return service + "-primary-" + family }

// AgentServiceAccount is the service account, Role and RoleBinding of the members.
func AgentServiceAccount(service string) string { return service + "-agent" }

// ConfigMap holds the agents' configuration.
func ConfigMap(service string) string { return service + "-agent" }

// CASecret holds the service's certificate authority; only the operator reads it.
func CASecret(service string) string { return service + "-ca" }

// CertsSecret holds the members' certificates.
func CertsSecret(service string) string { return service + "-agent-certs" }

// AuthSecret holds the engine's password when the user gave none.
func AuthSecret(service string) string { return service + "-auth" }

// MemberHost is the DNS name of a member inside the cluster.
func MemberHost(member, service, namespace string) string {
	return member + "." + MembersService(service) + "." + namespace + ".svc"
}
