#!/usr/bin/env bash
# Generate everything again in a copy of the tree and compare.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
(cd "$root" && tar cf - --exclude=./.cluster --exclude=./.git .) | tar xf - -C "$copy"
# The chart is compared as helm renders it; helm is one of the cluster's tools.
mkdir -p "$copy/.cluster"
make --no-print-directory -C "$root" helm-tool
ln -s "$root/.cluster/bin" "$copy/.cluster/bin"
make --no-print-directory -C "$copy" generate
status=0
for path in api config charts; do
	diff -r -u "$root/$path" "$copy/$path" || status=1
done
if [ "$status" != 0 ]; then
	echo "verify: generated files are stale: run 'make generate' and commit the result" >&2
	exit 1
fi
cd "$root" && go run ./hack/helm verify
