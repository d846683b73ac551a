# One-line tools; each sets up .venv by itself and needs only Python 3.11+ and make.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
ARGS ?=

# Many tests wait for processes, so two at a time for each core keep the cores busy.
export PYTEST_XDIST_AUTO_NUM_WORKERS ?= $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')
# Hundreds of processes are started: each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint types format data bench test-peers interop torture clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.run  ## watch a file arrive from five seeders, none of which has all of it
	@bash scripts/demo.sh

test: .venv/.dev  ## run the tests (make test ARGS="-k picker" for some)
	$(BIN)/python -m pytest -n auto -m "not torture and not slow" $(ARGS)

test-slow: .venv/.dev  ## those that make test leaves out: many processes, other clients, minutes
	$(BIN)/python -m pytest -n auto -m "slow and not torture" $(ARGS)

lint: .venv/.dev  ## style, formatting, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/.dev  ## mypy --strict on p2pfs/
	$(BIN)/mypy --strict p2pfs

format: .venv/.dev  ## format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

data: .venv/.run  ## make the sample files; with PEERS=16 FILES=10 SIZE=1M the folders p1..p16
	@$(BIN)/python scripts/make_data.py $(if $(PEERS)$(FILES)$(SIZE),\
		$(if $(PEERS),--peers '$(PEERS)') $(if $(FILES),--files '$(FILES)') $(if $(SIZE),--size '$(SIZE)'),\
		seeds)

bench: .venv/.dev  ## speed beside libtorrent, opentracker and others, as one table
	$(BIN)/python scripts/bench $(ARGS)

test-peers: .venv/.run  ## how downloads get faster with more nodes: a table and a plot
	@bash scripts/test-peers.sh $(ARGS)

interop: .venv/.dev  ## the matrix with other clients, into docs/interop.md (root: all of them)
	$(BIN)/python scripts/interop.py $(ARGS)

torture: .venv/.dev  ## the tests that take long
	$(BIN)/python -m pytest -n auto -m torture $(ARGS)

clean:  ## remove what was made here, except seeds, torrents and downloads
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "p2pfs needs Python 3.11 or newer; none was found" >&2; exit 1; }
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; \
		echo "could not make .venv: install Python's venv module (Debian: apt install python3-venv)" >&2; \
		exit 1; }

.venv/.run: pyproject.toml | .venv/bin/python
	@echo "Setting up .venv; the first time this takes about half a minute."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "Setting up .venv with what the tests need; the first time this takes about a minute."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch .venv/.run $@
