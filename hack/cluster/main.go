// Command cluster runs a real Kubernetes of three nodes on one Linux machine, without Docker, and breaks it on demand.
package main

import (
	"os"

	"understudy.dev/understudy/hack/cluster/cli"
)

func main() { os.Exit(cli.Main()) }
