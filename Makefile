# make repro · make test · make docs · make ui: each sets up .venv from requirements.lock by itself, once.
PYTHON ?= python3
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
export DVC_NO_ANALYTICS = 1
# A container may have neither a home folder nor a name for its user; DVC needs both.
export HOME ?= $(CURDIR)/.venv
export USER ?= someone
# The set-up compiles nothing: of 22,000 modules the stages import 5,000, and Python keeps those as it meets them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: repro test test-all docs ui setup check clean

repro: setup ## rebuild everything that params.yaml asks for, and print the table
	@$(BIN)/dvc repro
	@echo && awk '/^$$/ && ++blank == 2 { exit } { print }' results/table.md
	@echo && echo "Open results/report.html, look at results/strips/, or run: make ui"

test: setup ## the quick tests
	@$(PYTEST) -m "not slow"

test-all: setup ## every test: kills, JAX, browsers, real dvc repro
	@$(PYTEST)

docs: setup ## build the documentation into _site, with its links checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "Open _site/index.html, or with search: .venv/bin/mkdocs serve"

ui: setup ## the MLflow UI on 127.0.0.1:5000
	@$(BIN)/srlib ui

check: setup ## lint, format and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

setup: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "requirements.lock is for Python 3.11, 3.12 and 3.13: make PYTHON=python3.13")'
	@echo "Setting up .venv from requirements.lock (about 4 GB, some minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean: ## remove what can be rebuilt, not the downloads
	rm -rf .venv .resume _site data/params.checked data/patches models results
