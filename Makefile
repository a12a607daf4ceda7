# `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := requirements/linux-x86_64-py311.txt
MATCHES := import platform, sys; sys.exit((sys.version_info[:2], sys.platform, platform.machine()) != ((3, 11), 'linux', 'x86_64'))

.PHONY: help install demo test test-fast coverage test-slurm test-gpu bench bench-gpu gpu-wheels docs lint lock audit \
  clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(STAMP)  ## environment in .venv with everything the tests need

$(STAMP): pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed; give it as PYTHON=...')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@if $(BIN)/python -c "$(MATCHES)"; then \
	  $(BIN)/python -m pip install --quiet --require-hashes --no-deps -r $(LOCK) 2> $(VENV)/lock.log || { \
	    cat $(VENV)/lock.log; \
	    if grep -q "DO NOT MATCH THE HASHES" $(VENV)/lock.log; then exit 1; fi; \
	    echo "$(LOCK) cannot be installed here (see above): the ranges of pyproject.toml are used"; }; fi
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

demo: install  ## simulated data, a short CLIP run, fine-tuning with and without it, plots (minutes, no network)
	$(BIN)/python -m experiments.demo

# Files in the order of tests/conftest.py: the longest first.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: install  ## everything a laptop can run
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-fast: install  ## without the slow tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow and not slurm"

# An absolute path, since some of the processes that are measured work in other folders.
coverage: export COVERAGE_FILE = $(CURDIR)/.coverage
coverage: install  ## share of the package's lines that the tests run (40% more CPU time than test)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(SIDE_BY_SIDE)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --sort=cover

test-slurm: install  ## a real SLURM of one node, installed and started here (root and apt; skipped elsewhere)
	$(BIN)/python -m pytest -m slurm -rs

test-gpu: install  ## what only a CUDA device can show
	$(BIN)/python -m pytest -m gpu -rs

bench: install  ## speed against a plain variant (minutes; `python -m experiments.bench full` for all of it)
	$(BIN)/python -m experiments.bench small

bench-gpu: install  ## the same on a CUDA device, with the whole pre-training and the whole grid
	$(BIN)/python -m experiments.bench full gpu

# A GPU machine without a network: what a PyTorch image lacks (Python 3.12 there), to be carried along in .whl/. Then there:
#   pip install --no-index --no-deps --target site .whl/*.whl && PYTHONPATH=site:. python -m experiments.bench full gpu
#   PYTHONPATH=site:. python -m pytest -m gpu -rs
CARRIED := hydra-core omegaconf datasets dill multiprocess astropy pyerfa astropy-iers-data torchdata
gpu-wheels: install  ## wheels for `bench-gpu` and `test-gpu` on a machine without a network, in .whl/
	rm -rf .whl
	$(BIN)/python -m pip wheel --quiet --no-deps -w .whl . antlr4-python3-runtime==4.9.3
	@for package in $(CARRIED); do \
	  version=$$($(BIN)/python -c "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))" $$package); \
	  $(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
	    --platform manylinux_2_28_x86_64 --platform manylinux_2_24_x86_64 --platform manylinux_2_17_x86_64 \
	    --platform manylinux2014_x86_64 -d .whl "$$package==$$version" || exit 1; \
	done

docs: install  ## the site, in docs/site (no network)
	$(BIN)/python -m mkdocs build --quiet --strict -f docs/mkdocs.yml
	@echo "docs/site/index.html"

lint: install  ## style, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: install  ## the lock file of the present environment, every file with its hash (asks the index; needs uv)
	$(BIN)/python requirements/lock.py

audit: install  ## known weaknesses of the locked packages (asks pypi.org)
	@$(BIN)/python requirements/audit.py

clean:  ## remove the environment and the demo's runs
	rm -rf $(VENV) runs/demo
