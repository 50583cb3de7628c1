# Lakefeed: CSV rows to Kafka events to S3 objects to Athena answers. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
PARTS := common producer consumer analytics local
UV := .tools/bin/uv
BIN := .venv/bin
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --no-emit-package lakefeed-common $(if $(UPGRADE),--upgrade)

# ---- set-up -------------------------------------------------------------------------------

$(UV): bootstrap.lock
	@echo 'setting up: uv, into .tools'
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.13 …" >&2; exit 2; }
	@rm -rf .tools
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
		$(PYTHON) -m venv .tools && .tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r bootstrap.lock; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
		$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools --require-hashes -r bootstrap.lock; \
	else \
		echo "error: this Python has neither venv nor pip (Debian and Ubuntu: apt install python3-venv)" >&2; exit 2; \
	fi
	@touch $@

.venv/.ready: $(UV) requirements.lock $(PARTS:%=%/pyproject.toml)
	@echo 'setting up: packages by the hashed lock, into .venv'
	@$(UV) venv --quiet --clear --python "$$(command -v $(PYTHON))" .venv
	@$(UV) pip install --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps $(PARTS:%=-e ./%)
	@touch $@

.PHONY: setup
setup: .venv/.ready ## install everything that the other targets need (they call it)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  \033[1mmake %-18s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- checks -------------------------------------------------------------------------------

.PHONY: lint
lint: setup ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

.PHONY: format
format: setup ## rewrite the code in the project's style
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: lock
lock: $(UV) ## resolve all dependencies anew into the hashed locks (UPGRADE=1 takes newer versions)
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header bootstrap.in -o bootstrap.lock
	$(LOCK) --group dev --all-extras $(PARTS:%=%/pyproject.toml) -o requirements.lock
	@# Each image's lock takes the very versions that were tested together.
	for part in producer consumer analytics local; do $(LOCK) --constraints requirements.lock $$part/pyproject.toml -o $$part/requirements.lock; done
