// Package agentconfig is how the operator tells the members' agents what they run. What a pod is made with is in its template, and goes where that goes, back too
// when a change is taken back; what a running member takes in is in a ConfigMap; what else may change while they run is in the Lease.
package agentconfig

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"understudy.dev/understudy/internal/names"
)

// Config is the content of both files.
type Config struct {
	Service    string `json:"service"`
	Namespace  string `json:"namespace"`
	ServiceUID string `json:"serviceUID"`
	// Redis is set when the engine is Redis or Valkey.
	Redis *Redis `json:"redis,omitempty"`
	// PostgreSQL is set when the engine is PostgreSQL.
	PostgreSQL *PostgreSQL `json:"postgresql,omitempty"`
}

// Redis configures the engine.
type Redis struct {
	Port int `json:"port"`
	// Persistent says that DataDir is a volume that outlives the pod.
	Persistent bool `json:"persistent"`
	// Synchronous says that a quorum of copies is counted on, so that none may lose its newest writes in a power cut.
	Synchronous bool `json:"synchronous,omitempty"`
	// Parameters are lines of redis.conf by directive.
	Parameters map[string]string `json:"parameters,omitempty"`
}

// Load reads both files of a folder.
func Load(dir string) (Config, error) {
	c, err := load(filepath.Join(dir, names.ConfigFile))
	if err != nil || c.PostgreSQL == nil {
		return c, err
	}
	live, err := load(filepath.Join(dir, names.LiveConfigFile))
	if err == nil && live.PostgreSQL == nil {
		err = fmt.Errorf("reading the agent's configuration %s: it is another engine's", filepath.Join(dir, names.LiveConfigFile))
	}
	if err != nil {
		return c, err
	}
	return c.with(*live.PostgreSQL), nil
}

func load(path string) (Config, error) {
	var c Config
	raw, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("reading the agent's configuration: %w", err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("reading the agent's configuration %s: %w", path, err)
	}
	if c.Service == "" || c.Namespace == "" || c.ServiceUID == "" {
		return c, fmt.Errorf("reading the agent's configuration %s: service, namespace and serviceUID must be set", path)
	}
	if (c.Redis == nil) == (c.PostgreSQL == nil) {
		return c, fmt.Errorf("reading the agent's configuration %s: exactly one of redis and postgresql must be set", path)
	}
	return c, nil
}
