# `make run` and `make test` set everything up first; nothing else is needed than git and Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup data run check test test-gpu lint docs bench lock test-tools

setup: $(READY) data

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

data: $(READY)  # the embedded raw data; the user's own lies there already
	$(BIN)/python -m tasks.sources

run: setup
	$(BIN)/modelmint run

# What needs no server, no browser and no longer training; before every commit.
check: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not whole and not gpu"

# Three files of tests at a time, one thread each: much of their time they wait for a process.
test: setup test-tools
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-gpu: setup  # skips where there is no NVIDIA GPU
	$(BIN)/python -m pytest -m gpu

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/modelmint code --check

docs: $(READY)  # the page that is generated
	$(BIN)/python -m cli.parameters > docs/parameters.md

bench: setup
	@tests/install-postgres
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/registry.py

lock:  # resolve pyproject.toml anew
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet pip-tools
	$(VENV)-lock/bin/pip-compile --quiet --extra dev --strip-extras --no-emit-index-url \
	    --no-emit-find-links --no-header --no-annotate --output-file requirements.lock pyproject.toml
	# torch by release, not by build: its CUDA build pins its own libraries, its CPU build has none.
	sed -i -e 's/^\(torch==[0-9.]*\).*/\1/' -e '/^\(nvidia-\|cuda-\|triton\)/d' requirements.lock
	# Resolved for Linux; macOS has onnxruntime in place of onnxruntime-gpu.
	sed -i 's/^onnxruntime-gpu==\([0-9.]*\).*/onnxruntime==\1 ; sys_platform == "darwin"\n&/' requirements.lock
	rm -r $(VENV)-lock

test-tools:  # what the tests look with and talk to: a browser, PostgreSQL, skopeo
	@tests/install-browser
	@tests/install-postgres
	@tests/install-skopeo
