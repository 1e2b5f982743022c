# Everything a developer runs. `make help` lists it; CONTRIBUTING.md explains it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
# One product binary serves `make run`, the whole-product tests and the image that
# the cluster test installs: static, built by the profile `quick`.
QUICK = $$(tools/static.sh quick)
RELEASE = $$(tools/static.sh release)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: run
run: ## build, start the worked example and print the curl lines to try
	@POSTERN=$(QUICK)
	POSTERN="$$POSTERN" exec examples/quickstart/run.sh

.PHONY: test
test: test-crates test-product test-cluster conformance ## everything, and whatever it needs set up

# --workspace throughout: a part of it would unify features differently, and build again.
.PHONY: test-crates
test-crates: ## unit, property and table tests of every crate, and the tidy test
	@$(CARGO) test --workspace --lib --bins --test tidy
	$(CARGO) test --workspace --doc --quiet

.PHONY: test-product
test-product: setup ## the product as a process: Rust suite and black-box cases
	@POSTERN=$(QUICK)
	export POSTERN
	$(CARGO) test --workspace --test hub --test cli --test backends --test product
	tests/cases/run.sh
	tests/admin/run.sh

.PHONY: test-history
test-history: setup ## clients' histories through a thousand kills, pauses and fail-overs (half an hour)
	@POSTERN=$(QUICK)
	export POSTERN POSTERN_KILLS=$${POSTERN_KILLS:-1000}
	$(CARGO) test --workspace --test product -- --nocapture --test-threads=1 history::

.PHONY: test-wire
test-wire: ## h2spec, load, long bodies, slow clients, tunnels, gRPC, framings and paths before three makes of servers, toxiproxy
	@POSTERN=$(QUICK)
	POSTERN="$$POSTERN" tests/wire/run.sh

.PHONY: test-idp
test-idp: ## real identity providers, applications and a browser (as root; see tests/idp/run.sh)
	@POSTERN=$(QUICK)
	POSTERN="$$POSTERN" tests/idp/run.sh

.PHONY: test-cluster
test-cluster: setup ## installed with Helm into a real one-node Kubernetes (as root)
	@tests/cluster/suite.sh

.PHONY: conformance
conformance: setup ## the Gateway API's conformance suite in a cluster of its own (as root)
	@tests/conformance/run.sh

.PHONY: setup
setup: ## install the Debian packages that tests need (as root)
	@tests/setup/packages.sh

.PHONY: bench
bench: ## CPU per request beside HAProxy, nginx and a bare hyper proxy
	@POSTERN=$(RELEASE)
	POSTERN="$$POSTERN" bench/run.sh

.PHONY: lint
lint: ## format, clippy, directions, licences and bans, shell scripts
	@tools/lint.sh

.PHONY: fmt
fmt: ## format the Rust code
	@$(CARGO) fmt --all

.PHONY: image
image: ## out/postern-image.tar: an OCI archive, without a container engine
	@name=$${IMAGE:-postern:$$(tools/version.sh)}
	binary=$(RELEASE)
	mkdir -p out
	tools/image.sh "$$name" "$$binary" > out/postern-image.tar
	echo "out/postern-image.tar holds $$name"
