PYTHON ?= python3
VENV := .venv
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist loadfile
# The tests of the code that passes arrays on run a second time, with shapes and types checked. Checking all tests
# while coverage is measured doubles their time.
ARRAYS := $(addprefix tests/,bags encoders evaluation mil mining pictures slides statistics \
	test_bootstrap.py test_geometry.py test_metrics.py)

.PHONY: demo test lint types bench openseadragon clean

demo: $(VENV)/.installed
	$(VENV)/bin/hardmil demo

test: $(VENV)/.installed-dev lint types
	.ci/openseadragon --if-possible
	$(PYTEST) -m "not slow" --jaxtyping-packages= --cov=hardmil
	$(PYTEST) -m "not slow" $(ARRAYS)
	$(PYTEST) -m slow --jaxtyping-packages=

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/oxlint --deny-warnings src/hardmil/review/static/*.js

types: $(VENV)/.installed-dev
	$(VENV)/bin/pyright

# The viewer of slides of `hardmil review`, from npm; wheels that are built afterwards contain it.
openseadragon:
	.ci/openseadragon

bench: $(VENV)/.installed
	$(VENV)/bin/python benchmarks/training.py $(if $(DATA),--data $(DATA))

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build src/*.egg-info
