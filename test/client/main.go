// Command client writes to a service from inside the cluster and measures what a user sees of a failover. It does
// nothing until it is told to over HTTP:
//
//	POST /rounds?id=ID           starts a round; the body is a load.Config
//	GET  /rounds/ID              says how it goes: load.Progress
//	POST /rounds/ID/stop         ends it: load.Result
//	POST /rounds/ID/verify       reads every acknowledged write back, deletes the keys, forgets the round: load.Verification
//	POST /recordings?id=ID       starts a recording of several clients on the same keys; the body is a load.RecordConfig
//	GET  /recordings/ID          says how it goes: load.Recorded
//	POST /recordings/ID/stop     ends it: load.Recorded
//	POST /recordings/ID/history  reads every key once more, deletes the keys, forgets the recording: a history.Op a line,
//	                             or a serial.Txn of PostgreSQL
//	GET  /healthz
//
// The outage of a round is the largest time between two consecutive acknowledged writes, from the reply to the last
// one before to the reply to the first one after, by the monotonic clock. Nothing is subtracted, not even the interval
// between two writes, so it never flatters. It includes detection, takeover, routing, reconnecting and the write itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"understudy.dev/understudy/test/internal/load"
)

func main() {
	address := os.Getenv("UNDERSTUDY_LISTEN")
	if address == "" {
		address = ":8090"
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	server := &http.Server{Addr: address, Handler: newProgram(os.Getenv("UNDERSTUDY_PASSWORD")).handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	slog.Info("listening", "address", address)
	err := server.ListenAndServe()
	stop()
	if !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, "client: listening on", address+":", err)
		os.Exit(1)
	}
}

// program is what the client keeps between two requests.
type program struct {
	password   string
	rounds     register[*load.Round]
	recordings register[load.Recorder]
}

func newProgram(password string) *program {
	return &program{password: password, rounds: register[*load.Round]{what: "round"}, recordings: register[load.Recorder]{what: "recording"}}
}

func (p *program) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("POST /rounds", p.rounds.start(p.round))
	mux.HandleFunc("GET /rounds/{id}", p.rounds.with(answer((*load.Round).Progress)))
	mux.HandleFunc("POST /rounds/{id}/stop", p.rounds.with(answer((*load.Round).Stop)))
	mux.HandleFunc("POST /rounds/{id}/verify", p.rounds.with(p.verify))
	mux.HandleFunc("POST /recordings", p.recordings.start(p.recording))
	mux.HandleFunc("GET /recordings/{id}", p.recordings.with(answer(load.Recorder.Progress)))
	mux.HandleFunc("POST /recordings/{id}/stop", p.recordings.with(answer(load.Recorder.Stop)))
	mux.HandleFunc("POST /recordings/{id}/history", p.recordings.with(p.history))
	return mux
}

func (p *program) round(decode func(any) error) (func(id string) *load.Round, error) {
	var config load.Config
	if err := decode(&config); err != nil {
		return nil, err
	}
	p.authenticate(&config)
	return func(id string) *load.Round { return load.Start(id, config) }, config.Valid()
}

func (p *program) recording(decode func(any) error) (func(id string) load.Recorder, error) {
	var config load.RecordConfig
	if err := decode(&config); err != nil {
		return nil, err
	}
	p.authenticate(&config.Config)
	return config.Begin, config.Valid()
}

func (p *program) authenticate(config *load.Config) {
	if config.Password == "" {
		config.Password = p.password
	}
}

func (p *program) verify(w http.ResponseWriter, req *http.Request, round *load.Round) error {
	ctx, cancel := context.WithTimeout(req.Context(), 30*time.Second)
	defer cancel()
	v, err := round.Verify(ctx)
	if err != nil {
		return err
	}
	p.rounds.forget(round.ID)
	return writeJSON(w, v)
}

func (p *program) history(w http.ResponseWriter, req *http.Request, recording load.Recorder) error {
	ctx, cancel := context.WithTimeout(req.Context(), time.Minute)
	defer cancel()
	write, err := recording.Written(ctx)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/jsonl")
	if err := write(w); err != nil {
		panic(http.ErrAbortHandler) // half a history must not look like a whole one
	}
	p.recordings.forget(req.PathValue("id"))
	return nil
}
