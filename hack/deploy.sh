#!/usr/bin/env bash
# Install or upgrade the chart from this tree. On the local cluster the images were loaded under the tag dev; on another
# cluster the chart's own image is used unless IMAGE_TAG names one that its nodes can pull.
set -euo pipefail
namespace=$1 cluster=$2
set -- --namespace "$namespace" --create-namespace --take-ownership --wait --timeout 3m
if [ "$cluster" = local ]; then
	# The tag stays the same from build to build, so the image's content is what makes the pods roll.
	content=$(sha256sum .cluster/images/understudy.tar | cut -c1-16)
	set -- "$@" --force-conflicts --set image.tag=dev --set image.pullPolicy=IfNotPresent \
		--set-string "podAnnotations.ha\.understudy\.dev/image-content=$content"
elif [ -n "${IMAGE_TAG:-}" ]; then
	set -- "$@" --set "image.tag=$IMAGE_TAG"
fi
helm upgrade --install understudy charts/understudy "$@" >/dev/null
kubectl -n "$namespace" get deployment understudy
