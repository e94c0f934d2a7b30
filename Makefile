# What people and CI call. Everything sets itself up: a fresh machine needs Python 3.11 or newer, git and make.
# Paths are relative, so that any folder name will do, and so will `make -C /path/to/checkout`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --warn-undefined-variables
BIN := .venv/bin

DIR ?=
WHEEL ?=
UPGRADE ?=
# Test processes: twice as many as there are cores, since tests wait for servers and programs for much of their time.
JOBS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores * 2)))
# More arguments for pytest, such as ARGS='-k retention -x'.
ARGS ?=
# How long to fuzz all readers together.
FUZZ_SECONDS ?= 600
# How long to let bad luck strike workers; and for how long to take their server away, beside that.
SOAK_SECONDS ?= 3600
SOAK_OUTAGE_SECONDS ?= 0
# What to test.
TESTS ?= tests
CTO_FAULT_ROUNDS ?= 200
export DIR UPGRADE WHEEL
# Tests start this program hundreds of times. Where Python may not keep what it compiles, a third of each start is that.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-tools demo test lint format test-core test-all coverage test-peers test-mysql test-faults test-large soak fuzz \
	bench bench-cloud bench-databases bench-mysql bench-streams bench-tables bench-fleet bench-smoke wheel changelog lock clean

help: ## print this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1: \2/p' Makefile

setup: ## make .venv with what requirements.lock names; the other targets do it by themselves
	@tools/setup

setup-tools:
	@tools/setup --tools

demo: setup ## protect real data, copy it, prove that it comes back (DIR=/path for data of your own)
	@[ -n "$$DIR" ] || $(BIN)/python tools/history-database . examples/history.db
	@home=cto-backups; if [ -n "$$DIR" ]; then place=$$(realpath "$$DIR"); \
		home="cto-backups/of/$$(basename "$$place")-$$(printf %s "$$place" | sha256sum | cut -c1-6)"; fi; \
	$(BIN)/cto.backups quickstart $${DIR:+"$$DIR"} --home "$$home"

test: setup-tools ## lint, then every test but the heavy ones
	@$(MAKE) lint
	@$(MAKE) test-core
	@$(MAKE) test-all

lint: setup ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pure core is small enough to be tested in every branch, by its own tests alone.
test-core: setup
	$(BIN)/pytest tests/unit/core -q -n $(JOBS) --dist worksteal \
		--cov=cto_backups.core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

# In a place of its own, which is removed afterwards: other test runs on this machine do not meet it. Tests that run as an
# ordinary user pass through it.
test-all: setup
	scratch=$$(TMPDIR=$$(tools/scratch) mktemp -d); trap 'rm -rf "$$scratch" 2>/dev/null || true' EXIT; \
	chmod 711 "$$scratch"; mkdir "$$scratch/tmp"; chmod 1777 "$$scratch/tmp"; \
	TMPDIR="$$scratch/tmp" $(BIN)/pytest $(TESTS) --ignore tests/unit/core --basetemp "$$scratch/t" -n $(JOBS) \
		--dist worksteal -m "not newest_restic and not rustic and not wal_g and not mysql" $(ARGS)

coverage: ## every test but the heavy ones, and what of the program they run (three times as long)
	@$(MAKE) test-all ARGS="--cov --cov-report=term:skip-covered $(ARGS)"

test-peers: setup-tools ## the tests against stock restic once more, with the newest restic, rustic and WAL-G (needs Go and cargo)
	@tools/peers .cache/peers restic rustic wal-g
	CTO_RESTIC="$$PWD"/.cache/peers/bin/restic $(BIN)/pytest $(TESTS) -m "stock_restic or newest_restic or rustic or wal_g" $(ARGS)

test-mysql: setup ## the tests on MySQL's own servers, which it gets without installing them (x86-64 Linux with apt and mvn)
	@tools/mysql-programs .cache/servers/mysql
	$(BIN)/pytest $(TESTS) -m mysql $(ARGS)

test-faults: setup-tools ## the tests that inject seeded faults, with CTO_FAULT_ROUNDS rounds (200), from CTO_FAULT_SEED (1)
	CTO_FAULT_ROUNDS=$(CTO_FAULT_ROUNDS) $(BIN)/pytest $(TESTS) -m faults -n $(JOBS) --dist worksteal --timeout 3600 $(ARGS)

soak: setup-tools ## workers on a PostgreSQL server, killed and frozen under load for SOAK_SECONDS (3600), from SOAK_SEED (1)
	SOAK_SECONDS=$(SOAK_SECONDS) SOAK_OUTAGE_SECONDS=$(SOAK_OUTAGE_SECONDS) $(BIN)/pytest -q -s tests/acceptance/test_soak.py -k as_long_as_is_asked $(ARGS)

test-large: setup-tools ## the tests of bounded memory with millions of files and 100 GB (half an hour, 10 GB in TMPDIR)
	CTO_LARGE=1 $(BIN)/pytest $(TESTS) -m large --timeout 7200 $(ARGS)

fuzz: setup ## let atheris look for content that the readers of stored bytes fail on, for FUZZ_SECONDS (600)
	$(BIN)/uv pip install --quiet --require-hashes -r tests/fuzz/requirements.txt
	PYTHONPATH=tests:tests/contract nice $(BIN)/python -m fuzz $(FUZZ_SECONDS) .cache/fuzz $(ARGS)

bench: setup-tools ## measure against restic, rustic, kopia and borg on the same data, side by side (two hours, 40 GB of disk)
	@tools/peers .cache/peers || true
	$(BIN)/python -m benchmarks $(ARGS)

bench-cloud: setup-tools ## vaults in buckets that are 20 ms away, against restic, kopia, rclone and raw bytes (needs Go)
	@tools/peers .cache/peers restic kopia rclone || true
	$(BIN)/python -m benchmarks.cloud $(ARGS)

bench-databases: setup-tools ## the same for a PostgreSQL server of 3 GB, against pgBackRest and pg_dump (40 minutes, 25 GB in TMPDIR)
	$(BIN)/python -m benchmarks.databases $(ARGS)

bench-mysql: setup-tools ## a MariaDB server's files, against mariadb-backup and mariadb-dump with zstd (data of 2 GB)
	$(BIN)/python -m benchmarks.mysql $(ARGS)

bench-streams: setup-tools ## a PostgreSQL server's log followed while it is written, beside pg_receivewal (10 minutes)
	$(BIN)/python -m benchmarks.streams $(ARGS)

bench-tables: setup-tools ## a backup of 10,000 small tables of BigQuery, against its jobs' own time, on a front of this machine (10 minutes)
	$(BIN)/python -m benchmarks.many_tables $(ARGS)

bench-fleet: setup-tools ## planning, queueing and writing for 100,000 sources on a PostgreSQL server that it starts (an hour)
	$(BIN)/python -m benchmarks.fleet $(ARGS)

bench-smoke: setup-tools ## the same on little data: shows that the benchmark works, its figures mean nothing
	$(BIN)/python -m benchmarks --smoke $(ARGS)

wheel: ## build dist/*.whl, which machines of this kind run without Rust: make demo WHEEL=FILE
	@tools/setup --wheel
	@ls dist/*.whl

changelog: setup ## print the unreleased changes as the next release will list them
	@$(BIN)/python tools/changelog show

lock: setup ## re-make requirements.lock from pyproject.toml (UPGRADE=1 takes newer versions)
	$(BIN)/uv pip compile --quiet pyproject.toml --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url $${UPGRADE:+--upgrade} -o requirements.lock
	@tools/setup

clean: ## remove what tests and tools leave behind (.venv and the backups in cto-backups/ stay)
	rm -rf .cache .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		build dist bench-data
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
