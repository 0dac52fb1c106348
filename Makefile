# make setup      the environment in .venv
# make test       style, arrows between rooms, types, and all tests
# make test-fast  the same without the tests that are marked slow
# make attack     hostile files, injected faults, long runs: tests that are marked attack
# make cover     lines that no test runs, except the attacks
# make audit     known vulnerabilities of the versions in constraints.txt; needs pypi.org
# make docs       the site, in site/; a broken link is an error
# make study      the demo study; prints where its report is
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv/bin
TRACKERS ?= ostrack,stark,dimp
RATIOS ?= 1,0.5,0.25,0.1,0.01
WORKERS ?= -n 2 --dist worksteal

.PHONY: setup style test test-fast attack cover audit docs study

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(VENV)/python -m pip install --quiet --upgrade pip
	$(VENV)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs,tensorboard]'
	touch $@

style: setup
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/lint-imports
	$(VENV)/pyrefly check --min-severity error --python-interpreter-path $(VENV)/python

# Two workers with several threads each would wait for each other.
test test-fast attack cover: export OMP_NUM_THREADS = 1

test: style
	$(VENV)/python -m pytest $(WORKERS) -m "not attack"

test-fast: style
	$(VENV)/python -m pytest $(WORKERS) -m "not slow and not attack"

attack: setup
	$(VENV)/python -m pytest $(WORKERS) -m attack

cover: setup
	$(VENV)/python -m pytest $(WORKERS) -m "not attack" --cov --cov-report=term-missing:skip-covered

# The auditor has an environment of its own. Without --strict it ends with success if it could look nothing up.
audit:
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet 'pip-audit>=2.9,<3'
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement constraints.txt

docs: setup
	NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build --strict --quiet
	@echo open site/index.html

study: setup
	$(VENV)/python train.py -m experiment=demo ratio=$(RATIOS) tracker=$(TRACKERS)
