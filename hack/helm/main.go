// Command helm keeps the chart and config/ the same: "generate" writes the parts of the chart that come from config/,
// "verify" fails when they are stale or when chart and kustomize would install different objects.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	root := flag.String("root", ".", "folder of the repository")
	helm := flag.String("helm", "", "the helm program; default: $HELM, .cluster/bin/helm, then helm on the PATH")
	kubectl := flag.String("kubectl", "kubectl", "a kubectl that has kustomize built in")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: go run ./hack/helm [flags] generate|verify")
		flag.PrintDefaults()
	}
	flag.Parse()
	var err error
	switch flag.Arg(0) {
	case "generate":
		err = generate(*root)
	case "verify":
		err = verify(*root, *helm, *kubectl)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "helm:", err)
		os.Exit(1)
	}
}
