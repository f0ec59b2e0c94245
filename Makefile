# Everything runs in .venv, which `setup` makes and keeps in step with the lock.

.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
COMPILE := $(BIN)/uv pip compile -q --universal --generate-hashes --python-version 3.11 \
           --no-header --no-annotate

# A worker takes a whole file; tests/conftest.py has the long ones first.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

FUZZ_SECONDS ?= 60

.PHONY: .env help setup demo test test-fast fuzz memory check format lock

help:  ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' \
	  | awk -F '|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

setup: .venv/.ready .env  ## Make .venv and .env ready (quick when nothing changed)

# Files that a container writes shall belong to whoever calls it. Lines that are there stay.
.env:
	@test ! -s $@ || test -z "$$(tail -c 1 $@)" || echo >> $@
	@grep -qs '^HOST_UID=' $@ || printf 'HOST_UID=%s\nHOST_GID=%s\n' "$$(id -u)" "$$(id -g)" >> $@

.venv/.ready: requirements-dev.lock docker/uv.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r docker/uv.lock
	@$(BIN)/uv pip sync -q --compile-bytecode --python $(BIN)/python --require-hashes requirements-dev.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## The main job: probe the real chain, then probe and train a small one on digits
	$(BIN)/bench probe --vram 6
	$(BIN)/bench probe --vram 6 --recipe demo
	$(BIN)/distill run --profile profiles/demo-6gb.json

test: setup  ## Run the tests
	$(PYTEST)

test-fast: setup  ## Run the tests but the slow ones (over a second), while you work
	$(PYTEST) -m "not slow"

fuzz: setup  ## Read strange files for a minute (FUZZ_SECONDS), each time others
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest --show-capture=no tests/test_strange_files.py

memory: setup  ## Memory regression: predict the baseline's cells again and compare
	$(BIN)/bench compare

check: setup  ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## Bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup  ## Resolve the dependencies anew
	$(COMPILE) -c constraints.txt pyproject.toml -o requirements.lock
	$(COMPILE) -c constraints.txt pyproject.toml --extra dev -o requirements-dev.lock
	for lock in docker/uv.lock docker/tools.lock; do \
	  grep -oE '^[a-z-]+==[^ ]+' $$lock | $(COMPILE) -o $$lock - || exit; \
	done
