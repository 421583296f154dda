# Two entries for newcomers, each does all its set-up in .venv:
#   make imdb    trains the sentiment program; DATA=/path/to/reviews uses a local copy
#   make test    runs the whole test suite
# and `make lint` for developers.
#
# PyPI's torch for Linux comes with several GB of CUDA, so PyTorch's own index is asked for the CPU
# build first; where it cannot be reached, the package index that pip knows serves. TORCH and
# TORCH_ARGS choose another build.

PYTHON ?= $(shell for p in python3.11 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
TORCH ?= torch==2.13.0
TORCH_ARGS ?= --extra-index-url https://download.pytorch.org/whl/cpu --retries 1

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet
# Prints a list that stands in pyproject.toml, so that each version is named there alone.
requirements = $(BIN)/python -c 'import tomllib; \
  print(*tomllib.load(open("pyproject.toml", "rb"))$(1), sep="\n")'
SOURCES := pyproject.toml setup.py build_cuda.py $(shell find csrc -type f)

.PHONY: imdb test lint
.DELETE_ON_ERROR:

imdb: .venv/installed
	$(BIN)/fastrnn-imdb train --preset gru --init keras $(if $(DATA),--data "$(DATA)")

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/lint-installed .venv/installed
	$(BIN)/pre-commit run --all-files --show-diff-on-failure

$(BIN)/python:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fastrnn needs Python 3.11 or newer, found '$(PYTHON)': set PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "$(PYTHON) lacks the venv module: install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: $(SOURCES) | $(BIN)/python
	$(PIP) $(TORCH_ARGS) '$(TORCH)'
	$(call requirements,["build-system"]["requires"]) | $(PIP) -r /dev/stdin
	FASTRNN_BUILD_EXT=require $(PIP) --no-build-isolation -e '.[test,imdb,serve,tensorboard]'
	touch $@

.venv/lint-installed: pyproject.toml | $(BIN)/python
	$(call requirements,["project"]["optional-dependencies"]["lint"]) | $(PIP) -r /dev/stdin
	touch $@
