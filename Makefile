# Everything Understudy needs is built from Go modules and Debian packages; `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Compiled tools are kept outside the tree, by version, so that a new clone starts with them.
TOOLS_MOD := hack/tools/go.mod
TOOL := go tool -modfile=$(TOOLS_MOD)
CLUSTER ?= local
KUBECONFIG_LOCAL := $(CURDIR)/.cluster/kubeconfig
ifeq ($(CLUSTER),local)
export KUBECONFIG := $(KUBECONFIG_LOCAL)
endif
export PATH := $(CURDIR)/.cluster/bin:$(PATH)
NAMESPACE ?= understudy-system
ROUNDS ?= 50
KILL_ROUNDS ?= $(if $(filter postgresql,$(ENGINE)),200,$(ROUNDS))
NODE_ROUNDS ?= $(if $(filter postgresql,$(ENGINE)),50,5)
PEER_ROUNDS ?= 10
FOR ?= 1h
SEED ?= 0
BENCH_FLAGS ?=
ENGINE ?= redis
BENCH_JSON ?= .cluster/bench.json
SEEDS ?= 100000
FROM ?= 1
CONFIG ?=

include hack/cluster/targets.mk

##@ Main
.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z][a-z-]*:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile hack/cluster/targets.mk

.PHONY: demo
demo: $(if $(filter local,$(CLUSTER)),cluster-up) deploy ## Set everything up, kill the primary four ways, and print what a client saw (ENGINE=redis|postgresql CLUSTER=current: on your own kubeconfig)
	@go run ./test/demo --cluster=$(CLUSTER) $(if $(ENGINE),--engine $(ENGINE))

.PHONY: test
test: verify lint test-unit test-api test-e2e ## Run every test: generated code, lint, unit, API server, real cluster

##@ Tests
UNIT_PACKAGES = $(shell go list ./... | grep -v -e /controllers/ -e /test/e2e -e /api/v1alpha1/applyconfiguration)

.PHONY: test-unit
test-unit: ## Run the tests that need no cluster and no API server
	@go vet ./...
	@go test $(UNIT_PACKAGES)
	@GOWORK=off CGO_ENABLED=0 go test -C hack/cluster ./...
	@GOWORK=off CGO_ENABLED=0 go test -C hack/images ./...

.PHONY: sim
sim: ## Play SEEDS schedules of faults on virtual time and check the invariants after every event (SEEDS=100000 FROM=1 CONFIG=name)
	@go test ./internal/failover/simulator -count=1 -timeout 0 -run TestSchedules -v -args -seeds=$(SEEDS) -from=$(FROM) -config='$(CONFIG)'

.PHONY: test-api
test-api: envtest-assets ## Run the tests against a real API server (envtest)
	@KUBEBUILDER_ASSETS=$(CURDIR)/.cluster/bin go test -timeout 10m ./controllers/...

.PHONY: test-e2e
test-e2e: cluster-up deploy ## Run the tests on a real three-node cluster; what failed is told once more at the end
	@$(TOOL) gotestsum --format standard-verbose -- -tags e2e -count=1 -parallel 4 -timeout 30m ./test/e2e/...

.PHONY: soak
soak: cluster-up deploy ## Draw faults at random, one or two at once, on a synchronous service under load (ENGINE=redis|postgresql FOR=1h SEED=0)
	@go test -tags e2e -count=1 -timeout 0 -v ./test/e2e/... -run 'TestSoak$$' -args -soak=$(FOR) -soak-seed=$(SEED) -soak-engine=$(ENGINE)

# PostgreSQL is measured side by side with Patroni, where the faults can be made.
BENCH_PATRONI = $(and $(filter postgresql,$(ENGINE)),$(filter local,$(CLUSTER)))

.PHONY: bench
bench: cluster-up deploy $(if $(BENCH_PATRONI),images-load-peer) ## Measure outage and loss as a client sees them (ENGINE=redis|postgresql, with Patroni beside it; ROUNDS=50 KILL_ROUNDS=200 NODE_ROUNDS=50 PEER_ROUNDS=10 BENCH_JSON=FILE BENCH_FLAGS=…)
	@kubectl apply -f config/samples/$(ENGINE).yaml
	@go run ./test/bench --cluster=$(CLUSTER) --service $(if $(filter postgresql,$(ENGINE)),db,cache) --rounds $(ROUNDS) --kill-rounds $(KILL_ROUNDS) --node-rounds $(NODE_ROUNDS) \
		$(if $(BENCH_PATRONI),--patroni --patroni-rounds $(PEER_ROUNDS)) --json $(BENCH_JSON) $(BENCH_FLAGS)

##@ Code
.PHONY: generate
generate: ## Generate deep copies, apply configurations, CRDs, roles and the chart's copies of them
	@$(TOOL) controller-gen object:headerFile=hack/boilerplate.go.txt paths=./api/...
	@$(TOOL) controller-gen crd:maxDescLen=512 applyconfiguration:headerFile=hack/boilerplate.go.txt paths=./api/... output:crd:dir=config/crd/bases
	@$(TOOL) controller-gen rbac:roleName=understudy-operator paths=./controllers/... output:rbac:dir=config/rbac
	@go run ./hack/helm generate

.PHONY: verify
verify: ## Fail when something generated is stale, or the chart differs from config/
	@hack/verify.sh

.PHONY: lint
lint: ## Run the linters, kube-api-linter among them
	@hack/lint.sh

##@ Cluster
.PHONY: deploy
deploy: $(if $(filter local,$(CLUSTER)),images-load helm-tool) ## Load the images and install the chart on the cluster of $KUBECONFIG
	@hack/deploy.sh $(NAMESPACE) $(CLUSTER)

.PHONY: helm-tool
helm-tool: cluster-tool
	@test -x .cluster/bin/helm || $(CLUSTER_RUN) build
