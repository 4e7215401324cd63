# Each target makes the virtual environment it needs; nothing but Python 3.11+ and the package index is asked for.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ONLY ?=
LAB ?= demo
PORT ?= 8501
API_PORT ?= 8000

.PHONY: demo serve dashboard test lint format audit bench soak screenshots clean

demo: .venv/installed
	$(BIN)/armlift demo --lab $(LAB)

# The API of a lab, its ingester, scheduler and pages, until stopped. `demo` is made so that it can answer; labs of your
# own are left as they are.
serve: .venv/installed
	$(if $(filter demo,$(LAB)),$(BIN)/armlift demo --live --lab $(LAB))
	$(BIN)/armlift serve --all --lab $(LAB) --port $(API_PORT) --dashboard-port $(PORT)

# The pages of a lab, until stopped.
dashboard: .venv/installed
	$(BIN)/armlift dashboard --lab $(LAB) --port $(PORT)

test: .venv/installed-dev
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Known vulnerabilities of what is installed; where the index knows of none, or is away, a line says so.
audit: .venv/installed-dev
	$(BIN)/python .ci/audit

bench: .venv/installed-bench
	$(BIN)/python benchmarks/run.py $(ONLY)

# Long runs under faults: an ingester killed again and again, with Kafka and PostgreSQL.
soak: .venv/installed-bench
	$(BIN)/python benchmarks/soak_ingest.py

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("armlift needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

# Without a GPU the CPU build of PyTorch will do, and is gigabytes smaller: one that pip finds, else PyTorch's own.
# Where neither is to be had (macOS: the plain build is this one), PyTorch comes with the other dependencies.
# Python compiles what it imports of it; pip would take ten seconds to compile it all.
.venv/torch: | .venv/bin/python
	command -v nvidia-smi >/dev/null || $(PIP) --no-compile 'torch==2.13.0+cpu' 2>/dev/null || $(PIP) --no-compile \
		'torch>=2.6' --retries 1 --index-url https://download.pytorch.org/whl/cpu 2>/dev/null || true
	touch $@

.venv/installed: pyproject.toml | .venv/torch
	$(PIP) -e .
	touch $@

.venv/installed-dev: pyproject.toml | .venv/torch
	$(PIP) -e '.[dev]'
	touch $@ .venv/installed

.venv/installed-bench: pyproject.toml | .venv/torch
	$(PIP) -e '.[dev,bench]'
	touch $@ .venv/installed-dev .venv/installed

# Pictures of the pages of a lab, for docs/.
screenshots: .venv/installed-dev
	$(BIN)/python benchmarks/screenshots.py $(LAB) docs/pages

clean:
	rm -rf .venv demo
