# What contributors and CI run. The environment is `.venv`, made by `make install`; PYTHON= names another.

PYTHON ?= .venv/bin/python

.PHONY: help install test soak lint docs bench

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

install:  ## make .venv with everything that the targets need
	python3 -m venv .venv
	.venv/bin/pip install -q -e ".[dev,docs]"

test:  ## run all tests, offline; TESTS= names some of them
	$(PYTHON) -m pytest -q -n 2 $(TESTS)

soak:  ## run the tests that take minutes: processes killed at random
	$(PYTHON) -m pytest -q -m soak

lint:  ## check format, lint rules and types
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pyright --pythonpath $(PYTHON)
	$(PYTHON) docs/check_types.py

docs:  ## check that the generated parts are current, and build the site into build/site
	$(PYTHON) docs/make.py --check
	$(PYTHON) docs/make.py site

bench:  ## measure against peers and floors, and provoke the faults that peers fail: minutes
	$(PYTHON) tests/benchmarks/run.py
	$(PYTHON) -m pytest -q tests/benchmarks/peers
	$(PYTHON) tests/benchmarks/peers/run.py
