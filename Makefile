PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup train test test-slow torture lint audit format

setup: $(VENV)/base.stamp  ## makes .venv with what training needs

train: setup  ## trains the quickstart network on the embedded data
	$(BIN)/python launch/train.py --config=configs/quickstart.py

test: $(VENV)/test.stamp  ## the tests that take seconds each
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" --cov

test-slow: $(VENV)/test.stamp  ## whole trainings, kills, several processes
	$(BIN)/python -m pytest -n auto --dist loadfile -m slow

torture: $(VENV)/test.stamp  ## kills, full disks, damaged files, a jumping clock, long runs: five minutes
	$(BIN)/python benchmarks/torture.py --json=benchmarks/results/torture.json

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

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/base.stamp: $(BIN)/python setup.py constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/test.stamp: $(VENV)/base.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@
