# make app | test | setup | checkpoints | lint | types | bench
# Settings: PORT=8502 make app; PYTHON=python3.12 make setup;
# TORCH_ARGS="--index-url ..." make setup takes torch from a place of your choice.
PYTHON ?= python3
PORT ?= 8501
# Processes that share the tests; a file of tests stays in one, so that its runs and servers serve all.
WORKERS ?= 2
# Empty is localhost; the container listens on every address of its own.
HOST ?=
TORCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PACKAGES := mpdit_core analysis app
# A stamp is written last, so an interrupted installation is taken up again by the next call.
READY := $(VENV)/.ready
TEST_READY := $(VENV)/.ready-test
TORCH := $(shell grep '^torch==' requirements.txt)

.DEFAULT_GOAL := help
.PHONY: help app test setup setup-test lint types bench checkpoints health

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## make .venv with what the dashboard needs (2 GB, some minutes; once)

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try PYTHON=python3.12 make setup"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install $(TORCH_ARGS) $(TORCH)
	$(PIP) install -r requirements.txt
	test ! -f pyproject.toml || $(PIP) install --no-deps --editable .
	touch $@

setup-test: $(TEST_READY)

$(TEST_READY): requirements-test.txt $(READY)
	$(PIP) install -r requirements-test.txt
	touch $@

app: $(READY)  ## open the dashboard on checkpoints/ (PORT=8501, localhost only)
	$(BIN)/python -m app dashboard checkpoints --port $(PORT) $(if $(HOST),--host $(HOST))

health:  ## is the dashboard on PORT answering? (what the container's health check asks)
	@$(BIN)/python -c 'from urllib.request import urlopen; urlopen("http://localhost:$(PORT)/_stcore/health", timeout=5)'

test: lint types  ## lint, check types, run every test, the real-browser tests too
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(TEST_READY)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TEST_READY)  ## basedpyright on the three packages
	$(BIN)/basedpyright $(PACKAGES)

bench: $(TEST_READY)  ## print every benchmark of benchmarks/
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; PYTHONPATH=. $(BIN)/python $$file || exit 1; done

checkpoints: $(READY)  ## train the shipped runs again and compute their tables (hours)
	$(BIN)/python -m mpdit_core.shipped
	$(BIN)/python -m analysis.classifiers
	$(BIN)/python -m analysis.precompute checkpoints/digits --out checkpoints/results
