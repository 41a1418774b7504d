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
	// Optional ones are made only when named: they need more than the machine's own packages, or hardly anybody needs them.
	Optional bool
}

// All lists the images.
func All() []Recipe {
	redis := engine{
		reference: "docker.io/library/redis:7.0", packages: []string{"redis-server", "redis-tools"}, prefix: "redis",
		variable: "REDIS_VERSION", source: deb.Host,
	}
	redis8, valkey := redis, redis
	redis8.reference, redis8.source = "docker.io/library/redis:8.0", trixie
	valkey.reference, valkey.source = "docker.io/valkey/valkey:8.1", trixie
	valkey.packages, valkey.prefix, valkey.variable = []string{"valkey-server", "valkey-tools"}, "valkey", "VALKEY_VERSION"
	postgres15, postgres17, postgres18 := postgres{major: "15", source: deb.Host}, postgres{major: "17", source: trixie}, postgres{major: "18", source: forky}
	return []Recipe{
		{Name: "pause", Make: pause},
		{Name: "redis", Make: redis.make, Inputs: redis.inputs},
		{Name: "redis8", Make: redis8.make, Inputs: redis8.inputs, Optional: true},
		{Name: "valkey", Make: valkey.make, Inputs: valkey.inputs, Optional: true},
		{Name: "postgresql", Make: postgres15.make, Inputs: postgres15.inputs},
		{Name: "postgresql17", Make: postgres17.make, Inputs: postgres17.inputs, Optional: true},
		{Name: "postgresql18", Make: postgres18.make, Inputs: postgres18.inputs, Optional: true},
		{Name: "pgbouncer", Make: pgbouncer, Inputs: postgres15.inputs},
		{Name: "patroni", Make: patroni{postgres15}.make, Inputs: postgres15.inputs, Optional: true},
		{Name: "understudy", Make: understudy},
		{Name: "client", Make: client},
	}
}

// trixie is Debian 13, which has newer engines than the release that the tests run on.
func trixie() (deb.Source, error) { return deb.Release("trixie") }

// forky is Debian 14, which was not released when this was written.
func forky() (deb.Source, error) { return deb.Release("forky") }
