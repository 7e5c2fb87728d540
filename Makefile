# One virtual environment, .venv; what is installed in it is remembered by stamps, so nothing is installed twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
MANIFESTS := pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)

.PHONY: demo demo-model newcomer test check docs bench bench-gpu soak format clean

demo: $(VENV)/.demo  ## transcribe, compare and filter real files, from nothing to a curated manifest
	rm -rf runs/quickstart
	$(BIN)/curate run pipelines/quickstart/pipeline.yaml

demo-model: $(VENV)/.demo  ## make the demo's model again with its recipe; needs espeak-ng, some ten minutes
	cd pipelines/quickstart && \
	../../$(BIN)/python -m recipe.train_model && ../../$(BIN)/python -m recipe.train_hybrid && \
	../../$(BIN)/python -m recipe.check_model

newcomer:  ## what README and tutorial tell to type, typed, in an empty environment
	$(PYTHON) tests/docs/newcomer.py

test: $(VENV)/.dev  ## the tests
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(VENV)/.docs  ## the documentation, without warnings
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/docs

bench: $(VENV)/.dev  ## ratios against plain loops and peers, printed
	$(BIN)/python -m pytest tests/bench -s -m "bench or not bench"

bench-gpu: $(VENV)/.dev  ## the same on a CUDA GPU, in ten minutes; results in build/bench-gpu or $$CURATE_BENCH_OUT
	$(BIN)/python -m tests.gpu.run_sections

soak: $(VENV)/.dev  ## what takes many minutes: hundreds of kills at random moments
	$(BIN)/python -m pytest tests/faults tests/contract -s -m soak

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build runs .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch goes first and by its exact version: left to a resolver, it would bring its newest CUDA build
$(VENV)/.demo: $(MANIFESTS) | $(BIN)/python
	$(INSTALL) torch
	$(INSTALL) --editable '.[nemo]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(INSTALL) --editable '.[dev]' --editable plugins/curate-pocketsphinx --editable plugins/curate-example
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(INSTALL) --editable '.[docs]'
	touch $@
