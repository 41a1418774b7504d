package agent

import (
	"context"
	"slices"
	"time"

	"understudy.dev/understudy/internal/engine"
)

const (
	// configEvery is how often the configuration's file is looked at. The kubelet brings a change within about a minute.
	configEvery = time.Second
	// configTimeout bounds one try of the engine to take it in. Orders to the engine do not wait for it.
	configTimeout = 10 * time.Second
)

// watchConfig gives the engine what its part of the configuration says by now, if it takes that in while it runs.
func (a *Agent) watchConfig() {
	r, ok := a.Engine.(engine.Reconfigurer)
	if !ok || a.LoadConfig == nil {
		return
	}
	a.World.After(configEvery, func() {
		config := a.Config
		var tuned engine.Configuration
		var err, loadErr error
		a.World.Beside(configTimeout, func(ctx context.Context) {
			if c, e := a.LoadConfig(); e == nil {
				config = c
			} else {
				loadErr = e // the engine goes on with what was read last
			}
			tuned, err = r.Reconfigure(ctx, config)
		}, func() {
			a.Config.PostgreSQL = config.PostgreSQL
			a.settleImport()
			a.onConfigured(tuned, loadErr, err)
			a.watchConfig()
		})
	})
}

// onConfigured notes how far the engine is.
func (a *Agent) onConfigured(tuned engine.Configuration, troubles ...error) {
	was := a.tuned
	a.tuned = tuned
	trouble := ""
	for _, err := range troubles {
		if err != nil && a.proc.pid != 0 { // an engine that ended is looked at when it runs again
			trouble = err.Error()
		}
	}
	if trouble != "" && trouble != a.tuneTrouble {
		a.Log.Info("The engine's configuration could not be looked at; trying again", "why", trouble, "in", configEvery)
	}
	a.tuneTrouble = trouble
	switch {
	case was.Judged == tuned.Judged && was.Refused == tuned.Refused && slices.Equal(was.RestartFor, tuned.RestartFor):
	case tuned.Refused != "":
		a.Log.Info("The engine's new configuration was refused; it goes on with the one before", "configuration", tuned.Judged, "why", tuned.Refused)
	case tuned.Judged != "":
		a.Log.Info("The engine runs the configuration", "configuration", tuned.Judged, "waits for a restart", tuned.RestartFor)
	}
}
