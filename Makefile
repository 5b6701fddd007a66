VENV ?= .venv
TESTS ?= tests
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# The Pythons to choose from: PYTHON=/path/to/one, the version PYTHON=python3.12 names, or else the newest there is. 3.14 comes last:
# it trains, but TensorFlow, with which TFDS reads its data sets, has no wheels for it. Each version is looked for on the PATH, among
# those of pyenv (whose shims on the PATH fail unless they are selected), and with uv.
VERSIONS := $(or $(filter python3.%,$(PYTHON)),python3.13 python3.12 python3.11 python3.14)
places = $(1) $$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$(1:python%=%).*/bin/python 2> /dev/null | sort -rV) \
  $$(uv python find --system $(1:python%=%) 2> /dev/null)
CANDIDATES = $(or $(filter-out python3.%,$(PYTHON)),$(foreach version,$(VERSIONS),$(call places,$(version))) $(if $(PYTHON),,python3))
USABLE := import ensurepip, sys, sysconfig, venv; sys.exit(sys.version_info < (3, 11) or bool(sysconfig.get_config_var("Py_GIL_DISABLED")))
NAME := import platform, sys; print("Python", platform.python_version(), "of", sys.executable)
# PYTHON= makes an environment of another Python anew; without it, whichever is there stays.
MADE := $(if $(PYTHON),$(VENV)/made-with-$(notdir $(PYTHON)),$(BIN)/python)

.PHONY: setup train test test-slow torture lint audit format

setup: $(VENV)/base.stamp  ## makes .venv with what training needs

train: setup  ## trains the quickstart network on the embedded data
	$(BIN)/python launch/train.py --config=configs/quickstart.py

# XLA compiles the small programs of these tests without the optimizations of LLVM, in half of the time; those of the slow ones as ever.
test: $(VENV)/test.stamp  ## the tests that take seconds each, or TESTS=tests/models; COVERAGE=--cov measures what they cover
	XLA_FLAGS="--xla_backend_optimization_level=0 $(XLA_FLAGS)" $(BIN)/python -m pytest $(TESTS) -n auto --dist loadfile --no-loadscope-reorder -m "not slow" $(COVERAGE)

test-slow: $(VENV)/test.stamp  ## whole trainings, kills, several processes
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m slow

torture: $(VENV)/test.stamp  ## kills, full disks, damaged files, a jumping clock, long runs: ten minutes
	$(BIN)/python -m pytest tests/faults --thorough

lint: $(VENV)/test.stamp  ## style, types, and calls that are often unsafe
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml cifar_flax launch

audit: $(VENV)/test.stamp  ## asks the advisory database of PyPI whether a pinned version has a known vulnerability: needs the network
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

format: $(VENV)/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(MADE):
	@for python in $(CANDIDATES); do \
	  "$$python" -c '$(USABLE)' 2> /dev/null || continue; \
	  echo "$(VENV): $$("$$python" -c '$(NAME)')"; \
	  "$$python" -m venv --clear $(VENV) $(if $(PYTHON),&& touch $@); \
	  exit; \
	done; \
	echo "no usable $(or $(PYTHON),Python): expected 3.11 or later with venv and ensurepip, on PATH, in pyenv or in uv;" \
	  "install one (apt install python3-venv, pyenv install 3.13, uv python install 3.13) or type make PYTHON=/path/to/python" >&2; \
	exit 1

$(VENV)/base.stamp: $(MADE) setup.py constraints.txt
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(BIN)/python -m ensurepip > /dev/null  # uv venv leaves pip out
	$(PIP) --editable .
	touch $@

$(VENV)/test.stamp: $(VENV)/base.stamp
	$(PIP) --editable '.[test]'
	touch $@
