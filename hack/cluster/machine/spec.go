// Package machine runs one computer of the cluster as a group of Linux namespaces: its own processes, mounts, host
// name and network. Its first process starts the programs and starts them again when they end, as an init system
// does; when it is killed, the kernel kills every other process of the machine with it.
package machine

import (
	"encoding/json"
	"fmt"
	"os"
)

// Spec is what the first process of a machine needs to know.
type Spec struct {
	Name string `json:"name"`
	// Binds are folders that the machine sees elsewhere than the host does.
	Binds    []Bind    `json:"binds,omitempty"`
	Programs []Program `json:"programs"`
}

// Bind shows a folder of the host at another path inside the machine.
type Bind struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Program is one that the machine keeps running.
type Program struct {
	Name string   `json:"name"`
	Args []string `json:"args"` // the path first
	Log  string   `json:"log"`
	// Needs is what must answer before the program starts: unix:PATH and tcp:ADDRESS must accept connections, an
	// https: URL must give 200.
	Needs string `json:"needs,omitempty"`
}

// ReadSpec reads a specification that Render wrote.
func ReadSpec(path string) (Spec, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Spec{}, fmt.Errorf("reading a machine's specification: %w", err)
	}
	var spec Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return Spec{}, fmt.Errorf("parsing the machine's specification %s: %w", path, err)
	}
	return spec, nil
}
