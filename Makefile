# `make demo` and `make test` do all the set-up that they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# One more than there are cores: many tests wait for processes that they started. One thread each,
# or those of torch and BLAS wait for one another.
PYTEST_WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')

.PHONY: demo test lint clean

.make/installed: pyproject.toml constraints.txt hatch_build.py $(wildcard omniloop/*/*.proto omniloop/*/*/*.proto)
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e '.[video]'
	mkdir -p .make && touch $@

.make/test-extras: .make/installed
	$(PIP) install -c constraints.txt -e '.[test]'
	touch $@

demo: .make/installed
	rm -rf runs/demo
	$(BIN)/omniloop run run.name=demo run.video=true

test: lint
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS)

lint: .make/test-extras
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .make runs
