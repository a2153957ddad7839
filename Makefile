# Every task of the project. `make` alone lists them. Needs Python 3.11 or 3.12, make and git.
#
#   PYTHON=python3.11   interpreter to build the environment from
#   VENV=.venv-3.11     where the environment lives, to keep one per Python version
#   ARGS="..."          extra flags for the command behind dev, test, cluster, compose-test, model, drills, bench, ...

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?=
ARGS ?=
SEEDS ?= 0..200
SCENARIOS ?= 0..100000
JOBS ?= 2

BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CODE := ledger consensus storage p2p node mbi tests

# The version of the tool that writes requirements.lock; it runs in a throw-away environment.
LOCK_TOOL := uv==0.13.9

# A name on PATH may be a broken shim or an interpreter without venv, so a candidate has to prove itself.
INTERPRETERS := $(or $(PYTHON),python3.12 python3.11 python3)
INTERPRETER_TEST := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
FIND_PYTHON = found=; \
	for candidate in $(INTERPRETERS); do \
		if "$$candidate" -c '$(INTERPRETER_TEST)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "setup: none of [$(INTERPRETERS)] is a working Python 3.11 or 3.12 with the venv module." >&2; \
		echo "setup: install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; \
		exit 2; \
	fi

.PHONY: help
help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(STAMP) ## create the virtual environment with everything in it

# An environment that already runs a supported Python is kept; anything else is built anew.
$(STAMP): requirements.lock pyproject.toml
	@set -eu; \
	if ! $(BIN)/python -c '$(INTERPRETER_TEST)' >/dev/null 2>&1; then \
		$(FIND_PYTHON); \
		echo "setup: creating $(VENV) with $$("$$found" --version) ($$found)"; \
		"$$found" -m venv --clear $(VENV); \
	fi
	@echo "setup: installing the locked dependencies"
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: dev
dev: setup ## run a throw-away local network until Ctrl-C
	@$(BIN)/mbi dev $(ARGS)

.PHONY: check
check: setup ## format, lint, types, architecture and fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q -m "not slow and not simulation and not cluster" tests/test_*.py tests/unit

.PHONY: format
format: setup ## rewrite the code in the project's format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: test
test: setup ## every test: unit, property, contract, simulation, cluster
	$(BIN)/pytest -n 2 --no-loadscope-reorder $(ARGS)

.PHONY: cluster
cluster: setup ## only the tests that run real node processes
	$(BIN)/pytest -m cluster $(ARGS)

.PHONY: compose-test
compose-test: setup ## the compose network on a Docker engine, which must be there
	$(BIN)/pytest -m "docker and not slow" tests/docker $(ARGS)

.PHONY: deploy-test
deploy-test: setup ## what takes longer on that engine: seven validators, Prometheus, Swarm
	$(BIN)/pytest -m "docker and slow" tests/docker $(ARGS)

.PHONY: drills
drills: setup ## every drill on a compose network made for the run; an engine must be there
	$(BIN)/mbi drill run --all --fresh $(ARGS)

.PHONY: drills-short
drills-short: setup ## the drills for every change, about two minutes
	$(BIN)/mbi drill run --short --fresh $(ARGS)

.PHONY: simulate
simulate: setup ## run simulator seeds: SEEDS=0..2000 JOBS=2; ARGS=--mutants looks for mutants instead
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs $(JOBS) $(ARGS)

.PHONY: model
model: setup ## explore the model of the voting rules to closure
	$(BIN)/python -m tests.model $(ARGS)

.PHONY: twins
twins: setup ## play twins scenarios: SCENARIOS=0..100000 JOBS=2
	$(BIN)/python -m tests.twins --scenarios $(SCENARIOS) --jobs $(JOBS)

.PHONY: bench
bench: setup ## measure throughput and latency of a network made for it
	$(BIN)/mbi bench run $(ARGS)

.PHONY: profile
profile: setup ## show which functions of a node take its time under load
	$(BIN)/mbi bench profile $(ARGS)

.PHONY: lock
lock: ## resolve the dependencies again and rewrite requirements.lock
	@set -eu; $(FIND_PYTHON); \
	scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	"$$found" -m venv "$$scratch"; \
	"$$scratch/bin/python" -m pip --disable-pip-version-check --quiet install $(LOCK_TOOL); \
	"$$scratch/bin/uv" pip compile pyproject.toml --all-extras --upgrade --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet \
		--output-file requirements.lock

.PHONY: clean
clean: ## remove the environment, caches and build products
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(CODE) -type d -name __pycache__ -prune -exec rm -rf {} +
