// Package recipe says what is in each image.
package recipe

import (
	"context"

	"understudy.dev/understudy/hack/images/image"
)

// Request is what a person asked for.
type Request struct {
	// Repository is the clone whose programs go into our own images.
	Repository string
	// Tag is the tag of our own images.
	Tag string
}

// Recipe makes one image.
type Recipe struct {
	Name string
	Make func(context.Context, Request) (image.Image, error)
	// Optional ones are made only when named: they need something that not every machine has.
	Optional bool
}

// All lists the images.
func All() []Recipe {
	return []Recipe{
		{Name: "pause", Make: pause},
	}
}
