package main

import (
	"encoding/json"
	"net/http"
	"regexp"
	"sync"
)

// maxKept bounds what a forgetful user can leave behind of each kind.
const maxKept = 16

var validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)

// register keeps what runs, or has run and was not asked for yet, by its id.
type register[R any] struct {
	what string
	mu   sync.Mutex
	byID map[string]R
}

// start reads a configuration; what begin returns is called once it is known that the id is free.
func (s *register[R]) start(begin func(decode func(any) error) (func(id string) R, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		id := req.URL.Query().Get("id")
		run, err := begin(json.NewDecoder(http.MaxBytesReader(w, req.Body, 64<<10)).Decode)
		if err != nil {
			http.Error(w, "reading the configuration of a "+s.what+": "+err.Error(), http.StatusBadRequest)
			return
		}
		if !validID.MatchString(id) {
			http.Error(w, "a "+s.what+" needs ?id= of letters, digits, . _ -", http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, exists := s.byID[id]; exists || len(s.byID) >= maxKept {
			http.Error(w, s.what+" "+id+" exists, or too many do: ask for their results to be rid of them", http.StatusConflict)
			return
		}
		if s.byID == nil {
			s.byID = map[string]R{}
		}
		s.byID[id] = run(id)
		w.WriteHeader(http.StatusCreated)
	}
}

func (s *register[R]) with(do func(http.ResponseWriter, *http.Request, R) error) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		kept, exists := s.byID[req.PathValue("id")]
		s.mu.Unlock()
		if !exists {
			http.Error(w, "there is no "+s.what+" "+req.PathValue("id"), http.StatusNotFound)
			return
		}
		if err := do(w, req, kept); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	}
}

func (s *register[R]) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, id)
}

// answer writes what a method says.
func answer[R, A any](ask func(R) A) func(http.ResponseWriter, *http.Request, R) error {
	return func(w http.ResponseWriter, _ *http.Request, kept R) error { return writeJSON(w, ask(kept)) }
}

// writeJSON never fails for want of a reader: there is nobody left to tell.
func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
	return nil
}
