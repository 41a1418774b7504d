package engine

import "errors"

// Stuck names why an engine does not go on, as a reason of the service's condition Stalled.
type Stuck string

const (
	// RejoinFailed: its data could not be made to follow the primary's, as often as that is tried.
	RejoinFailed Stuck = "RejoinFailed"
	// BootstrapFailed: the data of a new member could not be made.
	BootstrapFailed Stuck = "BootstrapFailed"
	// ConfigurationRefused: it does not start with what it was told to run with, and has nothing from before.
	ConfigurationRefused Stuck = "ConfigurationRefused"
	// NotStarted: its process cannot be made, for another reason.
	NotStarted Stuck = "EngineNotStarted"
)

// StuckError says that an engine does not go on, or only in vain, until a person has put something right.
type StuckError struct {
	Reason Stuck
	Err    error
}

func (e *StuckError) Error() string { return e.Err.Error() }
func (e *StuckError) Unwrap() error { return e.Err }

// StuckFor tells why err needs a person; empty: it does not say that it does.
func StuckFor(err error) Stuck {
	var stuck *StuckError
	if errors.As(err, &stuck) {
		return stuck.Reason
	}
	return ""
}
