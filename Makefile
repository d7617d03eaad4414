# dynamo-ring: `make up` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 15000
MINUTES ?= 2
TAG ?= 0.1.0
IMAGE_BUILD ?= docker build -t "$$IMAGE" -f "$$DOCKERFILE" .
SBOM := $(BIN)/uv export --quiet --frozen --no-dev --preview-features sbom-export --format cyclonedx1.5
ARGS ?=
.DEFAULT_GOAL := help

$(VENV)/.installed: pyproject.toml uv.lock build-requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "dynamo-ring needs Python 3.11 or newer; set PYTHON=..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r build-requirements.txt
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --frozen --inexact --all-extras --group docs
	@touch $@

.PHONY: up test check docs sim mutants chaos demo bench paper package images sbom krew release-check e2e vendor help

up: $(VENV)/.installed  ## three nodes on this machine, until Ctrl-C; ARGS=--secure with TLS
	@$(BIN)/dynamoctl local up $(ARGS)

test: $(VENV)/.installed  ## all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.installed  ## format, lint, types, declared libraries, layers
	@$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q . && $(BIN)/mypy
	@$(BIN)/deptry --no-ansi node/src client/src operator/src
	@$(BIN)/python -m pytest tests/test_tidy.py tests/test_supply_chain.py tests/test_release.py
	@$(MAKE) --no-print-directory docs

docs: $(VENV)/.installed  ## the pages as a site, in site/; every link must lead somewhere
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

sim: $(VENV)/.installed  ## SEEDS=n histories of the real core in the simulator
	@$(BIN)/python -m dynamo_core.testing.runner --seeds $(SEEDS)

mutants: $(VENV)/.installed  ## plants every deliberate fault; the simulator or a test must catch it
	@$(BIN)/python -m tests.simulation.run_mutants

chaos: $(VENV)/.installed  ## MINUTES=n of real nodes that join, leave, move and die under load; then the checker examines the result
	@$(BIN)/python -m benchmarks.chaos --minutes $(MINUTES) --seed $(or $(SEED),0)

demo: $(VENV)/.installed  ## a year of real shopping carts through failing nodes
	@$(BIN)/python -m benchmarks.demo

bench: $(VENV)/.installed  ## ratios against other stores, and latencies while the ring changes; ARGS=--all for all
	@$(BIN)/python benchmarks/bench.py $(ARGS)

paper: $(VENV)/.installed  ## the paper's figures beside ours, into docs/paper; ARGS=--whole
	@$(BIN)/python -m benchmarks.paper $(ARGS)

package: $(VENV)/.installed  ## wheel and sdist in dist/, checked as PyPI checks them
	@rm -rf dist && $(BIN)/uv build --quiet --no-build-isolation && $(BIN)/uv tool run twine check --strict dist/*

images:  ## both images, TAG=0.1.0; IMAGE_BUILD='podman build ...' builds with another tool
	@IMAGE=dynamo-ring-node:$(TAG) DOCKERFILE=node/Dockerfile; $(IMAGE_BUILD)
	@IMAGE=dynamo-ring-operator:$(TAG) DOCKERFILE=operator/Dockerfile; $(IMAGE_BUILD)

sbom: $(VENV)/.installed  ## what both images install, with hashes: CycloneDX in dist/
	@mkdir -p dist
	@set -e; for part in node operator; do \
	  $(SBOM) --extra $$part --output-file dist/dynamo-ring-$$part.cdx.json; \
	  $(BIN)/python -m release.sbom dist/dynamo-ring-$$part.cdx.json; done

krew: $(VENV)/.installed  ## packs the plugin of kubectl for krew, from the wheel in dist/
	@$(BIN)/uv export --quiet --frozen --no-dev --no-emit-project --no-annotate --no-header --output-file dist/requirements.txt
	@$(BIN)/python -m release.pack krew dist/*.whl dist/requirements.txt && rm dist/requirements.txt

release-check: $(VENV)/.installed  ## checks offline that all parts of a release agree: versions, images, chart, plugin, workflow
	@$(BIN)/python -m pytest -q tests/test_release.py tests/test_supply_chain.py tests/chart tests/docs/test_package.py

e2e: $(VENV)/.installed  ## stories on the cluster that KUBECONFIG names, else on a new one of kind
	@tests/e2e/e2e $(STORIES)

vendor:  ## copies what the console and /docs take from npm into the package, with checksums; needs npm
	@node/console/vendor
	@node/viewer/vendor

help:  ## this text
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
