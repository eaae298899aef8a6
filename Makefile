# make .venv: the environment alone.  make demo: draw images.  make test: checks and tests.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo pictures test lint
.DELETE_ON_ERROR:

.venv: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/nextscale sample fashion-mnist --count 100 --grow --out demo
	@echo "images are in demo/: grid.png, growing.gif and one PNG each"

# The README's pictures, from the bundled model; those of the page need Debian's chromium.
pictures: .venv/installed
	$(BIN)/nextscale sample fashion-mnist --count 100 --out build/samples
	$(BIN)/nextscale sample fashion-mnist --count 20 --grid-columns 10 --grow --out build/growing
	cp build/samples/grid.png docs/results/samples.png
	cp build/growing/growing.gif docs/results/growing.gif
	$(BIN)/pytest -q tests/app/test_browser.py
	cp build/screenshots/draw.png docs/results/page_draw.png
	cp build/screenshots/edit.png docs/results/page_edit.png

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

test: lint
	$(BIN)/pytest
