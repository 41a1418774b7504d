# Targets of hack/cluster and hack/images. The Makefile that includes this runs in the root of the repository.

CLUSTER_STATE ?= $(CURDIR)/.cluster
CLUSTER_TOOL := $(CLUSTER_STATE)/bin/cluster
CLUSTER_IMAGES := $(CLUSTER_STATE)/images
CLUSTER_GO := CGO_ENABLED=0 GOWORK=off go
CLUSTER_RUN := $(CLUSTER_TOOL) --state $(CLUSTER_STATE) --repository $(CURDIR)
# Names of images to make, separated by commas; all of them when empty.
IMAGES ?=
IMAGE_TAG ?= dev

.PHONY: cluster-tool
cluster-tool: ## Build the tool that runs the cluster
	@mkdir -p $(dir $(CLUSTER_TOOL))
	@$(CLUSTER_GO) build -C hack/cluster -trimpath -o $(CLUSTER_TOOL) .

.PHONY: cluster-up
cluster-up: cluster-tool ## Bring up a real three-node Kubernetes on this machine, as root (CLUSTER_UP_FLAGS=--replace takes over from another clone)
	@$(CLUSTER_RUN) up $(CLUSTER_UP_FLAGS)

.PHONY: cluster-down
cluster-down: cluster-tool ## Remove the cluster and all it made
	@$(CLUSTER_RUN) down

.PHONY: cluster-status
cluster-status: cluster-tool ## List the cluster's programs; fails when one is down
	@$(CLUSTER_RUN) status

.PHONY: images
images: ## Make the container images of the tests (IMAGES=redis,client makes only those)
	@mkdir -p $(CLUSTER_IMAGES)
	@$(CLUSTER_GO) run -C hack/images . build --repository $(CURDIR) --tag $(IMAGE_TAG) --out $(CLUSTER_IMAGES) \
		$(if $(IMAGES),--only $(IMAGES))

.PHONY: images-load
images-load: images cluster-tool ## Make the images and load them into every node
	@$(CLUSTER_RUN) load-image $(if $(IMAGES),$(foreach name,$(subst $(cluster_comma), ,$(IMAGES)),$(CLUSTER_IMAGES)/$(name).tar),$(CLUSTER_IMAGES)/*.tar)

# In a folder of its own: nobody else needs it, and images-load would load it each time.
.PHONY: images-load-peer
images-load-peer: cluster-tool ## Make the image of Patroni, which the benchmark compares with, and load it into every node
	@mkdir -p $(CLUSTER_IMAGES)/peers
	@$(CLUSTER_GO) run -C hack/images . build --repository $(CURDIR) --only patroni --out $(CLUSTER_IMAGES)/peers
	@$(CLUSTER_RUN) load-image $(CLUSTER_IMAGES)/peers/patroni.tar

cluster_comma := ,

.PHONY: envtest-assets
envtest-assets: cluster-tool ## Build etcd, kube-apiserver and kubectl for controller-runtime's envtest: KUBEBUILDER_ASSETS=.cluster/bin
	@$(CLUSTER_RUN) build --only envtest
