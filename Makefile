# Lakefeed: CSV rows to Kafka events to S3 objects to Athena answers. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Without compiled modules the start of each program takes two to three times the CPU.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
PARTS := common producer consumer analytics local
UV := .tools/bin/uv
BIN := .venv/bin
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --no-emit-package lakefeed-common $(if $(UPGRADE),--upgrade)

# ---- set-up -------------------------------------------------------------------------------

$(UV): bootstrap.lock
	@echo 'setting up: uv, into .tools' >&2
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
	@echo 'setting up: packages by the hashed lock, into .venv' >&2
	@[ -x $(BIN)/python ] || $(UV) venv --quiet --clear --python "$$(command -v $(PYTHON))" .venv
	@$(UV) pip sync --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps $(PARTS:%=-e ./%)
	@touch $@

.PHONY: setup
setup: .venv/.ready ## install what the other targets need (they do it themselves)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  \033[1mmake %-18s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- checks -------------------------------------------------------------------------------

.PHONY: lint
lint: setup ## style, types, wording, layers, dead code, dependencies; known vulnerabilities if a service is reachable
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy .ci/stages.py .ci/pipeline.py
	@$(BIN)/python -m docs.wording
	@mkdir -p build; $(BIN)/lint-imports --no-cache >build/imports.txt || { cat build/imports.txt; exit 1; }
	@$(BIN)/vulture
	@for part in $(PARTS); do (cd $$part && ../$(BIN)/deptry --no-ansi lakefeed_$$part 2>../build/deptry.txt) || { cat build/deptry.txt; exit 1; }; done
	@$(BIN)/python -m supply.audit $(AUDIT)

.PHONY: sbom
sbom: setup ## write the bill of materials of each image as CycloneDX JSON into build/sbom
	@$(BIN)/python -m supply.sbom

.PHONY: format
format: setup ## rewrite the code in the project's style
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: lock
lock: $(UV) ## resolve all dependencies into the hashed locks (UPGRADE=1: newer versions)
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header bootstrap.in -o bootstrap.lock
	$(LOCK) --group dev --all-extras $(PARTS:%=%/pyproject.toml) -o requirements.lock
	@# Each image gets the versions that were tested together.
	for part in producer consumer analytics local; do $(LOCK) --constraints requirements.lock $$part/pyproject.toml -o $$part/requirements.lock; done
	$(LOCK) --no-emit-package lakefeed-analytics --constraints requirements.lock spark/pyproject.toml -o spark/requirements.lock
	$(BIN)/lakefeed-local lock

.PHONY: docs
docs: setup ## generate docs/configuration.md, docs/metrics.md, docs/decisions/README.md, the dashboards, Prometheus's files for Kubernetes
	@$(BIN)/python -m docs.generate

# ---- tests --------------------------------------------------------------------------------

# Longest first. Integration tests mostly wait, so four processes share two cores.
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadscope --no-loadscope-reorder

.PHONY: test
test: setup fetch ## unit tests, and one path of each promise on a real Kafka, ZooKeeper and local AWS (5 minutes)
	@$(PYTEST) -m 'not integration or smoke' tests/unit tests/integration $(ARGS)

.PHONY: test-all
test-all: setup fetch ## all unit and integration tests, without Docker (12 minutes)
	@$(PYTEST) tests/unit tests/integration $(ARGS)

.PHONY: durations
durations: ## run all tests and write their durations, which order them: tests/durations.json
	@$(MAKE) test-all ARGS=--record-durations

.PHONY: e2e
e2e: setup ## container tests: docker compose up, scale, kill, restart (needs Docker)
	@# The first test waits for the images.
	@$(BIN)/python -m pytest -p no:randomly --timeout 900 tests/e2e $(ARGS)

.PHONY: chaos
chaos: setup fetch ## kill and disconnect services by a seeded plan, then count every event: QUICK=1 SEED=n CLUSTER=1 LAYOUT=batches COMPACT=1; build/chaos.json
	@$(BIN)/python -m tests.chaos $(if $(QUICK),--quick) $(if $(SEED),--seed $(SEED)) $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(LAYOUT),--layout $(LAYOUT)) $(if $(COMPACT),--compact) $(if $(CONSUMER),--consumer $(CONSUMER))

.PHONY: fetch
fetch: setup ## download Kafka's jars and the local AWS, verified by their locks, and prepare fast starts, for later runs
	@$(BIN)/lakefeed-local fetch --class-archives >/dev/null

.venv-spark/.ready: .venv/.ready spark/requirements.lock
	@echo 'setting up: PySpark by its hashed lock, into .venv-spark' >&2
	@[ -x .venv-spark/bin/python ] || $(UV) venv --quiet --clear --python "$$(command -v $(PYTHON))" .venv-spark
	@$(UV) pip sync --quiet --python .venv-spark/bin/python --require-hashes spark/requirements.lock
	@$(UV) pip install --quiet --python .venv-spark/bin/python --no-deps -e ./common -e ./analytics
	@touch $@

.PHONY: spark-test
spark-test: setup fetch .venv-spark/.ready ## compact on Spark in local mode, killed and next to another compactor (needs Java 17)
	@command -v java >/dev/null || { echo 'error: java is not on the path: Spark 3.5 needs Java 17 (Debian: apt-get install openjdk-17-jre-headless)' >&2; exit 2; }
	@SPARK_ENVIRONMENT=$(CURDIR)/.venv-spark $(BIN)/python -m pytest -n0 -s -p no:randomly tests/spark $(ARGS)

MINUTES ?= 30
.PHONY: soak
soak: setup fetch ## memory, open files and threads of the services over MINUTES=30 at a steady RATE=300 events/s
	@$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) --rate $(or $(RATE),300)

# ---- measurements -------------------------------------------------------------------------

.PHONY: bench
bench: setup fetch ## measure speed, latency, memory, queries: SUITE=sink (one part) QUICK=1 (smoke test); build/bench.md
	@$(BIN)/python -m benchmarks $(if $(SUITE),--suite $(SUITE)) $(if $(QUICK),--quick)

# ---- AWS with Terraform -------------------------------------------------------------------

# TF_PLUGIN_DIR=folder has the provider, for a machine that cannot reach a provider registry.
NEEDS_TERRAFORM = @command -v terraform >/dev/null || { echo 'error: terraform is not on the path: https://developer.hashicorp.com/terraform/install' >&2; exit 2; }

.PHONY: infra-test
infra-test: setup fetch ## test the Terraform modules and examples on a local AWS, and the services' permissions
	$(NEEDS_TERRAFORM)
	@$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder tests/infra --ignore tests/infra/test_kafka_ec2.py $(ARGS)

.PHONY: infra-e2e
infra-e2e: setup fetch ## boot the EC2 instance with Kafka in a container and use it from outside (needs Docker and root)
	$(NEEDS_TERRAFORM)
	@$(BIN)/python -m pytest -n0 -p no:randomly tests/infra/test_kafka_ec2.py $(ARGS)

# ---- the pipeline without Docker ----------------------------------------------------------

DATA ?= data/prices.csv
TOPIC ?= $(or $(LAKEFEED_TOPIC),demo_testing)
# Recipes read them as shell variables, so that they may contain any character.
export DATA TOPIC SQL NAME

.PHONY: demo
demo: setup ## run the pipeline from CSV to Athena on this computer: DATA=file.csv TOPIC=name LAYOUT=batches KEEP=1 (until Ctrl-C)
	@$(BIN)/lakefeed-local demo --data "$$DATA" --topic "$$TOPIC" --report build/demo.json \
		$(if $(filter data/prices.csv,$(DATA)),--named-query latest_price) $(if $(LAYOUT),--layout $(LAYOUT)) $(if $(KEEP),--keep)

.PHONY: local
local: setup ## run Kafka, ZooKeeper and the local AWS until Ctrl-C; prints the settings that point to them
	@$(BIN)/lakefeed-local up

# ---- the pipeline in containers -----------------------------------------------------------

COMPOSE := docker compose

.PHONY: up
up: ## build and start the containers, wait until they are healthy, print their addresses (SERVICES='…': only these)
	@$(COMPOSE) up --build --wait --detach $(SERVICES)
	@show() { if address=$$($(COMPOSE) port $$2 $$3 2>/dev/null); then printf '%-12s%s%s%s\n' "$$1" "$$4" "$$address" "$$5"; fi; }; \
	show Grafana grafana 3000 http:// ''; \
	show Prometheus prometheus 9090 http:// ''; \
	show analytics analytics 8003 http:// /docs; \
	show Kafka kafka 9092 '' ''; \
	show 'local AWS' aws 4566 http:// ''

.PHONY: down
down: ## stop the containers and remove them with their volumes
	@$(COMPOSE) down --volumes --remove-orphans

.PHONY: ps
ps: ## list the containers and their health
	@$(COMPOSE) ps --all

.PHONY: logs
logs: ## follow the containers' logs
	@$(COMPOSE) logs --follow --tail 50

N ?= 3
.PHONY: scale
scale: ## run N=3 consumers; a topic's partitions limit how many of them get work
	@LAKEFEED_CONSUMER_PORT=8012-8031 $(COMPOSE) up --detach --wait --no-recreate --scale consumer=$(N) consumer

.PHONY: query
query: ## query Athena through the analytics container: SQL='select …' or NAME=latest_price
	@$(COMPOSE) exec analytics lakefeed-analytics query $(if $(SQL),"$$SQL",--name "$${NAME:-latest_price}")

# ---- the pipeline on Kubernetes, on the current context of kubectl -----------------------

# How images get into a cluster whose context does not say it: a command that takes tags.
export LOAD

.PHONY: k8s-local
k8s-local: setup ## build, apply k8s/overlays/local, publish the sample, query Athena: LOAD='command'
	@$(BIN)/python -m k8s.local up

.PHONY: k8s-down
k8s-down: setup ## remove what k8s-local created, with its volumes
	@$(BIN)/python -m k8s.local down

.PHONY: k8s-e2e
k8s-e2e: setup ## test the pipeline through scaling, deleted pods, a new version and a broker restart: LOAD='command'
	@$(BIN)/python -m pytest -p no:randomly -s tests/k8s $(ARGS)

.PHONY: k8s-check
k8s-check: setup ## render and check every overlay and pair of components; needs kubectl, no cluster
	@$(BIN)/python -m k8s.check

# ---- Kafka's command-line tools, with the broker of `make up` or `make local` ----

PARTITIONS ?= 1
.PHONY: topic
topic: setup ## create the topic: TOPIC=name PARTITIONS=1
	@LAKEFEED_TOPIC="$$TOPIC" $(BIN)/lakefeed-local topic --create --if-not-exists --partitions $(PARTITIONS) --replication-factor 1
	@LAKEFEED_TOPIC="$$TOPIC" $(BIN)/lakefeed-local topic --describe

.PHONY: console-producer
console-producer: setup ## type events into the topic, one JSON object per line; Ctrl-D ends
	@LAKEFEED_TOPIC="$$TOPIC" $(BIN)/lakefeed-local console-producer

.PHONY: console-consumer
console-consumer: setup ## show the events of the topic from the beginning; Ctrl-C ends
	@LAKEFEED_TOPIC="$$TOPIC" $(BIN)/lakefeed-local console-consumer --from-beginning

.PHONY: group
group: setup ## describe the consumer group: partitions, offsets and lag
	@$(BIN)/lakefeed-local group --describe --group $${LAKEFEED_CONSUMER_GROUP:-lakefeed-consumer}

# ---- cleaning -----------------------------------------------------------------------------

.PHONY: clean
clean: ## remove what the targets created here; downloads stay in ~/.cache/lakefeed
	@rm -rf .venv .venv-spark .tools build .pytest_cache .mypy_cache .ruff_cache .hypothesis
