# Every habit is one command. Each target makes .venv when it has to; the second run is quick.
#
#   make demo      a real channel, plan, apply, a training script, one change, apply again
#   make test      the whole test suite
#   make check     formatting, lint, types, import contracts, then the tests
#   make bench     envgraph beside its rivals; BENCH="--quick" for small sizes
#   make fuzz      every parser under atheris, FUZZ_SECONDS=60 each; FUZZ="tar conda" for some
#   make golden    rewrite the golden files (never in CI), then look at the diff
#   make clean     remove what these targets made
#
# PYTHON=/path/to/python3 chooses the interpreter; any from 3.11 on will do.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.14 python
PROBE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
TESTS ?=
BENCH ?=
FUZZ ?=
FUZZ_SECONDS ?= 60

# pip, pytest and the tools must not depend on a home folder that may be read-only or missing.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: help venv demo test lint check bench fuzz golden requirements clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

venv: $(STAMP)

$(STAMP): pyproject.toml tests/requirements.txt
	@set -e; \
	if [ ! -x $(BIN)/python ]; then \
	  found="$(PYTHON)"; \
	  if [ -z "$$found" ]; then \
	    for name in $(CANDIDATES); do \
	      if "$$name" -c '$(PROBE)' >/dev/null 2>&1; then found="$$name"; break; fi; \
	    done; \
	  fi; \
	  if [ -z "$$found" ] || ! "$$found" -c '$(PROBE)' >/dev/null 2>&1; then \
	    echo "envgraph needs Python 3.11 or newer with venv and pip, and none was found." >&2; \
	    echo "Debian and Ubuntu: apt install python3 python3-venv. Or: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$("$$found" --version)" >&2; \
	  "$$found" -m venv $(VENV); \
	fi
	@echo "Installing what the tests need into $(VENV) (about half a minute, once)" >&2
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r tests/requirements.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check --quiet
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m envgraph.testing.demo $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest -n auto $(TESTS)

# Every check runs, whatever the ones before it said; pytest comes last.
lint check: $(STAMP)
	@status=0; \
	run() { echo "$$*"; "$$@" || status=1; }; \
	run $(BIN)/ruff format --check .; \
	run $(BIN)/ruff check .; \
	run $(BIN)/mypy; \
	run $(BIN)/lint-imports --no-logo; \
	if [ $@ = check ]; then run $(BIN)/python -m pytest -n auto $(TESTS); fi; \
	exit $$status

bench: $(STAMP)
	@$(BIN)/python -m tests.bench $(BENCH)

# Atheris is not among the pinned tools: it has no wheel for every Python.
fuzz: $(STAMP)
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install --quiet "atheris>=3,<4"
	@for name in $(or $(FUZZ),$$($(BIN)/python -c "from tests.fuzz.targets import TARGETS; print(*TARGETS)")); do \
	  echo "$$name"; \
	  $(BIN)/python -m tests.fuzz.fuzz $$name -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -verbosity=0 \
	    || exit 1; \
	done

golden: $(STAMP)
	$(BIN)/python -m pytest tests/golden tests/cli --rewrite-golden

# Pins for Python 3.11 and newer, every platform, with hashes and without the name of an index.
requirements: $(STAMP)
	@{ echo "# Every package that tests and checks use, by hash. Written by 'make requirements'."; \
	   $(BIN)/uv pip compile pyproject.toml --extra test --extra check --universal \
	     --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	     --no-header --no-annotate --quiet; } > tests/requirements.new
	@mv tests/requirements.new tests/requirements.txt

clean:
	rm -rf $(VENV) .demo .bench build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf .import_linter_cache tests/requirements.new
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
