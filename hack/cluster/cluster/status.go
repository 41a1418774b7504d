package cluster

import (
	"context"
	"fmt"
	"time"

	"understudy.dev/understudy/hack/cluster/faults"
	"understudy.dev/understudy/hack/cluster/identity"
	"understudy.dev/understudy/hack/cluster/kube"
	"understudy.dev/understudy/hack/cluster/layout"
	"understudy.dev/understudy/hack/cluster/machine"
	"understudy.dev/understudy/hack/cluster/pki"
	"understudy.dev/understudy/hack/cluster/render"
)

// Row is one line of the status.
type Row struct {
	Component, Node, State string
	PID                    int
	Healthy                bool
}

// Build builds the named components, or all that a cluster needs.
func Build(o Options, names ...string) error {
	if len(names) == 0 {
		return Programs(o)
	}
	builder, err := o.builder()
	if err != nil {
		return err
	}
	return builder.Ensure(o.Folder.Bin(""), names...)
}

// Status lists what should run and whether it does.
func Status(ctx context.Context, folder layout.Folder) ([]Row, error) {
	r, err := Load(folder)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, m := range layout.Machines() {
		spec, err := machine.ReadSpec(folder.Config(m.Name, render.SpecName))
		if err != nil {
			return nil, err
		}
		state := "down"
		if r.Off[m.Name] {
			state = "off"
		}
		running := map[string]identity.Process{}
		if process := r.Machines[m.Name]; identity.Proc.Alive(process) {
			if running, err = faults.Programs(process); err != nil {
				return nil, err
			}
			rows = append(rows, Row{"machine", m.Name, "running", process.PID, true})
		} else {
			rows = append(rows, Row{"machine", m.Name, state, 0, false})
		}
		for _, program := range spec.Programs {
			if process, found := running[program.Name]; found {
				rows = append(rows, Row{program.Name, m.Name, "running", process.PID, true})
			} else {
				rows = append(rows, Row{program.Name, m.Name, state, 0, false})
			}
		}
		plugged := Row{"cable", m.Name, "plugged in", 0, faults.LinkUp(m)}
		if !plugged.Healthy {
			plugged.State = "unplugged"
		}
		rows = append(rows, plugged)
	}
	return append(rows, readiness(ctx, folder)...), nil
}

// readiness is what Kubernetes itself says.
func readiness(ctx context.Context, folder layout.Folder) []Row {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	control := layout.Control().Name
	client, err := kube.New(folder, pki.ClusterCA, pki.Admin)
	if err != nil {
		return []Row{{"API", control, err.Error(), 0, false}}
	}
	if _, err := client.Get(ctx, "/readyz"); err != nil {
		return []Row{{"API", control, err.Error(), 0, false}}
	}
	rows := []Row{{"API", control, "ready", 0, true}}
	for _, m := range layout.Nodes() {
		var found node
		row := Row{"Node", m.Name, "Ready", 0, true}
		if err := client.Do(ctx, "GET", "/api/v1/nodes/"+m.Name, "", nil, &found); err != nil {
			row.State, row.Healthy = err.Error(), false
		} else if ready, why := found.ready(time.Time{}); !ready {
			row.State, row.Healthy = fmt.Sprintf("NotReady (%s)", why), false
		}
		rows = append(rows, row)
	}
	return rows
}
