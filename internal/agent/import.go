package agent

import "understudy.dev/understudy/internal/engine"

// settleImport tells the engine whether the service still has to begin with data that was brought along, and reports false while nobody
// knows that: a service that has data of its own imports nothing, whatever is on the volume.
func (a *Agent) settleImport() bool {
	importer, can := a.Engine.(engine.Importer)
	if !can {
		return true
	}
	importer.Established(a.obs.Lease.Terms.Opened > 0)
	a.obs.ImportedBy = importer.Imports()
	if a.obs.ImportedBy == "" {
		return true
	}
	return a.obs.LeaseRead > 0
}
