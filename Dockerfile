# The image of operator and agent, for machines that have a registry and a builder: docker build -t IMAGE .
# make images makes the same without either.
FROM --platform=$BUILDPLATFORM docker.io/library/golang:1.26 AS build
ARG TARGETOS=linux TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
# Static and without debug information: the agent is copied into every member's pod.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags='-s -w' -o /out/manager . && \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags='-s -w' -o /out/understudy-agent ./cmd/agent

FROM scratch
COPY --from=build /out/understudy-agent /understudy-agent
COPY --from=build /out/manager /manager
USER 65532:65532
ENTRYPOINT ["/manager"]
