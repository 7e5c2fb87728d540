# One virtual environment, .venv. A stamp in it (.light, .demo, .dev, .dev-all, .docs) records what has been installed,
# so that nothing is installed twice: .light is curate alone, .dev is light too (no torch, NeMo or Ray), .dev-all has
# everything that any test needs.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
INSTALL := $(PIP) --quiet
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
MANIFESTS := pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)

# The two tiers are complements: together they are `make test-all`, and no test is in both.
PYTEST := $(BIN)/python -m pytest
PARALLEL := --numprocesses $(JOBS) --dist loadgroup
LONG := bench or soak
REST := ray or processes or browser or slow or extras

# Measured 92 and 98 % with the core alone.
FLOOR := 90
ENGINE_FLOOR := 96

.DEFAULT_GOAL := help
.PHONY: help demo demo-light demo-model newcomer test test-core test-rest test-all check check-all coverage docs bench bench-gpu \
	soak whole-job format clean

help:  ## list the targets
	@awk -F ':.*##  *' '/^[a-z-]+:.*##/ { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo-light: $(VENV)/.light  ## measure and filter real files, without a model: small and quick
	rm -rf runs/signal
	$(BIN)/curate run pipelines/signal/pipeline.yaml
	@echo
	@echo "The report opens in a browser:  $(CURDIR)/runs/signal/report.html"
	@echo "Next:  source $(VENV)/bin/activate && curate init FOLDER_OF_RECORDINGS,  or  make demo  (transcribes with NeMo)"

demo: $(VENV)/.demo  ## transcribe, compare and filter real files, from nothing to a curated manifest
	rm -rf runs/quickstart
	$(BIN)/curate run pipelines/quickstart/pipeline.yaml

demo-model: $(VENV)/.demo  ## train the demo's model again by its recipe; needs espeak-ng and about ten minutes
	cd pipelines/quickstart && \
	../../$(BIN)/python -m recipe.train_model && ../../$(BIN)/python -m recipe.train_hybrid && \
	../../$(BIN)/python -m recipe.check_model

newcomer:  ## type what README and tutorial say, in an empty environment
	$(PYTHON) tests/docs/newcomer.py

test: $(VENV)/.dev $(VENV)/.demo  ## the quick tier: everything but Ray, trees of processes, browsers and slow tests
	$(PYTEST) $(PARALLEL) -m "not ($(REST) or $(LONG))"

test-core: $(VENV)/.dev  ## the quick tier without NeMo and torch, in the light environment
	$(PYTEST) $(PARALLEL) -m "not ($(REST) or $(LONG) or nemo)"

test-rest: $(VENV)/.dev-all  ## what `make test` leaves out: Ray, trees of processes, browsers, slow tests
	$(PYTEST) $(PARALLEL) -m "($(REST)) and not ($(LONG))"

test-all: $(VENV)/.dev-all  ## the quick tier and the rest in one run
	$(PYTEST) $(PARALLEL) -m "not ($(LONG))"

soak: $(VENV)/.dev-all  ## what takes an hour: random kills, 10^6 records, peers, 2,000 examples of every property
	$(PYTEST) -s -m "$(LONG) or hypothesis" --hypothesis-profile nightly --timeout 7200

whole-job: $(VENV)/.dev-all  ## six recordings to published sets: kills, executors, S3; prints the parts proved
	$(PYTEST) tests/whole_job -s -m "soak or not soak" --timeout 7200

check: $(VENV)/.dev  ## style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pyright --project tests
	$(BIN)/lint-imports

check-all: check docs coverage  ## check, and the documentation and the coverage floors

coverage: $(VENV)/.dev  ## branch coverage of the package and of the engine, subprocesses included, with floors
	rm -f build/coverage/data*
	$(BIN)/coverage run -m pytest $(PARALLEL) -m "not (ray or nemo or browser or slow or $(LONG))"
	-$(BIN)/coverage combine --quiet  # warns of the half-written files of processes that tests have killed
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report --format total --fail-under $(FLOOR)
	$(BIN)/coverage report --include 'curate/engine/*' --fail-under $(ENGINE_FLOOR)

docs: $(VENV)/.docs  ## the documentation, without warnings
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/docs

bench: $(VENV)/.dev-all  ## ratios against plain loops and peers, printed; needs a quiet machine
	$(PYTEST) tests/bench -s -m "bench or not bench"

bench-gpu: $(VENV)/.dev-all  ## the same on a CUDA GPU, in ten minutes; results in build/bench-gpu or $$CURATE_BENCH_OUT
	$(BIN)/python -m tests.gpu.run_sections

format: $(VENV)/.dev  ## apply ruff's fixes and its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and everything that is built
	rm -rf $(VENV) build runs .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.dev: $(MANIFESTS) | $(BIN)/python
	$(INSTALL) --editable '.[dev]' --editable plugins/curate-pocketsphinx --editable plugins/curate-example
	touch $@

$(VENV)/.light: $(MANIFESTS) | $(BIN)/python
	@echo "Installing curate, without torch, into $(VENV): 0.3 GB, a minute"
	$(PIP) --editable .
	touch $@

# torch goes first and by its exact version: left to a resolver, it would bring its newest CUDA build
$(VENV)/.demo: $(MANIFESTS) | $(BIN)/python
	@echo "Installing torch and NeMo into $(VENV): 2.2 GB or more, some minutes (make demo-light needs neither.)"
	@echo "1 of 2: torch"
	$(PIP) torch
	@echo "2 of 2: NeMo and curate"
	$(PIP) --editable '.[nemo]'
	touch $@

$(VENV)/.dev-all: $(VENV)/.dev $(VENV)/.demo
	$(INSTALL) --editable '.[dev-all]' $(PLUGINS:%=--editable %)
	$(INSTALL) --no-deps silero-vad speechmos Resemblyzer moonshine-voice  # models and a recording; no code is imported
	$(INSTALL) --editable 'plugins/curate-whisper[test]' tiktoken
	$(INSTALL) --no-deps --no-build-isolation openai-whisper  # torch is there, and triton is not needed
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(INSTALL) --editable '.[docs]'
	touch $@
