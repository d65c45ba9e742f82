# `make run` and `make test` set everything up first; nothing else is needed than git and Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# Some containers set it. Then pytest rewrites the assertions of 180 modules in each of its processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup data run loop check test test-gpu lint docs screenshots bench bench-gpu lock check-tests test-tools

setup: $(READY) data

# torch comes without hashes, because it has two builds: requirements-torch.lock says more.
$(READY): requirements.lock requirements-torch.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --no-deps -r requirements.lock
	$(PIP) -r requirements-torch.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

data: $(READY)  # the embedded raw data; the user's own lies there already
	$(BIN)/python -m tasks.sources

run: setup
	$(BIN)/modelmint run

# What needs no server, no browser and no longer training; before every commit. Lint and tests run
# side by side: mypy uses one core.
check: setup
	@$(MAKE) --jobs 2 lint check-tests

check-tests:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not whole and not gpu"

# Three files of tests at a time, one thread each: much of their time they wait for a process.
test: setup test-tools
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

loop: setup  # ten days of a model whose world changes on day 5: docs/retraining.md
	OMP_NUM_THREADS=1 $(BIN)/python -P examples/loop.py

test-gpu: setup  # skips where there is no NVIDIA GPU
	$(BIN)/python -m pytest -m gpu

bench-gpu: setup  # the same tests, then figures for benchmarks/README.md
	@$(BIN)/python -m pytest -m gpu; tested=$$?; \
	$(BIN)/python benchmarks/gpu.py && exit $$tested

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/modelmint code --check

docs: $(READY)  # the page that is generated
	$(BIN)/python -m cli.parameters > docs/parameters.md

screenshots: setup  # docs/images anew, from a project of its own
	@tests/install-browser
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/screenshots.py

bench: setup
	@tests/install-postgres
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/registry.py

lock:  # resolve pyproject.toml anew, for Linux and macOS, with the hash of every file on PyPI
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet uv
	$(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	    --extra dev --generate-hashes --no-annotate --no-header \
	    --output-file requirements.lock pyproject.toml
	sed -i.old 's/^torch==.*/'"$$(grep -o '^torch==[0-9.]*' requirements.lock)"'/' requirements-torch.lock
	# torch, and what its CUDA build pins, go without hashes: see requirements-torch.lock.
	awk '/^[a-z]/ {drop = /^(torch|triton|nvidia-|cuda-)/} !drop' requirements.lock > $(VENV)-lock/kept
	mv $(VENV)-lock/kept requirements.lock
	rm -r $(VENV)-lock requirements-torch.lock.old

test-tools:  # what the tests look with and talk to: a browser, PostgreSQL, skopeo, Prometheus
	@tests/install-browser
	@tests/install-postgres
	@tests/install-skopeo
	@tests/install-prometheus
