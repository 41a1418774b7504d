package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/internal/wire"
)

// serveHTTP serves readiness, metrics and, to the pod itself, the status. Readiness means that the agent is up and its
// engine answers, never role or lag.
func (h *host) serveHTTP(ctx context.Context) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if _, ok := h.status(r.Context()); !ok {
			http.Error(w, "the engine does not answer", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		s, ok := h.status(r.Context())
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = fmt.Fprint(w, exposition(s, ok))
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		s, _ := h.status(r.Context())
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s)
	})
	server := &http.Server{Addr: ":" + strconv.Itoa(names.MetricsPort), Handler: mux, ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10}
	go func() {
		if err := server.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			h.agent.Log.Error(err, "Readiness and metrics are not served")
		}
	}()
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
}

// statusTimeout bounds the wait for the loop: one that does not answer is not ready.
const statusTimeout = 500 * time.Millisecond

// status asks the loop; it is zero, and not ready, when the loop does not answer.
func (h *host) status(ctx context.Context) (wire.Status, bool) {
	type answer struct {
		status  wire.Status
		answers bool
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	reply := make(chan answer, 1)
	h.post(func() { reply <- answer{h.agent.Status(), h.agent.EngineAnswers()} })
	select {
	case a := <-reply:
		return a.status, a.answers
	case <-ctx.Done():
		return wire.Status{}, false
	}
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
