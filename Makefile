# Each target sets up what it needs, from a fresh clone on.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test bench clean

install: $(STAMP)

# Dependencies, extras and the development tools in one step, so that pip sees every requirement at once.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[lite,elpv,onnx,lora,advise,pixels,ray]" --group dev
	touch $(STAMP)

demo: install
	$(BIN)/zoo demo

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Some hours on two cores; stopped, it goes on where it was. BENCH passes options, as in BENCH="--rows 600 --rounds 1".
bench: install
	$(BIN)/python -m pip install --quiet --editable ".[lite,elpv,bench]"
	$(BIN)/python benchmarks/fine_tuning.py $(BENCH)

clean:
	rm -rf $(VENV)
