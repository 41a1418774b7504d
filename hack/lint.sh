#!/usr/bin/env bash
# golangci-lint with kube-api-linter inside. The binary is kept by the versions in hack/tools/go.sum.
set -euo pipefail
cd "$(dirname "$0")/.."
key=$( (cat hack/tools/go.sum; go version) | sha256sum | cut -c1-16)
tool=${XDG_CACHE_HOME:-$HOME/.cache}/understudy/lint-$key
if [ ! -x "$tool" ]; then
	echo "lint: building golangci-lint with kube-api-linter (once, some minutes)"
	mkdir -p "$(dirname "$tool")"
	go build -modfile=hack/tools/go.mod -o "$tool.new" sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter
	mv "$tool.new" "$tool"
fi
"$tool" run ./...
