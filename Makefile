# dynamo-ring: `make up` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 15000
MINUTES ?= 2
TAG ?= 0.1.0
IMAGE_BUILD ?= docker build -t "$$IMAGE" -f "$$DOCKERFILE" .
ARGS ?=
.DEFAULT_GOAL := help

$(VENV)/.installed: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "dynamo-ring needs Python 3.11 or newer; set PYTHON=..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --frozen --inexact --all-extras
	@touch $@

.PHONY: up test check sim mutants chaos demo bench paper images e2e vendor help

up: $(VENV)/.installed  ## three nodes on this machine, until Ctrl-C
	@$(BIN)/dynamoctl local up

test: $(VENV)/.installed  ## all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.installed  ## format, lint, types, layers
	@$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q . && $(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_tidy.py

sim: $(VENV)/.installed  ## SEEDS=n histories of the real core in the simulator
	@$(BIN)/python -m dynamo_core.testing.runner --seeds $(SEEDS)

mutants: $(VENV)/.installed  ## every deliberate fault must be caught by the simulator
	@$(BIN)/python tests/simulation/run_mutants.py

chaos: $(VENV)/.installed  ## MINUTES=n of real nodes that join, leave, move, die under load, then judged
	@$(BIN)/python -m benchmarks.chaos --minutes $(MINUTES) --seed $(or $(SEED),0)

demo: $(VENV)/.installed  ## a year of real shopping carts through failing nodes
	@$(BIN)/python -m benchmarks.demo

bench: $(VENV)/.installed  ## ratios against peers, and figures of changes; ARGS=--all for the whole
	@$(BIN)/python benchmarks/bench.py $(ARGS)

paper: $(VENV)/.installed  ## the paper's figures beside ours, into docs/paper; ARGS=--whole
	@$(BIN)/python -m benchmarks.paper $(ARGS)

images:  ## both images, TAG=0.1.0; IMAGE_BUILD='podman build ...' builds with another tool
	@IMAGE=dynamo-ring-node:$(TAG) DOCKERFILE=node/Dockerfile; $(IMAGE_BUILD)
	@IMAGE=dynamo-ring-operator:$(TAG) DOCKERFILE=operator/Dockerfile; $(IMAGE_BUILD)

e2e: $(VENV)/.installed  ## stories on the cluster that KUBECONFIG names, else on a new one of kind
	@tests/e2e/e2e $(STORIES)

vendor:  ## the console's parts from npm into the package, with checksums; needs npm
	@node/console/vendor

help:  ## this text
	@grep -E '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
