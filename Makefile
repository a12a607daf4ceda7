# `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test test-fast test-slurm test-gpu bench bench-gpu lint clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(STAMP)  ## environment in .venv with everything the tests need

$(STAMP): pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed; give it as PYTHON=...')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

demo: install  ## simulated data, a short CLIP run, fine-tuning with and without it, plots (minutes, no network)
	$(BIN)/python -m experiments.demo

test: install  ## everything a laptop can run
	$(BIN)/python -m pytest

test-fast: install  ## without the slow tests
	$(BIN)/python -m pytest -m "not slow and not slurm"

test-slurm: install  ## a real SLURM of one node, installed and started here (root and apt; skipped elsewhere)
	$(BIN)/python -m pytest -m slurm -rs

test-gpu: install  ## what only a CUDA device can show
	$(BIN)/python -m pytest -m gpu -rs

bench: install  ## speed against a plain variant (minutes; `python -m experiments.bench full` for all of it)
	$(BIN)/python -m experiments.bench small

bench-gpu: install  ## the same on a CUDA device, with the whole pre-training and the whole grid
	$(BIN)/python -m experiments.bench full gpu

lint: install  ## style, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove the environment and the demo's runs
	rm -rf $(VENV) runs/demo
