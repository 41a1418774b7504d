package agentconfig

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Reloadable is the part of PostgreSQL's configuration that changes while the members run.
type Reloadable struct {
	Parameters map[string]string `json:"parameters,omitempty"`
	HBA        []string          `json:"hba,omitempty"`
}

// Reloadable is what the members take in without being started again.
func (p PostgreSQL) Reloadable() Reloadable { return Reloadable{Parameters: p.Parameters, HBA: p.HBA} }

// Digest tells two of them apart. The operator and the members compute it alike, so that each knows what the other means.
func (r Reloadable) Digest() string {
	raw, _ := json.Marshal(r) // sorted by name; strings only, so it cannot fail
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// Static is the configuration without what a running member takes in, or does not care for any more: it must be started anew for a change of it.
func (c Config) Static() Config {
	if c.PostgreSQL == nil {
		return c
	}
	return c.with(PostgreSQL{})
}

// with is the configuration with what Static leaves out, from another one.
func (c Config) with(live PostgreSQL) Config {
	p := *c.PostgreSQL
	p.Parameters, p.HBA, p.Import, p.Members = live.Parameters, live.HBA, live.Import, live.Members
	c.PostgreSQL = &p
	return c
}
