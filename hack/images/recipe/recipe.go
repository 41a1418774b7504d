// Package recipe says what is in each image.
package recipe

import (
	"context"

	"understudy.dev/understudy/hack/images/deb"
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
	// Inputs, when there is one, changes with anything but this program that the image is made from.
	Inputs func() (string, error)
	// Optional ones are made only when named: they need more than the machine's own packages.
	Optional bool
}

// All lists the images.
func All() []Recipe {
	redis := engine{
		reference: "docker.io/library/redis:7.0", packages: []string{"redis-server", "redis-tools"}, prefix: "redis",
		variable: "REDIS_VERSION", source: deb.Host,
	}
	return []Recipe{
		{Name: "pause", Make: pause},
		{Name: "redis", Make: redis.make, Inputs: redis.inputs},
		{Name: "understudy", Make: understudy},
		{Name: "client", Make: client},
	}
}
