# make setup   the environment in .venv
# make test    style and tests
# make study   the demo study; prints where its report is
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv/bin
TRACKERS ?= ostrack,stark,dimp
RATIOS ?= 1,0.5,0.25,0.1,0.01

.PHONY: setup test study

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(VENV)/python -m pip install --quiet --upgrade pip
	$(VENV)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,tensorboard]'
	touch $@

test: setup
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/python -m pytest -n 2 --dist worksteal

study: setup
	$(VENV)/python train.py -m experiment=demo ratio=$(RATIOS) tracker=$(TRACKERS)
