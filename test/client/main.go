// Command client writes to a Redis service from inside the cluster and measures what a user sees of a failover. It does
// nothing until it is told to over HTTP:
//
//	POST /rounds?id=ID           starts a round; the body is a load.Config
//	GET  /rounds/ID              says how it goes: load.Progress
//	POST /rounds/ID/stop         ends it: load.Result
//	POST /rounds/ID/verify       reads every acknowledged write back, deletes the keys, forgets the round: load.Verification
//	GET  /healthz
//
// The outage of a round is the largest time between two consecutive acknowledged writes, from the reply to the last
// one before to the reply to the first one after, by the monotonic clock. Nothing is subtracted, not even the interval
// between two writes, so it never flatters. It includes detection, takeover, routing, reconnecting and the write itself.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"sync"
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
	rounds := &rounds{byID: map[string]*load.Round{}, password: os.Getenv("UNDERSTUDY_PASSWORD")}
	server := &http.Server{Addr: address, Handler: rounds.handler(), ReadHeaderTimeout: 10 * time.Second}
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

// maxRounds bounds what a forgetful user can leave behind.
const maxRounds = 16

var validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)

type rounds struct {
	mu       sync.Mutex
	byID     map[string]*load.Round
	password string
}

func (s *rounds) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("POST /rounds", s.start)
	mux.HandleFunc("GET /rounds/{id}", s.with(func(_ *http.Request, r *load.Round) (any, error) {
		return r.Progress(), nil
	}))
	mux.HandleFunc("POST /rounds/{id}/stop", s.with(func(_ *http.Request, r *load.Round) (any, error) {
		return r.Stop(), nil
	}))
	mux.HandleFunc("POST /rounds/{id}/verify", s.with(s.verify))
	return mux
}

func (s *rounds) start(w http.ResponseWriter, req *http.Request) {
	id := req.URL.Query().Get("id")
	var config load.Config
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 64<<10)).Decode(&config); err != nil {
		http.Error(w, "reading the round's configuration: "+err.Error(), http.StatusBadRequest)
		return
	}
	if !validID.MatchString(id) || (config.Address == "") == (len(config.Sentinels) == 0) {
		http.Error(w, "a round needs ?id= of letters, digits, . _ -, and either address or sentinels", http.StatusBadRequest)
		return
	}
	if config.Password == "" {
		config.Password = s.password
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[id] != nil || len(s.byID) >= maxRounds {
		http.Error(w, "round "+id+" exists, or too many do: verify rounds to be rid of them", http.StatusConflict)
		return
	}
	s.byID[id] = load.Start(id, config)
	w.WriteHeader(http.StatusCreated)
}

func (s *rounds) with(do func(*http.Request, *load.Round) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		round := s.byID[req.PathValue("id")]
		s.mu.Unlock()
		if round == nil {
			http.Error(w, "there is no round "+req.PathValue("id"), http.StatusNotFound)
			return
		}
		answer, err := do(req, round)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (s *rounds) verify(req *http.Request, round *load.Round) (any, error) {
	ctx, cancel := context.WithTimeout(req.Context(), 30*time.Second)
	defer cancel()
	v, err := round.Verify(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, round.ID)
	return v, nil
}
