# make .venv: the environment alone.  make demo: sample images.
# make check: lint, types, layers and fast tests, a minute.  make test: all tests.
# make test-gpu: what only a GPU shows, and its speed.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo pictures check test test-gpu lint
.DELETE_ON_ERROR:

# What a change breaks first: networks, sampling, edits, parity with the published code.
FAST := tests/models tests/tokenizer tests/generation tests/config tests/pictures tests/parity/test_parity.py tests/test_scales.py tests/test_architecture.py

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

check: lint
	$(BIN)/pytest -q -m "not slow" $(FAST)

test: lint
	$(BIN)/pytest

test-gpu: .venv/installed
	@$(BIN)/python -c "import sys, torch; sys.exit(not torch.cuda.is_available())" \
		|| { echo "test-gpu: skipped, torch finds no CUDA device"; exit 0; } \
		&& $(MAKE) gpu

gpu:
	$(BIN)/pytest --numprocesses 0 -m gpu tests/gpu
	for model in var-d16 var-d30; do \
		$(BIN)/nextscale speed sample --model $$model --random-weights --batch 1 8 --json build/gpu/sample-$$model.json && \
		$(BIN)/nextscale speed train --model $$model --stages transformer --batch 8 --json build/gpu/train-$$model.json || exit 1; \
	done
