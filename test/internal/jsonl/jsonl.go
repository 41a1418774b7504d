// Package jsonl writes and reads a list of things, one a line.
package jsonl

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Write writes each item on a line of its own.
func Write[T any](w io.Writer, items []T) error {
	buffered := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffered)
	for i := range items {
		if err := encoder.Encode(&items[i]); err != nil {
			return fmt.Errorf("writing line %d: %w", i+1, err)
		}
	}
	return buffered.Flush()
}

// Read reads what Write wrote.
func Read[T any](r io.Reader) ([]T, error) {
	var items []T
	decoder := json.NewDecoder(r)
	for {
		var item T
		err := decoder.Decode(&item)
		if errors.Is(err, io.EOF) {
			return items, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading line %d: %w", len(items)+1, err)
		}
		items = append(items, item)
	}
}
