package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

// statusBox hands the newest status from the loop to the HTTP server.
type statusBox struct {
	mu       sync.Mutex
	status   wire.Status
	answered bool // the engine answers
}

func (b *statusBox) set(s wire.Status, answers bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status, b.answered = s, answers
}

func (b *statusBox) get() (wire.Status, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status, b.answered
}

// serveHTTP serves readiness, metrics and, to the pod itself, the status. Readiness means that the agent is up and its
// engine answers, never role or lag.
func (a *Agent) serveHTTP(ctx context.Context) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if _, ok := a.status.get(); !ok {
			http.Error(w, "the engine does not answer", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		s, ok := a.status.get()
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = fmt.Fprint(w, exposition(s, ok))
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		s, _ := a.status.get()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s)
	})
	server := &http.Server{Addr: ":" + strconv.Itoa(names.MetricsPort), Handler: mux, ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10}
	go func() {
		if err := server.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.Log.Error(err, "Readiness and metrics are not served")
		}
	}()
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
}

// exposition writes the metrics in Prometheus' text format. The client library would add a tenth to the agent's size for
// these few gauges.
func exposition(s wire.Status, answers bool) string {
	gauge := func(name, help string, value float64) string {
		return fmt.Sprintf("# HELP %s %s\n# TYPE %s gauge\n%s %v\n", name, help, name, name, value)
	}
	bit := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	return gauge("understudy_agent_epoch", "Highest epoch this member knows.", float64(s.Epoch)) +
		gauge("understudy_agent_promise", "Epoch below which this member acknowledges nothing.", float64(s.Promise)) +
		gauge("understudy_agent_serving", "1 while this member is the primary and open for writes.", bit(s.Serving)) +
		gauge("understudy_agent_eligible", "1 while this member could take over.", bit(s.Eligible)) +
		gauge("understudy_agent_engine_answers", "1 while the engine answers its probe.", bit(answers)) +
		gauge("understudy_agent_lag_bytes", "Bytes behind the primary; -1 if unknown.", float64(s.LagBytes)) +
		gauge("understudy_agent_position_offset_bytes", "Replication offset of this member.", float64(s.Position.Offset)) +
		gauge("understudy_agent_takeovers", "Takeovers this member won and still has on record.", float64(len(s.Takeovers))) +
		gauge("understudy_agent_guard_lateness_seconds", "Largest delay of the guard's wake-up.", float64(s.GuardLatenessMicros)/1e6)
}
