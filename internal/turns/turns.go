// Package turns counts the services that fail over at once, under one policy or in the whole cluster. The count is in a Lease that they share, and limits a storm; who may write in
// a service is decided elsewhere, and nothing here may be relied on for that.
package turns

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"understudy.dev/understudy/api/v1alpha1/keys"
)

// Lasts is for how long a turn counts that nobody ended, by the wall clocks of those who look: one whose taker is gone is free again then.
const Lasts = 15 * time.Second

// renewAfter is how old a service's turn may be before the service makes it young again by asking.
const renewAfter = 5 * time.Second

// Turn is one service that fails over.
type Turn struct {
	Service string    `json:"service"`
	Group   string    `json:"group,omitempty"` // of services with a limit of their own among all that share the Lease
	Epoch   int64     `json:"epoch"`           // that it is to begin
	At      time.Time `json:"at"`
}

// Answer to a service that asked for a turn.
type Answer struct {
	Taken  bool
	Others []string // services that fail over now
}

// Limits are how many turns may be taken at once, and how many of them a service leaves to others: of all, and of its own group's where that is limited too.
type Limits struct {
	All, Leave        int
	Group, GroupLeave int // Group 0: as many as of all
}

// reached reports whether so many others are too many, of all and of the same group.
func (l Limits) reached(all, group int) bool {
	return all >= max(l.All-l.Leave, 0) || (l.Group > 0 && group >= max(l.Group-l.GroupLeave, 0))
}

// Take adds a turn where the others leave one. changed is false where nothing is to be written: it was refused, or is there
// already, as when another member of the service took it.
func Take(held []Turn, mine Turn, limits Limits) (next []Turn, answer Answer, changed bool) {
	group := 0
	for _, t := range held {
		switch age := mine.At.Sub(t.At); {
		case age >= Lasts || age <= -Lasts:
			continue
		case t.Service != mine.Service:
			next = append(next, t)
			answer.Others = append(answer.Others, t.Service)
			if t.Group == mine.Group {
				group++
			}
		case t.Epoch == mine.Epoch:
			answer.Taken = true
			if changed = age >= renewAfter; changed {
				t.At = mine.At
			}
			next = append(next, t)
		}
	}
	if changed {
		return next, answer, true
	}
	if answer.Taken || limits.reached(len(answer.Others), group) {
		return held, answer, false
	}
	answer.Taken = true
	return append(next, mine), answer, true
}

// End takes a service's turn for an epoch out.
func End(held []Turn, service string, epoch int64) (next []Turn, changed bool) {
	next = slices.DeleteFunc(slices.Clone(held), func(t Turn) bool { return t.Service == service && t.Epoch <= epoch })
	return next, len(next) != len(held)
}

// Read takes the turns out of the Lease that holds them. What cannot be read counts as none: it would hold all services up.
func Read(obj *coordinationv1.Lease) []Turn {
	var held []Turn
	if json.Unmarshal([]byte(obj.Annotations[keys.AnnotationTurns]), &held) != nil {
		return nil
	}
	return held
}

// Write puts them there.
func Write(obj *coordinationv1.Lease, held []Turn) error {
	raw, err := json.Marshal(held)
	if err != nil {
		return fmt.Errorf("writing the turns in Lease %s/%s: %w", obj.Namespace, obj.Name, err)
	}
	if obj.Annotations == nil {
		obj.Annotations = map[string]string{}
	}
	obj.Annotations[keys.AnnotationTurns] = string(raw)
	return nil
}
