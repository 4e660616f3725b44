# Everything that is done to this project has a name here; what each needs is made by `make setup`.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BIN := .venv/bin
MACHINE := tests/support/machine
PAYLOADS := $(patsubst tests/payload/%.c,build/payload/%,$(wildcard tests/payload/*.c))
BENCHES := $(patsubst %.c,build/bench/%,$(notdir $(wildcard tests/bench/*.c tests/bench/rivals/*.c)))
HOOK := build/hook/.built
ENGINES := tests/e2e/test_governed.py tests/e2e/test_harness.py tests/e2e/test_rootless.py tests/e2e/test_native.py

.PHONY: help setup built demo lint test test-unit test-kernel test-e2e test-e2e-engines test-e2e-rest test-apps test-matrix bench clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

setup: ## make this machine ready (Debian; as root if packages are missing): packages, .venv, built files
	@packaging/setup.sh
	@$(MAKE) --no-print-directory built

built: build/setup.stamp $(PAYLOADS) $(HOOK)
	@:

build/setup.stamp: pyproject.toml packaging/setup.sh
	@packaging/setup.sh
	@mkdir -p $(@D) && touch $@

build/payload/%: tests/payload/%.c | build/setup.stamp
	@mkdir -p $(@D)
	gcc -std=gnu17 -O2 -Wall -Wextra -Werror -static -o $@ $<

vpath %.c tests/bench tests/bench/rivals
build/bench/%: %.c | build/setup.stamp
	@mkdir -p $(@D)
	gcc -std=gnu17 -O2 -Wall -Wextra -Werror -static -o $@ $<

# The rooms of hooks/ as the one unit that engines run.
$(HOOK): $(shell find hooks -name '*.py') | build/setup.stamp
	$(BIN)/python -m ipcwarden.unit build/hook
	@touch $@

demo: built ## show what ipcwarden does, with real containers (root)
	@$(MACHINE) $(BIN)/python tests/demo.py

lint: built ## ruff, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=tests $(BIN)/mypy --package support --package matrix --package apps --package bench

test: lint ## all of them, in less than ten minutes (root)
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-kernel test-unit test-e2e-engines test-e2e-rest

test-unit: built ## pure code, without root; every branch of hooks/ipcwarden/core must run
	$(BIN)/coverage run -m pytest tests/unit
	$(BIN)/coverage report

test-kernel: built ## real namespaces and objects (root)
	$(MACHINE) $(BIN)/pytest tests/kernel

test-e2e: test-e2e-engines test-e2e-rest ## real runtimes and engines (root)

# In halves, each with a machine and engines of its own.
test-e2e-engines: built
	$(MACHINE) $(BIN)/pytest $(ENGINES)

test-e2e-rest: built
	$(MACHINE) $(BIN)/pytest tests/e2e $(ENGINES:%=--ignore=%)

test-matrix: built ## all tests on older and newer engines, in Debian roots; writes docs/compatibility.md (root, 30 min; REFRESH=1 makes the roots anew)
	tests/matrix/run bookworm trixie sid

test-apps: built build/apps/root/.made ## real applications, from packages that it downloads: stress-ng, PostgreSQL (root; Debian)
	$(MACHINE) $(BIN)/pytest tests/apps

build/apps/root/.made: tests/apps/root
	tests/apps/root $(@D) stress-ng postgresql
	@touch $@

bench: built $(BENCHES) ## what ipcwarden costs beside others that do its job (root; PART=hook,audit ROUNDS=41 to choose)
	@PYTHONPATH=tests PART='$(PART)' ROUNDS='$(ROUNDS)' $(MACHINE) $(BIN)/python -m bench

clean: ## remove what was built
	rm -rf build dist .venv .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
