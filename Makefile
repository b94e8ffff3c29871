# The two commands of the README are `make demo` and `make test`; each sets itself up. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first interpreter that is new enough; override with `make PYTHON=/path/to/python3`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
PY := $(VENV)/bin/python
DEPS := $(VENV)/.dependencies
SIDECAR := .sidecar/.ready

# Tests of one module stay on one worker, so that a module starts its sidecar and servers once.
WORKERS ?= 2
PYTEST := $(PY) -m pytest -n $(WORKERS) --dist loadfile
# Extra arguments for pytest, the demo or the benches: make test ARGS="-k stamp"
ARGS ?=
# Percent of the lines and branches of toolkit.core and toolkit.stores that tests without a sidecar reach.
CORE_COVERAGE ?= 90

.PHONY: help setup demo test test-all test-stores check bench docs lock clean lint types contracts house examples coverage

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(DEPS) $(SIDECAR) ## .venv with pinned dependencies, and a real daprd (found, or built once)

$(PY):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; install it, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@echo "==> creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "python3 could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(DEPS): requirements/dev.txt pyproject.toml | $(PY)
	@echo "==> installing the pinned dependencies (a minute or two the first time)"
	@$(PY) -m pip install --disable-pip-version-check --progress-bar off --require-hashes -r requirements/dev.txt \
		| { grep --line-buffered -E '^(Collecting|Installing) ' || true; } | cut -c 1-100
	@$(PY) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(SIDECAR): $(wildcard sidecar/*.go sidecar/go.mod sidecar/go.sum) | $(DEPS)
	@echo "==> looking for daprd; it is built from sidecar/ when there is none (about three minutes, once)"
	@$(PY) -m toolkit.sidecar
	@mkdir -p $(@D) && touch $@

demo: setup ## watch a real sidecar lose sign-ups without ETags and lose none with the toolkit
	@$(VENV)/bin/occ demo $(ARGS)

# Whatever cannot run here is skipped with its reason, which says what to install.
test: setup ## everything that can run on this machine, within 10 minutes
	@$(PYTEST) -m "not slow and not stores" --session-timeout=600 $(ARGS)
	@echo "Skipped tests say above what they need. To require Redis, PostgreSQL, MariaDB and etcd: make test-all"

test-all: setup ## longer, and Redis, PostgreSQL, MariaDB and etcd are required
	@OCC_REQUIRE_STORES=all $(PYTEST) -m "not stores" $(ARGS)

test-stores: setup ## the stores that need an emulator or another server; the emulators are installed first
	@$(PY) -m toolkit.testing.emulators install
	@OCC_REQUIRE_STORES=all $(PYTEST) -m stores $(ARGS)

check: lint types contracts house docs examples coverage ## every check that is not a test
	@echo "==> all checks passed"

lint: $(DEPS)
	@echo "==> ruff"
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check --quiet .

types: $(DEPS)
	@echo "==> mypy"
	@$(PY) -m mypy
	@echo "==> pyright"
	@$(VENV)/bin/pyright

contracts: $(DEPS)
	@echo "==> import contracts"
	@$(VENV)/bin/lint-imports

house: $(DEPS)
	@echo "==> house rules"
	@$(PY) -m tools.house

docs: $(DEPS) ## build the documentation into site/, strictly
	@echo "==> docs"
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

examples: $(DEPS)
	@echo "==> examples in the documentation and in docstrings"
	@$(PY) -m pytest -q tests/test_docs.py

coverage: $(DEPS)
	@echo "==> branch coverage of the core"
	@$(PYTEST) -q -m "not sidecar and not slow and not stores" --cov --cov-fail-under=$(CORE_COVERAGE) \
		--ignore=tests/test_docs.py --ignore=tests/test_wheel.py

bench: setup ## measure against the Dapr SDK and raw calls, both sides in one run
	@$(PY) -m bench $(ARGS)

# Extras stay in the pins: pip takes `name==1` for no pin of `name[extra]`, and then finds a newer one without a hash.
LOCK = $(VENV)/bin/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-strip-extras --no-header --no-annotate --quiet

lock: $(DEPS) ## pin the dependencies anew in requirements/*.txt
	@$(PY) -m pip install --disable-pip-version-check --quiet uv
	@$(LOCK) --all-extras --group dev --output-file requirements/dev.txt pyproject.toml
	@$(LOCK) --output-file requirements/go.txt requirements/go.in
	@git diff --stat -- requirements

clean: ## remove everything that setup, tests and builds made here
	rm -rf $(VENV) .sidecar .occ site dist build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
