# make .venv: the environment alone.  make demo: draw images.  make test: checks and tests.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test lint
.DELETE_ON_ERROR:

.venv: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/nextscale sample fashion-mnist --count 100 --grow --out demo
	@echo "images are in demo/: grid.png, growing.gif and one PNG each"

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

test: lint
	$(BIN)/pytest
